"""GRPO and RLOO: one advantage a response, relative to the other responses to the same problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

#: Added to the standard deviation before dividing by it, as in the official code (spec §4.1).
EPSILON = 1e-8


def group_advantages(
    rewards: Sequence[float],
    baseline: Literal["mean", "leave_one_out"] = "mean",
    divide_by_std: bool = True,
) -> np.ndarray:
    """Rewards (n) minus a baseline, (n) float64: GRPO (arXiv 2402.03300) and RLOO (arXiv 2402.14740); spec §4.1-4.2.

    The baseline is the mean of all n or of the n-1 others. The standard deviation is the population's (ddof 0), with
    1e-8 added. Equal rewards give exactly 0, and an empty group gives an empty array. In a group of one the mean leaves
    0; without others the baseline is 0, as in the official code, and the reward is left, unless it is divided by a
    deviation of 0.

    >>> group_advantages([1, 0, 0, 1]).round(6).tolist()
    [1.0, -1.0, -1.0, 1.0]
    >>> group_advantages([1, 0, 0, 0], "leave_one_out", divide_by_std=False).round(6).tolist()
    [1.0, -0.333333, -0.333333, -0.333333]
    """
    values = np.asarray(rewards, np.float64)
    n = len(values)
    if n < 2:
        return values if baseline == "leave_one_out" and not divide_by_std else np.zeros(n)
    # Taken from the first reward, so that equal rewards give exactly 0.
    relative = values - values[0]
    advantages = relative - relative.mean()
    std = np.sqrt((advantages**2).mean())
    if baseline == "leave_one_out":
        advantages = advantages * (n / (n - 1))
    return advantages / (std + EPSILON) if divide_by_std else advantages
