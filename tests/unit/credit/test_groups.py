"""GRPO and RLOO: golden values of the official code (spec §4.1-4.2) and invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.groups import group_advantages

SCORES = [1, 0, 0, 0, 1, 1, 0, 0]


def test_grpo_golden():
    expected = [1.290994 if score else -0.774597 for score in SCORES]
    assert group_advantages(SCORES).tolist() == pytest.approx(expected, abs=1e-6)


def test_rloo_golden():
    expected = [0.714286 if score else -0.428571 for score in SCORES]
    assert group_advantages(SCORES, "leave_one_out", divide_by_std=False).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("rewards", [[], [1.0], [0.1] * 7, [1 / 3] * 6, [-2.0] * 2])
def test_equal_rewards_earn_exactly_nothing(rewards, baseline, divide):
    advantages = group_advantages(rewards, baseline, divide)
    assert advantages.shape == (len(rewards),) and advantages.dtype == np.float64
    alone = len(rewards) == 1 and baseline == "leave_one_out" and not divide
    assert alone or not advantages.any()


@pytest.mark.parametrize("reward", [1.0, 0.0, -2.0])
def test_rloo_of_a_single_response_is_its_reward(reward):
    """The official code takes 0 for the mean of no others."""
    assert group_advantages([reward], "leave_one_out", divide_by_std=False).tolist() == [reward]


groups = st.lists(st.sampled_from([0.0, 1.0, -2.0]), min_size=2, max_size=12)


@given(groups, st.sampled_from(["mean", "leave_one_out"]), st.booleans())
def test_group_advantages_sum_to_nothing(rewards, baseline, divide):
    assert group_advantages(rewards, baseline, divide).sum() == pytest.approx(0.0, abs=1e-9)


@given(groups)
def test_rloo_is_grpo_without_std_times_n_over_n_minus_1(rewards):
    n = len(rewards)
    mean = group_advantages(rewards, "mean", divide_by_std=False)
    assert group_advantages(rewards, "leave_one_out", divide_by_std=False) == pytest.approx(mean * n / (n - 1))
    # Leave-one-out by its definition.
    others = [(sum(rewards) - own) / (n - 1) for own in rewards]
    assert mean * n / (n - 1) == pytest.approx(np.subtract(rewards, others), abs=1e-12)


@given(groups)
def test_divided_advantages_have_unit_deviation(rewards):
    advantages = group_advantages(rewards)
    assert advantages.std() == pytest.approx(1.0 if len(set(rewards)) > 1 else 0.0, abs=1e-6)
