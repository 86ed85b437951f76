"""DPO-positive: correct responses are preferred to wrong ones to the same problem (spec §4.5)."""

from __future__ import annotations

from collections.abc import Sequence

from spo import seeds
from spo.methods.report import sampled
from spo.methods.world import Collected, Memory, World, episode
from spo.types import Problem


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample, draw pairs of a correct (reward above 0.5) and a wrong response at random, each pair once.

    Episodes 2i and 2i+1 are a pair; the correct one comes first and has advantage 1, the wrong one -1.
    """
    credit = world.settings.credit
    groups, rewards, gap = world.trajectories(problems, credit.samples_per_problem)
    episodes = []
    for problem, group, row in zip(problems, groups, rewards, strict=True):
        correct = [trajectory for trajectory, reward in zip(group, row, strict=True) if reward > 0.5]
        wrong = [trajectory for trajectory, reward in zip(group, row, strict=True) if reward <= 0.5]
        order = seeds.generator(world.settings.seed, "pairs", world.iteration, problem.id)
        for number in order.permutation(len(correct) * len(wrong))[: credit.pairs_per_problem]:
            better, worse = correct[number // len(wrong)], wrong[number % len(wrong)]
            episodes.append(episode(better, (1.0,) * len(better.response_ids)))
            episodes.append(episode(worse, (-1.0,) * len(worse.response_ids)))
    return Collected(tuple(episodes), sampled(groups, rewards, gap))
