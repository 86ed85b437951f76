"""SPO-chain: segment advantages from Monte-Carlo values at the boundaries of sampled responses (paper §4, spec §2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spo.credit.chain import chain_advantages, value_cuts, zero_confident
from spo.credit.partition import AT_CUTPOINTS, PARTITIONS, cutpoints
from spo.credit.steps import RULES
from spo.methods.report import sampled
from spo.methods.world import Collected, Memory, World, episode
from spo.types import Problem, Request, Trajectory

#: A state whose value is wanted: (problem index, ids of prompt and response so far)
State = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Rated:
    """A trajectory with what SPO-chain finds out about it.

    `cuts` (K+1) as in `spo.credit.partition`; `values` (K+1), the last the reward, None where not estimated;
    `advantages` (T); `cutpoints` are the positions of uncertain tokens.
    """

    trajectory: Trajectory
    cuts: tuple[int, ...]
    values: tuple[float | None, ...]
    advantages: tuple[float, ...]
    cutpoints: tuple[int, ...]


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample, cut, estimate the value at each cut, give each segment the change of value over it."""
    groups, rewards, gap = world.trajectories(problems, world.settings.credit.samples_per_problem)
    flat = [(p, t, reward) for p, group in enumerate(groups) for t, reward in zip(group, rewards[p], strict=True)]
    rated, points, tokens = rate(world, problems, flat)
    metrics = sampled(groups, rewards, gap)
    metrics |= {
        "cutpoints": float(np.mean([len(row.cutpoints) for row in rated])),
        "segments": float(np.mean([len(row.cuts) - 1 for row in rated])),
        "mc_points": points,
        "sampled_tokens": metrics["sampled_tokens"] + tokens,
    }
    return Collected(tuple(episode(row.trajectory, row.advantages) for row in rated), metrics)


def rate(
    world: World, problems: Sequence[Problem], sampled: Sequence[tuple[int, Trajectory, float]]
) -> tuple[list[Rated], int, int]:
    """Cut each (problem index, trajectory, reward), estimate values and take differences: (what was found, the number
    of states whose value was estimated, tokens generated for that). States that trajectories share count once."""
    credit = world.settings.credit
    name, threshold = credit.partition.name, credit.partition.threshold
    pieces = world.pieces if name in RULES else lambda ids: ()
    cuts = [PARTITIONS[name](t.logprobs, pieces(t.response_ids), credit.partition) for _, t, _ in sampled]
    uncertain = [cutpoints(t.logprobs, threshold) for _, t, _ in sampled]
    estimated = [
        _first_cuts(
            value_cuts(row, credit.first_segment, name in AT_CUTPOINTS and u[:1] == (0,)), credit.max_estimated_cuts
        )
        for row, u in zip(cuts, uncertain, strict=True)
    ]
    wanted = {_state(p, t, cut): None for (p, t, _), row in zip(sampled, estimated, strict=True) for cut in row}
    values, tokens = monte_carlo_values(world, problems, list(wanted), credit.rollouts_per_cut, credit.grade_rollouts)

    rated = []
    for (p, t, reward), row, known, u in zip(sampled, cuts, estimated, uncertain, strict=True):
        found = [values[_state(p, t, cut)] if cut in known else _unknown(cut, reward) for cut in row[:-1]] + [reward]
        advantages = chain_advantages(row, found)
        if credit.zero_confident:
            advantages = zero_confident(advantages, t.logprobs, threshold)
        rated.append(Rated(t, row, tuple(found), tuple(advantages.tolist()), u))
    return rated, len(wanted), tokens


def _first_cuts(cuts: tuple[int, ...], most: int | None) -> tuple[int, ...]:
    """The start of the response, if it is among `cuts`, and at most so many cuts after it (spec §4.4)."""
    return cuts if most is None else cuts[: most + (cuts[:1] == (0,))]


def _unknown(cut: int, reward: float) -> float | None:
    """What a cut without estimate is worth: nothing is known of the first; those past the limit have the reward."""
    return None if cut == 0 else reward


def monte_carlo_values(
    world: World,
    problems: Sequence[Problem],
    states: Sequence[State],
    rollouts: int,
    graded: Literal["response", "own"] = "response",
) -> tuple[dict[State, float], int]:
    """Mean reward of `rollouts` fresh continuations of each state, and the tokens they took (spec §2.1 items 7-8).

    `graded` says whether a rollout is graded with the text that it continues. A state that leaves no token in the
    context is worth what its own text earns unfinished.
    Deviation: rollouts of the official 7B run are not limited by the context (2,048 tokens); here they share it with
    prompt and response, as all responses do.
    """
    prompts = [world.encode(problem) for problem in problems]
    open_states = [state for state in states if world.room(len(state[1])) > 0]
    full = [state for state in states if world.room(len(state[1])) <= 0]
    requests = []
    for p, ids in open_states:
        keys = tuple(world.key("rollout", problems[p], *ids[len(prompts[p]) :], -1 - i) for i in range(rollouts))
        requests.append(Request(ids, keys, world.room(len(ids))))
    sampled = world.sample(requests)
    answers = [(problems[p], ids[len(prompts[p]) :], False) for p, ids in full]
    for (p, ids), samples in zip(open_states, sampled, strict=True):
        before = ids[len(prompts[p]) :] if graded == "response" else ()
        answers += [(problems[p], before + sample.response_ids, sample.finished) for sample in samples]
    rewards = iter(world.rewards(answers))
    values = {state: next(rewards) for state in full}
    for state, samples in zip(open_states, sampled, strict=True):
        values[state] = float(np.mean([next(rewards) for _ in samples]))
    return values, sum(len(sample.response_ids) for samples in sampled for sample in samples)


def _state(p: int, trajectory: Trajectory, cut: int) -> State:
    return p, trajectory.prompt_ids + trajectory.response_ids[:cut]
