"""SPO-tree: a node is worth the mean of its children, and earns what it is worth above its parent.

Trees are an array of parents (N): -1 for a root, and parents[i] < i for every other node.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Added to a standard deviation before dividing by it, as in the official code (spec §3.2).
EPSILON = 1e-8
#: Means of equal numbers differ from them by rounding; what is smaller than this is no advantage.
ROUNDING = 1e-12


def tree_values(parents: Sequence[int], leaf_rewards: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Values and population standard deviations of the children's values, both (N) float64 (paper §5; spec §3.1).

    leaf_rewards (N): the reward of each leaf, NaN at inner nodes. The mean is over direct children, whatever the size
    of their subtrees. A leaf's deviation is 0.

    >>> values, stds = tree_values([-1, 0, 0, 1, 1], [np.nan, np.nan, 1, 1, 0])
    >>> values.tolist(), stds.tolist()
    ([0.75, 0.5, 1.0, 1.0, 0.0], [0.25, 0.5, 0.0, 0.0, 0.0])
    """
    children = _children(parents)
    values = np.array(leaf_rewards, np.float64)
    if values.shape != (len(children),):
        raise ValueError(f"{len(children)} nodes but rewards of shape {values.shape}")
    stds = np.zeros_like(values)
    for node in reversed(range(len(children))):
        if bool(children[node]) != bool(np.isnan(values[node])):
            raise ValueError(f"node {node}: a leaf needs a reward, an inner node must have none (NaN)")
        if children[node]:
            below = values[children[node]]
            values[node], stds[node] = below.mean(), below.std()
    return values, stds


def tree_advantages(
    parents: Sequence[int], values: np.ndarray, stds: np.ndarray, divide_by_std: bool = False
) -> np.ndarray:
    """Each node's value minus its parent's, (N) float64; 0 for a root (paper §5; spec §3.2).

    values, stds (N) as `tree_values` returns them. With `divide_by_std` (key `Tree.divide_by_std`, Fig. 5c) the
    difference is divided by the parent's standard deviation + 1e-8.
    Deviation: the paper's Algorithm 1 divides without the 1e-8. The official code calls the undivided form `rloo`,
    though the mean includes the node itself.

    >>> parents = [-1, 0, 0, 1, 1]
    >>> tree_advantages(parents, *tree_values(parents, [np.nan, np.nan, 1, 1, 0])).tolist()
    [0.0, -0.25, 0.25, 0.5, -0.5]
    """
    above = np.array(parents, np.int64)
    above = np.where(above < 0, np.arange(len(above)), above)
    advantages = values - values[above]
    advantages[np.abs(advantages) < ROUNDING] = 0.0
    return advantages / (stds[above] + EPSILON) if divide_by_std else advantages


def _children(parents: Sequence[int]) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in parents]
    for node, parent in enumerate(parents):
        if not -1 <= parent < node:
            raise ValueError(f"node {node}: its parent {parent} must come before it, or be -1 for a root")
        if parent >= 0:
            children[parent].append(node)
    return children
