"""SPO-chain: segment advantages from Monte-Carlo values at the boundaries of sampled responses (paper §4, spec §2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spo.credit.chain import chain_advantages, value_cuts, zero_confident
from spo.credit.partition import PARTITIONS, cutpoints
from spo.methods.report import responses, summary
from spo.methods.world import Collected, Memory, World
from spo.types import Episode, Problem, Request, Trajectory

#: A state whose value is wanted: (problem index, ids of prompt and response so far)
State = tuple[int, tuple[int, ...]]


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample, cut, estimate the value at each cut, give each segment the change of value over it."""
    credit = world.settings.credit
    partition = PARTITIONS[credit.partition.name]
    groups, rewards, gap = world.trajectories(problems, credit.samples_per_problem)
    flat = [(p, t, reward) for p, group in enumerate(groups) for t, reward in zip(group, rewards[p], strict=True)]
    cuts = [partition(t.logprobs, world.line_ends(t.response_ids), credit.partition) for _, t, _ in flat]
    uncertain = [cutpoints(t.logprobs, credit.partition.threshold) for _, t, _ in flat]
    estimated = [value_cuts(row, credit.first_segment, u[:1] == (0,)) for row, u in zip(cuts, uncertain, strict=True)]
    wanted = {_state(p, t, cut): None for (p, t, _), row in zip(flat, estimated, strict=True) for cut in row}
    values, rollout_tokens = monte_carlo_values(world, problems, list(wanted), credit.rollouts_per_cut)

    episodes = []
    for (p, t, reward), cut_row, known in zip(flat, cuts, estimated, strict=True):
        row = [values[_state(p, t, cut)] if cut in known else None for cut in cut_row[:-1]] + [reward]
        advantages = chain_advantages(cut_row, row)
        if credit.zero_confident:
            advantages = zero_confident(advantages, t.logprobs, credit.partition.threshold)
        episodes.append(Episode(t.problem_id, t.prompt_ids, t.response_ids, t.logprobs, tuple(advantages.tolist())))
    metrics = summary(responses(groups), rewards, gap) | {
        "cutpoints": float(np.mean([len(row) for row in uncertain])),
        "segments": float(np.mean([len(cut_row) - 1 for cut_row in cuts])),
        "mc_points": len(wanted),
        "sampled_tokens": sum(len(t.response_ids) for _, t, _ in flat) + rollout_tokens,
    }
    return Collected(tuple(episodes), metrics)


def monte_carlo_values(
    world: World, problems: Sequence[Problem], states: Sequence[State], rollouts: int
) -> tuple[dict[State, float], int]:
    """Mean reward of `rollouts` fresh continuations of each state, and the tokens they took (spec §2.1 items 7-8).

    A state that has no room left in the context is worth what its own text earns unfinished.
    """
    prompts = [world.encode(problem) for problem in problems]
    open_states = [state for state in states if world.room(len(state[1])) > 0]
    requests = []
    for p, ids in open_states:
        keys = tuple(world.key("rollout", problems[p], *ids[len(prompts[p]) :], -1 - i) for i in range(rollouts))
        requests.append(Request(ids, keys, world.room(len(ids))))
    values = {(p, ids): world.reward(problems[p], ids[len(prompts[p]) :], False) for p, ids in states}
    tokens = 0
    for (p, ids), samples in zip(open_states, world.sample(requests), strict=True):
        written = ids[len(prompts[p]) :]
        rewards = [world.reward(problems[p], written + sample.response_ids, sample.finished) for sample in samples]
        values[p, ids] = float(np.mean(rewards))
        tokens += sum(len(sample.response_ids) for sample in samples)
    return values, tokens


def _state(p: int, trajectory: Trajectory, cut: int) -> State:
    return p, trajectory.prompt_ids + trajectory.response_ids[:cut]
