"""SPO-chain advantages: golden values of the official code (spec §2.2, §11.2, §4.4) and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.chain import chain_advantages, segment_advantages, value_cuts, zero_confident
from spo.credit.partition import cutpoint_interval as partition_by_interval
from spo.credit.partition import cutpoints, fixed_count, lines
from spo.settings import Partition


def official(probabilities, interval, estimates, reward) -> list[float]:
    """The chain method as the official code has it: first segment without value, confident tokens without advantage."""
    logprobs = [math.log(p) for p in probabilities]
    cuts = partition_by_interval(logprobs, [], Partition(interval=interval))
    estimated = value_cuts(cuts, "zero", 0 in cutpoints(logprobs))
    assert len(estimated) == len(estimates)
    known = dict(zip(estimated, estimates, strict=True)) | {cuts[-1]: reward}
    return zero_confident(chain_advantages(cuts, [known.get(c) for c in cuts]), logprobs).tolist()


@pytest.mark.parametrize(
    ("probabilities", "interval", "estimates", "reward", "expected"),
    [
        (
            (0.99, 0.2, 0.99, 0.3, 0.4, 0.5, 0.6, 0.99, 0.7, 0.8),
            5,
            (0.25, 0.75),
            1,
            (0, 0.5, 0, 0.5, 0.5, 0.5, 0.5, 0, 0.25, 0.25),
        ),
        ((0.5,) * 7, 5, (0.3, 0.6), 1, (0.3,) * 5 + (0.4,) * 2),
        ((0.95,) * 4, 5, (), 1, (0,) * 4),
        (
            (0.99, 0.5, 0.99, 0.9, 0.89, 0.91, 0.3, 0.99),
            2,
            (1 / 9, 4 / 9),
            0,
            (0, 1 / 3, 0, 1 / 3, 1 / 3, 0, -4 / 9, 0),
        ),
        ((0.9, 0.95, 0.99, 0.5), 5, (0.5,), 1, (0, 0, 0, 0.5)),
    ],
)
def test_official_advantages(probabilities, interval, estimates, reward, expected):
    assert official(probabilities, interval, estimates, reward) == pytest.approx(expected, abs=1e-12)


def test_paper_estimates_the_start_too():
    cuts = (0, 2, 5, 6)
    assert value_cuts(cuts) == (0, 2, 5)
    # V(s_0) = .5 gives the two tokens before the first cutpoint .25 - .5.
    assert chain_advantages(cuts, (0.5, 0.25, 0.75, 1.0)).tolist() == [-0.25, -0.25, 0.5, 0.5, 0.5, 0.25]


def test_naive_partition_has_no_advantage_in_its_first_segment():
    cuts = fixed_count([0.0] * 10, [], Partition(segments=4))
    assert value_cuts(cuts, "zero") == (3, 6, 8)
    expected = [0, 0, 0, 0.5, 0.5, 0.5, -0.25, -0.25, 0.5, 0.5]
    assert chain_advantages(cuts, (None, 0.25, 0.75, 0.5, 1.0)).tolist() == expected


def test_naive_partition_rates_the_end_of_a_short_response_as_officially():
    """Spec §2.3: three tokens in four parts; the value 1/3 at the last boundary stands in the place of the reward."""
    cuts = fixed_count([0.0] * 3, [], Partition(segments=4))
    assert chain_advantages(cuts, (None, 0.5, 0.25, 1 / 3)).tolist() == [0.0, -0.25, pytest.approx(1 / 3 - 0.25)]


def test_vineppo_example():
    # Four lines; values at the prompt and after lines 1 and 2; the value after line 3 is filled with the reward 1.
    cuts = lines([0.0] * 8, ["ab", "c", "\nd", "e", "\nf", "g", "\nh", "i"], Partition())
    assert value_cuts(cuts) == (0, 2, 4, 6)
    assert segment_advantages((0.2, 0.5, 0.4, 1.0, 1.0)).tolist() == pytest.approx([0.3, -0.1, 0.6, 0.0])


def test_without_a_cutpoint_nothing_is_estimated_and_nothing_earned():
    assert value_cuts((0, 4), "zero") == ()
    assert chain_advantages((0, 4), (None, 1.0)).tolist() == [0.0] * 4


def test_empty_response():
    assert value_cuts((0,)) == value_cuts((0,), "zero") == value_cuts((0,), "zero", True) == ()
    assert chain_advantages((0,), (1.0,)).shape == (0,)


def test_confident_means_strictly_above_the_threshold():
    advantages = np.full(3, 0.5)
    assert zero_confident(advantages, np.log([0.9, 0.95, 0.1])).tolist() == [0.5, 0.0, 0.5]
    assert zero_confident(advantages, np.log([0.9, 0.95, 0.1]), 0.0).tolist() == [0.0, 0.0, 0.0]
    assert advantages.tolist() == [0.5] * 3


@pytest.mark.parametrize("values", [(), (0.5, None), (0.5, None, 1.0), (None, None, 1.0)])
def test_missing_values_are_refused(values):
    with pytest.raises(ValueError, match="value"):
        segment_advantages(values)


def test_cuts_and_values_must_match():
    with pytest.raises(ValueError, match="3 cuts but 2 values"):
        chain_advantages((0, 1, 2), (0.5, 1.0))


@st.composite
def chains(draw) -> tuple[tuple[int, ...], list[float]]:
    tokens = draw(st.integers(1, 20))
    inner = draw(st.sets(st.integers(1, tokens)))
    cuts = tuple(sorted({0, tokens, *inner}))
    value = st.integers(-18, 9).map(lambda wins: wins / 9)
    return cuts, draw(st.lists(value, min_size=len(cuts), max_size=len(cuts)))


@given(chains())
def test_advantages_telescope_to_reward_minus_value_of_the_start(chain):
    cuts, values = chain
    assert segment_advantages(values).sum() == pytest.approx(values[-1] - values[0])
    assert segment_advantages([None, *values[1:]]).sum() == pytest.approx(
        values[-1] - values[1] if len(values) > 2 else 0.0
    )


@given(chains())
def test_advantages_are_constant_within_a_segment(chain):
    cuts, values = chain
    advantages = chain_advantages(cuts, values)
    assert advantages.shape == (cuts[-1],) and advantages.dtype == np.float64
    for k, (start, end) in enumerate(zip(cuts, cuts[1:], strict=False)):
        assert set(advantages[start:end].tolist()) == {values[k + 1] - values[k]}


@given(st.integers(1, 20), st.floats(-2, 1), st.floats(-2, 1))
def test_one_segment_is_trajectory_level(tokens, start, reward):
    assert chain_advantages((0, tokens), (start, reward)).tolist() == [reward - start] * tokens
