"""GRPO and RLOO: every token of a response gets the reward of that response relative to the others (spec §4.1-4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from spo.credit.groups import group_advantages
from spo.methods.report import sampled
from spo.methods.world import Collected, Memory, World, episode
from spo.types import Problem


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample a group a problem, compare within the group."""
    credit = world.settings.credit
    groups, rewards, gap = world.trajectories(problems, credit.samples_per_problem)
    episodes = tuple(
        episode(trajectory, (float(advantage),) * len(trajectory.response_ids))
        for group, row in zip(groups, rewards, strict=True)
        for trajectory, advantage in zip(
            group, group_advantages(row, credit.baseline, credit.divide_by_std), strict=True
        )
    )
    return Collected(episodes, sampled(groups, rewards, gap))
