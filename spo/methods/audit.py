"""How wrong estimated advantages are: the truth about tokens from many rollouts, and what each method says of them.

A token's true advantage is A*(t) = V(prefix with token t) - V(prefix before it). Each estimator, and the truth, has
random numbers of its own: noise that they shared would look like accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spo import seeds
from spo.credit.partition import cutpoints
from spo.errors import UserError
from spo.methods import chain
from spo.methods.estimators import ESTIMATORS, Sampled
from spo.methods.world import World
from spo.settings import Audit, Credit
from spo.types import Problem

#: (problem number, position) of a response token
Place = tuple[int, int]


def audit(world: World, problems: Sequence[Problem], plan: Audit) -> list[dict[str, Any]]:
    """A row for each token measured: its true advantage, the sampling variance of that number, every method's estimate.

    `world.settings` say how the policy samples, and its seed. Raises UserError naming an estimator without a critic.
    """
    for label, credit in plan.estimators.items():
        if credit.kind == "critic" and world.critic is None:
            raise UserError(f"audit: estimators.{label}: needs a critic; audit a method whose credit.kind is critic")
    groups, rewards, _ = world.trajectories(problems, 1)
    sampled = Sampled(tuple(problems), tuple(t for (t,) in groups), tuple(reward for (reward,) in rewards))
    places = draw_places(sampled, plan.tokens_per_trajectory, world.settings.seed)
    truth = true_advantages(stream(world, "truth"), sampled, places, plan.truth_rollouts)
    found = {
        label: ESTIMATORS[credit.kind](stream(world, f"estimator {label}", credit), sampled)
        for label, credit in plan.estimators.items()
    }
    return [
        {
            "problem_id": problems[p].id,
            "position": t,
            "probability": float(np.exp(sampled.trajectories[p].logprobs[t])),
            "truth": truth[p, t][0],
            "truth_variance": truth[p, t][1],
            "estimates": {label: float(each.advantages[p][t]) for label, each in found.items()},
            "generated_tokens": {label: each.generated_tokens for label, each in found.items()},
        }
        for p, t in places
    ]


def stream(world: World, name: str, credit: Credit | None = None) -> World:
    """The same world with random numbers of its own, and with the settings of a method where they are given."""
    settings = replace(world.settings, seed=seeds.key(world.settings.seed, name))
    return replace(world, settings=settings if credit is None else replace(settings, credit=credit))


def draw_places(sampled: Sampled, tokens: int, seed: int) -> list[Place]:
    """Up to `tokens` uncertain tokens (p < 0.9) of each trajectory, without replacement, in order."""
    places = []
    for p, (problem, trajectory) in enumerate(zip(sampled.problems, sampled.trajectories, strict=True)):
        order = seeds.generator(seed, "audited tokens", problem.id).permutation(cutpoints(trajectory.logprobs))
        places += [(p, t) for t in sorted(order[:tokens].astype(int).tolist())]
    return places


def true_advantages(
    world: World, sampled: Sampled, places: Sequence[Place], rollouts: int
) -> dict[Place, tuple[float, float]]:
    """A*(t) and its sampling variance, from `rollouts` fresh continuations before and after each token.

    After a response's last token stands its reward, which is certain. The variance is the unbiased one of means of
    rewards 0 or 1, v (1 - v) / (rollouts - 1), of both sides together.
    """
    cuts = dict.fromkeys((p, cut) for p, t in places for cut in (t, t + 1))
    states, known = {}, {}
    for p, cut in cuts:
        trajectory = sampled.trajectories[p]
        if cut == len(trajectory.response_ids):
            known[p, cut] = (sampled.rewards[p], 0.0)
        else:
            states[p, cut] = (p, trajectory.prompt_ids + trajectory.response_ids[:cut])
    values, _ = chain.monte_carlo_values(world, sampled.problems, list(states.values()), rollouts)
    for place, state in states.items():
        known[place] = (values[state], values[state] * (1 - values[state]) / max(1, rollouts - 1))

    found = {}
    for p, t in places:
        (before, variance_before), (after, variance_after) = known[p, t], known[p, t + 1]
        found[p, t] = (after - before, variance_before + variance_after)
    return found
