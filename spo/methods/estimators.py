"""What each method says of trajectories that were sampled already, as if it had sampled them itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spo.credit.gae import gae
from spo.credit.groups import group_advantages
from spo.credit.tree import tree_advantages
from spo.methods import chain, critic, tree
from spo.methods.grow import grow
from spo.methods.world import World
from spo.types import Problem, Trajectory


class Sampled(NamedTuple):
    """One trajectory a problem, and its reward."""

    problems: tuple[Problem, ...]
    trajectories: tuple[Trajectory, ...]
    rewards: tuple[float, ...]


class Estimated(NamedTuple):
    """Advantages (T) of each trajectory, and the tokens generated for each token trained on, as in training."""

    advantages: list[np.ndarray]
    generated_tokens: float


def by_group(world: World, sampled: Sampled) -> Estimated:
    """GRPO and RLOO: a trajectory's reward against those of fresh responses to the same problem.

    Deviation: never divided by the standard deviation, which is a scale for a whole group and makes an advantage
    incomparable with a difference of values.
    """
    credit = world.settings.credit
    others = credit.samples_per_problem - 1
    fresh = world.trajectories(sampled.problems, others)[1] if others else [[]] * len(sampled.problems)
    advantages = []
    for trajectory, own, rewards in zip(sampled.trajectories, sampled.rewards, fresh, strict=True):
        advantage = group_advantages([own, *rewards], credit.baseline, divide_by_std=False)[0]
        advantages.append(np.full(len(trajectory.response_ids), advantage))
    return Estimated(advantages, 1.0)


def by_chain(world: World, sampled: Sampled) -> Estimated:
    """SPO-chain and VinePPO: differences of Monte-Carlo values at the ends of segments.

    In training the responses to a problem share the state before their first token. Here a problem has one response, so
    only its part of the rollouts from there is counted.
    """
    credit = world.settings.credit
    rows = list(zip(range(len(sampled.problems)), sampled.trajectories, sampled.rewards, strict=True))
    rated, _, tokens = chain.rate(world, sampled.problems, rows)
    first = [(p, row.trajectory.prompt_ids) for p, row in enumerate(rated) if row.values[0] is not None]
    _, shared = chain.monte_carlo_values(world, sampled.problems, first, credit.rollouts_per_cut)
    own = tokens - shared * (1 - 1 / credit.samples_per_problem)
    trained = sum(len(trajectory.response_ids) for trajectory in sampled.trajectories)
    return Estimated([np.array(row.advantages) for row in rated], 1 + own / trained)


def by_tree(world: World, sampled: Sampled) -> Estimated:
    """SPO-tree: the node that holds a token, in a tree grown around the trajectory. All of a tree is trained on.

    Deviation: never divided by the siblings' standard deviation, for the reason that groups are not.
    """
    nodes = grow(world, sampled.problems, planted=dict(enumerate(sampled.trajectories)))
    advantages = [np.zeros(len(trajectory.response_ids)) for trajectory in sampled.trajectories]
    for node, advantage in zip(nodes, tree_advantages(*tree.rate(world, sampled.problems, nodes)), strict=True):
        if not any(node.path):
            advantages[node.problem][len(node.before) : len(node.response_ids)] = advantage
    return Estimated(advantages, 1.0)


def by_critic(world: World, sampled: Sampled) -> Estimated:
    """PPO: generalised advantage estimation from `world.critic`, the reward paid after the last token."""
    credit, limit = world.settings.credit, world.settings.optimizer.micro_batch_tokens
    sequences = [(trajectory.prompt_ids, trajectory.response_ids) for trajectory in sampled.trajectories]
    advantages = []
    for before, reward in zip(critic.values(world.critic, sequences, limit), sampled.rewards, strict=True):
        paid = (*(0.0,) * (len(before) - 1), reward)[: len(before)]
        advantages.append(gae(paid, before, credit.gamma, credit.lam))
    return Estimated(advantages, 1.0)


#: kind of method -> what it says; `world` holds its settings and random numbers of its own
ESTIMATORS: dict[str, Callable[[World, Sampled], Estimated]] = {
    "group": by_group,
    "chain": by_chain,
    "tree": by_tree,
    "critic": by_critic,
}
