"""PPO: advantages of tokens by the judgement of a second network, which learns what states are worth (spec §4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spo.credit.gae import discounted_returns, gae
from spo.methods.report import sampled
from spo.methods.score import at_responses
from spo.methods.world import Collected, Memory, ValueTarget, World, episode
from spo.policy import ValueModel
from spo.types import Problem


def collect(world: World, problems: Sequence[Problem], memory: Memory) -> Collected:
    """One iteration: sample, ask the critic about every state, estimate advantages from its answers."""
    credit = world.settings.credit
    groups, rewards, gap = world.trajectories(problems, credit.samples_per_problem)
    flat = [trajectory for group in groups for trajectory in group]
    with world.clock.phase("critic"):
        sequences = [(t.prompt_ids, t.response_ids) for t in flat]
        judged = values(world.critic, sequences, world.settings.optimizer.micro_batch_tokens)

    episodes, targets = [], []
    for trajectory, reward, before in zip(flat, (r for row in rewards for r in row), judged, strict=True):
        # The reward is for the last token; the divergence from the starting policy is in the loss, not in the reward.
        paid = (*(0.0,) * (len(before) - 1), reward)[: len(before)]
        episodes.append(episode(trajectory, gae(paid, before, credit.gamma, credit.lam).tolist()))
        targets.append(ValueTarget(tuple(discounted_returns(paid, credit.gamma).tolist()), before))
    metrics = sampled(groups, rewards, gap) | {"explained_variance": explained_variance(targets)}
    return Collected(tuple(episodes), metrics, value_targets=tuple(targets))


def values(
    model: ValueModel, sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], max_tokens: int
) -> list[tuple[float, ...]]:
    """Values (T) of the state before each response token of each (prompt, response), float32, without gradients."""
    return at_responses(model.values, sequences, max_tokens)


def explained_variance(targets: Sequence[ValueTarget]) -> float:
    """1 - Var(R - V) / Var(R) over the states of all responses; 0 where all returns are equal.

    >>> explained_variance([ValueTarget((1.0,), (0.75,)), ValueTarget((0.0,), (0.25,))])
    0.75
    """
    returns = np.concatenate([target.returns for target in targets])
    errors = returns - np.concatenate([target.old_values for target in targets])
    spread = returns.var()
    return float(1 - errors.var() / spread) if spread > 0 else 0.0
