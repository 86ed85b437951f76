"""What a method may use of the world: a policy to sample and score with, a reward, counters and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from spo import seeds
from spo.methods import share
from spo.methods.report import mismatch
from spo.methods.score import score
from spo.policy import Policy, ValueModel
from spo.settings import Train
from spo.types import Episode, Problem, Request, Sample, Sampling, Trajectory

#: (iteration that made it, Episode): what a method keeps for later iterations; saved with every checkpoint.
Memory = tuple[tuple[int, Episode], ...]


class ValueTarget(NamedTuple):
    """What a critic learns of one Episode with T response tokens: numbers of the state before each of them."""

    returns: tuple[float, ...]
    """(T): what was paid from there on."""
    old_values: tuple[float, ...]
    """(T): what the critic said when the response was sampled."""


@dataclass(frozen=True)
class Collected:
    """One iteration's harvest; `metrics` are plain numbers that do not depend on the clock."""

    episodes: tuple[Episode, ...]
    metrics: dict[str, float]
    memory: Memory = ()
    value_targets: tuple[ValueTarget, ...] = ()
    """One an Episode where the method has a critic."""
    restart: bool = False
    """Whether training on these Episodes begins at the starting policy."""


@dataclass
class Clock:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class World:
    """One iteration's surroundings.

    `encode` turns a problem into prompt ids; `reward` (problem, response ids, finished) is a number; `pieces` gives the
    text that each response token adds; `critic` is None where the method needs none. `draw` samples from a policy, in
    place of `share.sample` where samples are kept.
    """

    policy: Policy
    settings: Train
    iteration: int
    encode: Callable[[Problem], tuple[int, ...]]
    reward: Callable[[Problem, Sequence[int], bool], float]
    pieces: Callable[[Sequence[int]], Sequence[str]]
    clock: Clock
    critic: ValueModel | None = None
    draw: Callable[[Policy, Sequence[Request], Sampling], list[list[Sample]]] = share.sample

    def key(self, stage: str, problem: Problem, *counters: int) -> int:
        """The random key of one sample; independent of batch, order and everything sampled before."""
        return seeds.key(self.settings.seed, stage, self.iteration, problem.id, *counters)

    def room(self, prefix_tokens: int) -> int:
        """Tokens that may follow a prefix: the response limit, or what the context leaves."""
        return min(self.settings.max_response_tokens, self.settings.context_tokens - prefix_tokens)

    def sample(self, requests: Sequence[Request]) -> list[list[Sample]]:
        with self.clock.phase("sample"):
            return self.draw(self.policy, requests, self.settings.sampling)

    def score(self, sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[tuple[float, ...]]:
        """Log-probabilities of each response after its prompt under the training backend, float32."""
        with self.clock.phase("score"):
            return score(
                self.policy, sequences, self.settings.sampling.temperature, self.settings.optimizer.micro_batch_tokens
            )

    def rewards(self, answers: Sequence[share.Answer]) -> list[float]:
        """`reward` of each answer."""
        return share.rewards(self.reward, answers)

    def trajectories(
        self, problems: Sequence[Problem], samples: int
    ) -> tuple[list[list[Trajectory]], list[list[float]], float]:
        """`samples` trajectories a problem, their rewards, and the gap of sampler and training log-probabilities."""
        prompts = [self.encode(problem) for problem in problems]
        requests = [
            Request(prompt, tuple(self.key("trajectory", problem, i) for i in range(samples)), self.room(len(prompt)))
            for problem, prompt in zip(problems, prompts, strict=True)
        ]
        sampled = self.sample(requests)
        flat = [(prompt, sample) for prompt, group in zip(prompts, sampled, strict=True) for sample in group]
        scored = self.score([(prompt, sample.response_ids) for prompt, sample in flat])
        trajectories = [
            Trajectory(problems[i // samples].id, prompt, sample.response_ids, logprobs, sample.finished)
            for i, ((prompt, sample), logprobs) in enumerate(zip(flat, scored, strict=True))
        ]
        answers = [(problems[i // samples], t.response_ids, t.finished) for i, t in enumerate(trajectories)]
        gap = mismatch([sample for _, sample in flat], scored)
        return _grouped(trajectories, samples), _grouped(self.rewards(answers), samples), gap


def episode(trajectory: Trajectory, advantages: Sequence[float]) -> Episode:
    """A whole trajectory to learn from; advantages (T)."""
    t = trajectory
    return Episode(t.problem_id, t.prompt_ids, t.response_ids, t.logprobs, tuple(advantages))


def _grouped(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]
