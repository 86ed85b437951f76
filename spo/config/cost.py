"""What a study will cost, before anything starts: tokens counted from the config, times stated rates; all estimates.

Tokens are those of a run in which every response has the mean length that `rates` states. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Literal, NamedTuple

from spo.settings import (
    Above,
    Accepted,
    AtLeast0,
    Critic,
    Memory,
    Model,
    Pairs,
    Positive,
    Protocol,
    Share,
    Train,
    settings,
)
from spo.settings import Chain as ChainCredit
from spo.settings import Tree as TreeCredit

#: Bytes a parameter of a saved model, and of the two checkpoints that a run keeps: weights and two moments in float32.
MODEL_BYTES, STATE_BYTES = 4, 2 * 12
#: Bytes a token of predictions with their verdicts, as JSON.
TOKEN_BYTES = 20
#: Share of a tree's nodes whose value differs from their parent's, about; only those are scored.
SCORED_NODES = 0.5
#: Entries of a vocabulary of whole words, about.
WORDS = 100


@settings
class Lengths:
    """How long prompts and responses of a dataset are; where they are not known, guesses."""

    prompt_tokens: Positive = 100
    """Mean tokens of a prompt."""
    response_tokens: Positive | None = None
    """Mean tokens of a response that nothing cuts; empty: half of what the limits leave."""
    test_problems: Positive | None = None
    """Problems of the test set; empty: `datasets.{name}.test`, or 1,000."""


@settings
class Rates:
    """For `plan` alone: how fast models are, measured or stated. The defaults are of one core of a laptop."""

    unit: Literal["CPU minutes", "GPU hours"] = "CPU minutes"
    """What the time of a job is counted in; GPU hours count every GPU that its rule asks for, CPU minutes
    every process, and processes divide the work evenly."""
    source: str = "sampling as in benchmarks/results/rollouts.csv (one core), the rest stated in round numbers"
    """Where the numbers come from; `plan` says it."""
    parameters: Above = 0.8e6
    """Size of the model that the rates are of; a token of another one takes time in proportion to its size."""
    sample_tokens_per_s: Above = 50000.0
    """Tokens sampled."""
    score_tokens_per_s: Above = 30000.0
    """Tokens of prompts and responses given log-probabilities."""
    train_tokens_per_s: Above = 10000.0
    """Tokens of prompts and responses trained on, forward and backward."""
    iteration_s: AtLeast0 = 0.1
    """Seconds of an iteration that depend on no token."""
    cutpoint_share: Share = 0.08
    """Cutpoints a response token (spec §2.1: 2.1 cuts a response of some 130 tokens with five cutpoints each)."""
    line_tokens: Positive = 28
    """Tokens of a line, which VinePPO estimates a value after (spec §9: 4 to 5 steps an answer)."""
    datasets: dict[str, Lengths] = field(default_factory=dict)
    """Lengths by dataset; those of datasets that a study does not have are left aside."""


class Tokens(NamedTuple):
    """Tokens of a run or an evaluation: sampled, scored, trained on."""

    sampled: float
    scored: float = 0.0
    trained: float = 0.0


def parameters(model: Model) -> float | None:
    """Parameters of a model: those stated, or those of the geometry that is trained here; None where neither says.

    >>> from spo.settings import Sft
    >>> parameters(Model(path="some/where", parameters=1.1e9)), parameters(Model(sft=Sft(dataset="x")))
    (1100000000.0, 766464)
    """
    if model.sft is None:
        return model.parameters
    a = model.architecture
    kv = a.hidden_size // a.heads * a.kv_heads
    layer = 2 * a.hidden_size * (a.hidden_size + kv) + 3 * a.hidden_size * a.intermediate_size
    vocabulary = model.tokenizer.vocabulary_size if model.tokenizer.kind == "bpe" else WORDS
    return a.layers * layer + vocabulary * a.hidden_size * (2 if a.family == "llama" else 1)


def trained_bytes(memory: Memory) -> int:
    """Bytes a parameter where a model is trained: weights, gradients and moments, each in float32, as far as they are
    there, and the weights that it computes with, where those are others (benchmarks/README.md).

    >>> trained_bytes(Memory()), trained_bytes(Memory(weights="bfloat16", optimizer_device="cpu"))
    (16, 2)
    """
    live = 2 if memory.weights == "bfloat16" else 4
    if memory.optimizer_device == "cpu":
        return live
    return 16 if live == 4 else live + 16


def run_tokens(train: Train, lengths: Lengths, rates: Rates) -> Tokens:
    """Tokens of a whole training run, validation included.

    >>> from spo.settings import Group
    >>> train = Train(credit=Group(samples_per_problem=8), problems_per_iteration=10, iterations=2, context_tokens=2000,
    ...               epochs=3, validate_every=2, validation_problems=5)
    >>> run_tokens(train, Lengths(prompt_tokens=20, response_tokens=100), Rates())
    Tokens(sampled=17000.0, scored=38400.0, trained=57600.0)

    80 responses of 100 tokens an iteration, and two validations; 120 tokens each are scored under two policies, and are
    trained on three times.
    """
    length = response_tokens(train, lengths)
    scored = train.problems_per_iteration * branches(train)
    episodes = train.problems_per_iteration * _episodes(train)
    if isinstance(train.credit, TreeCredit):
        scored = episodes * SCORED_NODES
        episodes = min(episodes, train.credit.episodes_per_iteration)
    sampled = train.problems_per_iteration * _problem_tokens(train, length, rates)
    whole = lengths.prompt_tokens + length
    models = 2 if isinstance(train.credit, Critic) else 1
    validations = train.last_iteration // train.validate_every + 1
    if isinstance(train.credit, Accepted) and train.credit.keep != "last":
        steps = -(-episodes * train.epochs // train.batch_episodes)
        validations += train.last_iteration * (1 + -(-steps // train.credit.validate_every_steps))
    validated = validations * train.validation_problems * length
    return Tokens(
        sampled=float(train.last_iteration * sampled + validated),
        scored=float(train.last_iteration * (scored + episodes) * whole),
        trained=float(train.last_iteration * episodes * train.epochs * models * whole),
    )


def response_tokens(train: Train, lengths: Lengths) -> float:
    """Mean tokens of a response in training: the stated mean, or half the limit, and no more than the limit."""
    return _within(lengths, min(train.max_response_tokens, train.context_tokens - lengths.prompt_tokens))


def evaluation_tokens(protocol: Protocol, context_tokens: int, problems: int, lengths: Lengths) -> Tokens:
    """Return the tokens of predictions on a test set.

    >>> evaluation_tokens(Protocol(samples_per_problem=16), 2047, 1319, Lengths(response_tokens=100))
    Tokens(sampled=2110400.0, scored=0.0, trained=0.0)
    >>> evaluation_tokens(Protocol(max_response_tokens=80), 2047, 10, Lengths(response_tokens=100))
    Tokens(sampled=800.0, scored=0.0, trained=0.0)
    """
    room = context_tokens - lengths.prompt_tokens
    length = _within(lengths, min(room, protocol.max_response_tokens or room))
    return Tokens(float(problems * protocol.samples_per_problem * length))


def seconds(tokens: Tokens, size: float, rates: Rates) -> float:
    """Seconds of so many tokens with a model of so many parameters.

    >>> seconds(Tokens(100000, 30000, 20000), 1.6e6, Rates())
    10.0
    """
    alone = tokens.sampled / rates.sample_tokens_per_s
    alone += tokens.scored / rates.score_tokens_per_s + tokens.trained / rates.train_tokens_per_s
    return alone * size / rates.parameters


def branches(train: Train) -> int:
    """Responses to a problem in an iteration, rollouts not counted."""
    credit = train.credit
    return math.prod(credit.branches) if isinstance(credit, TreeCredit) else credit.samples_per_problem


def _episodes(train: Train) -> int:
    """Episodes of a problem in an iteration, at most."""
    if isinstance(train.credit, TreeCredit):
        return sum(math.prod(train.credit.branches[: level + 1]) for level in range(len(train.credit.branches)))
    if isinstance(train.credit, Pairs):
        return 2 * train.credit.pairs_per_problem
    return branches(train)


def _problem_tokens(train: Train, length: float, rates: Rates) -> float:
    """Tokens sampled for one problem in an iteration; a rollout continues a response from its middle, on average."""
    credit = train.credit
    if isinstance(credit, TreeCredit):
        return _tree_tokens(credit, length)
    if not isinstance(credit, ChainCredit):
        return branches(train) * length
    part = credit.partition
    cuts: Mapping[str, float] = {
        "lines": length / rates.line_tokens,
        "math_steps": length / rates.line_tokens,
        "fixed_tokens": length / part.tokens,
        "cutpoint_interval": rates.cutpoint_share * length / part.interval,
    }
    estimated = max(1.0, cuts.get(part.name, part.segments - 1))
    if credit.max_estimated_cuts is not None:
        estimated = min(estimated, credit.max_estimated_cuts + (credit.first_segment == "estimate"))
    return branches(train) * length * (1 + estimated * credit.rollouts_per_cut / 2)


def _tree_tokens(credit: TreeCredit, length: float) -> float:
    """Tokens of one tree whose paths all have `length`.

    >>> _tree_tokens(TreeCredit(branches=(2, 3), segment_tokens=30), 100)
    480.0
    """
    total, before = 0.0, 0.0
    for level in range(len(credit.branches)):
        last = level == len(credit.branches) - 1
        here = length - before if last else min(credit.segment_tokens, length - before)
        total += math.prod(credit.branches[: level + 1]) * here
        before += here
    return total


def _within(lengths: Lengths, limit: int) -> float:
    return max(1.0, min(lengths.response_tokens or limit / 2, limit))
