"""The nouns that travel between rooms: frozen, plain, checked at construction.

Token ids are the truth and text is derived from them: a sampled prefix is never tokenised again.
`T` is the number of response tokens, the end-of-sequence token included when the model wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True)
class Problem:
    """A question with a verifiable answer; `id` is unique in its dataset, whatever the split."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class Verdict:
    """What a grader says of one response; `reason` is a short fixed phrase such as `equal` or `no answer`."""

    correct: bool
    extracted: str | None
    reason: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: softmax(logits / temperature), cut to the smallest nucleus of mass `top_p`.

    `temperature` 0 means greedy.
    """

    temperature: Annotated[float, Ge(0)] = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Probability mass of the nucleus; 1 keeps every token."""


@dataclass(frozen=True)
class Request:
    """Ask for `len(keys)` samples that continue `prompt_ids`.

    Sample i draws token t with the number `seeds.uniform(keys[i], t)`, so it depends neither on batch nor order.
    """

    prompt_ids: tuple[int, ...]
    keys: tuple[int, ...]
    max_response_tokens: int


@dataclass(frozen=True)
class Sample:
    """One continuation: `finished` is True when it ended by itself, False at the limit.

    The end-of-sequence token is the last response id; a stop text is no part of the response, which can be empty.
    `stop_ids` are the tokens that a stop text took after the response: a smaller limit would have ended it among them.

    `sampler_logprobs` (T) are the sampler's own, at the sampling temperature: a diagnostic, never used in a loss.
    """

    response_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    finished: bool
    stop_ids: tuple[int, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        _same_length(self, "response_ids", "sampler_logprobs")


@dataclass(frozen=True)
class Trajectory:
    """A sampled response with `logprobs` (T): of each sampled token under the training backend, over the full
    vocabulary, at the sampling temperature, float32. Cutpoints and the probability mask are thresholds on them."""

    problem_id: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool

    def __post_init__(self) -> None:
        _same_length(self, "response_ids", "logprobs")


@dataclass(frozen=True)
class Episode:
    """What the trainer learns from: a prompt and T response tokens with an advantage each.

    For a segment of a tree `prompt_ids` is the whole prefix of that segment. `old_logprobs` are `Trajectory.logprobs`.
    """

    problem_id: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    old_logprobs: tuple[float, ...]
    advantages: tuple[float, ...]

    def __post_init__(self) -> None:
        _same_length(self, "response_ids", "old_logprobs", "advantages")


#: (answer, response text) -> Verdict; every grader of `spo.grading.GRADERS` has this shape.
Grade = Callable[[str, str], Verdict]


def _same_length(item: object, *names: str) -> None:
    lengths = {name: len(getattr(item, name)) for name in names}
    if len(set(lengths.values())) > 1:
        owner = getattr(item, "problem_id", "")
        raise ValueError(f"{type(item).__name__} {owner}: lengths differ: {lengths}")
