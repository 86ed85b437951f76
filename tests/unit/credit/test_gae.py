"""Generalised advantage estimation: golden values of the official code (spec §4.3) and its two limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.gae import discounted_returns, gae

VALUES = [0.2, 0.4, 0.6]


def test_golden():
    assert gae([0, 0, 1], VALUES, lam=1.0).tolist() == pytest.approx([0.8, 0.6, 0.4])
    assert gae([0, 0, 1], VALUES, lam=0.95).tolist() == pytest.approx([0.751, 0.58, 0.4])


def test_empty_and_mismatched():
    assert gae([], []).shape == (0,)
    with pytest.raises(ValueError, match="2 rewards but 3 values"):
        gae([0, 1], VALUES)


def test_returns():
    assert discounted_returns([0, 0, 1]).tolist() == [1, 1, 1]
    assert discounted_returns([1, 0, 2], gamma=0.5).tolist() == [1.5, 1.0, 2.0]
    assert discounted_returns([]).shape == (0,)


numbers = st.floats(-2, 2)
steps = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12)


@given(steps, st.floats(0, 1))
def test_lambda_1_is_return_minus_value(pairs, gamma):
    rewards, values = map(list, zip(*pairs, strict=True))
    returns = [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]
    assert discounted_returns(rewards, gamma) == pytest.approx(returns, abs=1e-9)
    assert gae(rewards, values, gamma, 1.0) == pytest.approx(np.subtract(returns, values), abs=1e-9)


@given(steps, st.floats(0, 1))
def test_lambda_0_is_the_one_step_error(pairs, gamma):
    rewards, values = map(list, zip(*pairs, strict=True))
    following = [*values[1:], 0.0]
    expected = [r + gamma * after - before for r, after, before in zip(rewards, following, values, strict=True)]
    assert gae(rewards, values, gamma, 0.0) == pytest.approx(expected, abs=1e-9)
