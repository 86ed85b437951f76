"""SPO-chain: a segment's advantage is the difference of the values at its two ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from spo.credit.partition import log_threshold


def value_cuts(
    cuts: Sequence[int],
    first_segment: Literal["estimate", "zero"] = "estimate",
    starts_at_cutpoint: bool = False,
) -> tuple[int, ...]:
    """The cuts whose values must be estimated by rollouts: all but the last, whose value is the reward.

    cuts (K+1), as in `spo.credit.partition`. `starts_at_cutpoint`: the cuts are cutpoints, and the first token is one;
    False for partitions of other kinds, whatever the first token's probability.
    Deviation: the paper needs V(s_0); the official code does not estimate it unless the response begins with a cutpoint
    at which it cuts (spec §2.2, §2.3). Key `Chain.first_segment`, `zero` for the latter.

    >>> value_cuts((0, 1, 8, 10)), value_cuts((0, 1, 8, 10), "zero"), value_cuts((0, 5, 7), "zero", True)
    ((0, 1, 8), (1, 8), (0, 5))
    """
    return tuple(cuts[:-1] if first_segment == "estimate" or starts_at_cutpoint else cuts[1:-1])


def segment_advantages(values: Sequence[float | None]) -> np.ndarray:
    """A_k = V(c_{k+1}) - V(c_k), (K) float64 (paper §4; spec §2.2).

    values (K+1): at every cut, the last one the reward. The first may be None (not estimated): that segment earns 0.

    >>> segment_advantages([0.25, 0.75, 0.5]).tolist(), segment_advantages([None, 0.25, 1.0]).tolist()
    ([0.5, -0.25], [0.0, 0.75])
    """
    if len(values) == 0:
        raise ValueError("no values: even an empty response has its reward")
    known = np.array([np.nan if value is None else value for value in values], np.float64)
    if np.isnan(known[1:]).any():
        raise ValueError(f"only the first value may be missing: {list(values)}")
    advantages = np.diff(known)
    if len(advantages) and np.isnan(known[0]):
        advantages[0] = 0.0
    return advantages


def chain_advantages(cuts: Sequence[int], values: Sequence[float | None]) -> np.ndarray:
    """Every token gets the advantage of its segment, (T) float64.

    cuts (K+1) as in `spo.credit.partition`; values (K+1) as in `segment_advantages`.

    >>> chain_advantages((0, 1, 3), (None, 0.25, 1.0)).tolist()
    [0.0, 0.75, 0.75]
    """
    if len(cuts) != len(values):
        raise ValueError(f"{len(cuts)} cuts but {len(values)} values")
    return np.repeat(segment_advantages(values), np.diff(cuts))


def zero_confident(advantages: np.ndarray, logprobs: Sequence[float], threshold: float = 0.9) -> np.ndarray:
    """Advantages (T) with 0 at tokens whose probability is strictly above `threshold`.

    Deviation: not in the paper; the official code does it whether or not the loss is masked (spec §2.2). Key
    `Chain.zero_confident`.

    >>> zero_confident(np.array([0.5, 0.5]), np.log([0.95, 0.9])).tolist()
    [0.0, 0.5]
    """
    above = np.asarray(logprobs, np.float32) > np.float32(log_threshold(threshold))
    return np.where(above, 0.0, advantages)
