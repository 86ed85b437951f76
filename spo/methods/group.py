"""GRPO and RLOO: every token of a response gets the reward of that response relative to the others (spec §4.1-4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spo.credit.groups import group_advantages
from spo.credit.partition import cutpoints
from spo.methods.report import responses, summary
from spo.methods.world import Collected, Memory, World
from spo.types import Episode, Problem


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample a group a problem, compare within the group."""
    credit = world.settings.credit
    groups, rewards, gap = world.trajectories(problems, credit.samples_per_problem)
    episodes = []
    for group, group_rewards in zip(groups, rewards, strict=True):
        advantages = group_advantages(group_rewards, credit.baseline, credit.divide_by_std)
        for trajectory, advantage in zip(group, advantages, strict=True):
            length = len(trajectory.response_ids)
            episodes.append(
                Episode(
                    problem_id=trajectory.problem_id,
                    prompt_ids=trajectory.prompt_ids,
                    response_ids=trajectory.response_ids,
                    old_logprobs=trajectory.logprobs,
                    advantages=(float(advantage),) * length,
                )
            )
    flat = [trajectory for group in groups for trajectory in group]
    metrics = summary(responses(groups), rewards, gap) | {
        "cutpoints": float(np.mean([len(cutpoints(t.logprobs)) for t in flat])),
        "segments": 1.0,
        "mc_points": 0,
        "sampled_tokens": sum(len(t.response_ids) for t in flat),
    }
    return Collected(tuple(episodes), metrics)
