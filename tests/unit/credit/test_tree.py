"""SPO-tree values and advantages: golden values of the official code (spec §3.2) and invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.tree import tree_advantages, tree_values

NAN = float("nan")

# Root with children a (leaves 1 and 0), b (leaves 1 and 1) and the leaf c (0).
ROOT, A, B, C, AA, AB, BA, BB = range(8)
PARENTS = (-1, ROOT, ROOT, ROOT, A, A, B, B)
REWARDS = (NAN, NAN, NAN, 0.0, 1.0, 0.0, 1.0, 1.0)


def test_golden_values():
    values, stds = tree_values(PARENTS, REWARDS)
    assert values.tolist() == pytest.approx([0.5, 0.5, 1, 0, 1, 0, 1, 1])
    assert stds.tolist() == pytest.approx([np.sqrt(1 / 6), 0.5, 0, 0, 0, 0, 0, 0])


def test_golden_advantages():
    values, stds = tree_values(PARENTS, REWARDS)
    plain = tree_advantages(PARENTS, values, stds)
    assert plain.tolist() == pytest.approx([0, 0, 0.5, -0.5, 0.5, -0.5, 0, 0])
    assert np.flatnonzero(plain).tolist() == [B, C, AA, AB]
    divided = tree_advantages(PARENTS, values, stds, divide_by_std=True)
    assert divided.tolist() == pytest.approx([0, 0, 1.224745, -1.224745, 1, -1, 0, 0], abs=1e-6)


def test_the_mean_is_over_children_not_leaves():
    # Root: a leaf worth 1, and a node with three leaves worth 0. Over leaves it would be 1/4.
    values, _ = tree_values((-1, 0, 0, 2, 2, 2), (NAN, 1, NAN, 0, 0, 0))
    assert values[0] == 0.5


def test_a_root_alone_is_its_own_leaf():
    values, stds = tree_values([-1], [1.0])
    assert (values.tolist(), stds.tolist(), tree_advantages([-1], values, stds).tolist()) == ([1.0], [0.0], [0.0])


def test_trees_side_by_side_do_not_touch():
    values, stds = tree_values([-1, -1, 0, 0, 1, 1], [NAN, NAN, 1, 0, 1, 1])
    assert values[:2].tolist() == [0.5, 1.0]
    assert tree_advantages([-1, -1, 0, 0, 1, 1], values, stds).tolist() == [0, 0, 0.5, -0.5, 0, 0]


def test_no_nodes_at_all():
    values, stds = tree_values([], [])
    assert tree_advantages([], values, stds).shape == values.shape == stds.shape == (0,)


@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3, 1 / 9, -2.0])
def test_equal_siblings_earn_exactly_nothing(value):
    parents, rewards = [-1] + [0] * 6, [NAN] + [value] * 6
    for divide in (False, True):
        assert not tree_advantages(parents, *tree_values(parents, rewards), divide).any()


def test_a_child_worth_exactly_the_mean_earns_exactly_nothing():
    # The mean of 0, 1/6, 2/6 and 5/6 is 2/6, but that of the four doubles is 0.33333333333333337.
    parents, rewards = [-1, 0, 0, 0, 0], [NAN, 0, 1 / 6, 2 / 6, 5 / 6]
    for divide in (False, True):
        assert tree_advantages(parents, *tree_values(parents, rewards), divide)[3] == 0.0


@pytest.mark.parametrize(
    ("parents", "rewards", "message"),
    [
        ((0, 0), (NAN, 1), "node 0: its parent 0 must come before it"),
        ((-2,), (1,), "node 0: its parent -2"),
        ((-1, 2, 0), (NAN, NAN, 1), "must come before"),
        ((-1, 0), (NAN,), "rewards of shape"),
        ((-1, 0), (NAN, NAN), "a leaf needs a reward"),
        ((-1, 0), (1, 1), "an inner node must have none"),
    ],
)
def test_malformed_trees_are_refused(parents, rewards, message):
    with pytest.raises(ValueError, match=message):
        tree_values(parents, rewards)


@st.composite
def trees(draw) -> tuple[list[int], list[float]]:
    """Parents and leaf rewards of a few trees side by side."""
    size = draw(st.integers(1, 25))
    parents = [draw(st.integers(-1, node - 1)) for node in range(size)]
    reward = st.sampled_from([0.0, 1.0, -2.0])
    return parents, [NAN if node in parents else draw(reward) for node in range(size)]


@given(trees())
def test_a_value_is_the_mean_of_the_children(tree):
    parents, rewards = tree
    values, stds = tree_values(parents, rewards)
    for node in range(len(parents)):
        children = [child for child, parent in enumerate(parents) if parent == node]
        if children:
            assert values[node] == pytest.approx(values[children].mean(), abs=1e-12)
            assert stds[node] == pytest.approx(values[children].std(), abs=1e-12)
        else:
            assert (values[node], stds[node]) == (rewards[node], 0.0)


@given(trees(), st.booleans())
def test_sibling_advantages_sum_to_nothing(tree, divide):
    parents, rewards = tree
    advantages = tree_advantages(parents, *tree_values(parents, rewards), divide)
    assert np.isfinite(advantages).all()
    for node in range(len(parents)):
        assert advantages[[child for child, parent in enumerate(parents) if parent == node]].sum() == pytest.approx(0.0)
        assert parents[node] >= 0 or advantages[node] == 0.0


@given(trees())
def test_advantages_along_a_path_telescope(tree):
    parents, rewards = tree
    values, stds = tree_values(parents, rewards)
    advantages = tree_advantages(parents, values, stds)
    for node in range(len(parents)):
        total, here = 0.0, node
        while parents[here] >= 0:
            total, here = total + advantages[here], parents[here]
        assert total == pytest.approx(values[node] - values[here], abs=1e-9)
