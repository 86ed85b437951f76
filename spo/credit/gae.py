"""Generalised advantage estimation for PPO, and what its critic learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def gae(rewards: Sequence[float], values: Sequence[float], gamma: float = 1.0, lam: float = 1.0) -> np.ndarray:
    """A_t = sum_k (gamma lam)^k delta_{t+k} with delta_t = r_t + gamma V_{t+1} - V_t, (T) float64.

    Eq. 16 of arXiv 1506.02438; spec §4.3. rewards (T): paid after token t. values (T): of the state before token t;
    the value after the last token is 0.

    >>> gae([0, 0, 1], [0.2, 0.4, 0.6]).round(6).tolist()
    [0.8, 0.6, 0.4]
    """
    paid, before = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    if paid.shape != before.shape:
        raise ValueError(f"{len(paid)} rewards but {len(before)} values")
    deltas = paid + gamma * np.append(before[1:], 0.0) - before if len(before) else before
    advantages = np.zeros_like(deltas)
    running = 0.0
    for t in reversed(range(len(deltas))):
        running = deltas[t] + gamma * lam * running
        advantages[t] = running
    return advantages


def discounted_returns(rewards: Sequence[float], gamma: float = 1.0) -> np.ndarray:
    """What is still paid from each token on, sum_k gamma^k r_{t+k}, (T) float64: a critic's target (spec §4.3).

    With gamma 1 and a reward on the last token it is that reward everywhere; with gamma below 1 it shrinks with the
    distance from the end. VinePPO's code learns advantage + value instead, which is the same for lambda 1.

    >>> discounted_returns([0, 0, 1]).tolist(), discounted_returns([0, 0, 1], gamma=0.5).tolist()
    ([1.0, 1.0, 1.0], [0.25, 0.5, 1.0])
    """
    return gae(rewards, np.zeros(len(rewards)), gamma, 1.0)
