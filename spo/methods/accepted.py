"""RestEM: learn the correct ones of many sampled responses as if they were demonstrations (spec §4.6)."""

from __future__ import annotations

from collections.abc import Sequence

from spo import seeds
from spo.methods.report import sampled
from spo.methods.world import Collected, Memory, World, episode
from spo.types import Problem


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample, keep correct responses (reward above 0.5), equal ones included, at most so many a problem.

    Every token has advantage 1. Where nothing is correct nothing is trained, and nothing begins anew.
    """
    credit = world.settings.credit
    groups, rewards, gap = world.trajectories(problems, credit.samples_per_problem)
    episodes = []
    for problem, group, row in zip(problems, groups, rewards, strict=True):
        correct = [trajectory for trajectory, reward in zip(group, row, strict=True) if reward > 0.5]
        order = seeds.generator(world.settings.seed, "accepted", world.iteration, problem.id).permutation(len(correct))
        kept = [correct[i] for i in order[: credit.keep_per_problem]]
        episodes += [episode(trajectory, (1.0,) * len(trajectory.response_ids)) for trajectory in kept]
    return Collected(tuple(episodes), sampled(groups, rewards, gap), restart=credit.restart)
