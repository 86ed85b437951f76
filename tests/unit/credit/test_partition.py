"""Cuts: golden values of the official partition (spec §2.2-2.3) and the properties every partition must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.partition import PARTITIONS, cutpoints
from spo.settings import Partition


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def cut(name: str, logprobs, pieces=None, **keys) -> tuple[int, ...]:
    return PARTITIONS[name](logprobs, [""] * len(logprobs) if pieces is None else pieces, Partition(name=name, **keys))


@pytest.mark.parametrize(
    ("probabilities", "interval", "expected"),
    [
        # Official boundaries are the last token before a cut, so one less: 0 and 7; -1 and 4; none; 0 and 5; 2.
        ((0.99, 0.2, 0.99, 0.3, 0.4, 0.5, 0.6, 0.99, 0.7, 0.8), 5, (0, 1, 8, 10)),
        ((0.5,) * 7, 5, (0, 5, 7)),
        ((0.95,) * 4, 5, (0, 4)),
        ((0.99, 0.5, 0.99, 0.9, 0.89, 0.91, 0.3, 0.99), 2, (0, 1, 6, 8)),
        ((0.9, 0.95, 0.99, 0.5), 5, (0, 3, 4)),
        ((0.5, 0.5, 0.5), 1, (0, 1, 2, 3)),
        ((0.99, 0.5, 0.4, 0.99, 0.3), 100, (0, 1, 5)),
    ],
)
def test_cutpoint_interval(probabilities, interval, expected):
    assert cut("cutpoint_interval", logs(*probabilities), interval=interval) == expected


def test_threshold_is_strict_and_a_setting():
    probabilities = logs(0.9, 0.8999, 0.5)
    assert cutpoints(probabilities, 0.9) == (1, 2)
    assert cutpoints(probabilities, 0.6) == (2,)
    assert cutpoints(probabilities, 0.0) == ()
    assert cutpoints([*probabilities, 0.0], 1.0) == (0, 1, 2)
    # The same log-probability in float32 and float64 falls on the same side.
    assert cutpoints(np.log([0.9]).astype(np.float32), 0.9) == cutpoints(np.log([0.9]), 0.9) == ()


@pytest.mark.parametrize(
    ("cutpoint_positions", "segments", "expected"),
    [
        ((1, 3, 5, 7), 2, (0, 5, 9)),  # two cutpoints each: {1, 3} and {5, 7}
        ((0, 2, 4, 6, 8), 2, (0, 6, 9)),  # three and two
        ((2, 4), 4, (0, 4, 9)),  # fewer cutpoints than segments: one each
        ((4,), 4, (0, 9)),
        ((), 4, (0, 9)),
    ],
)
def test_cutpoint_count(cutpoint_positions, segments, expected):
    probabilities = [0.5 if t in cutpoint_positions else 0.99 for t in range(9)]
    assert cut("cutpoint_count", logs(*probabilities), segments=segments) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    # Official boundaries 2 5 7, 2 5 8, 0 1 2; the last of the third is the end of the response itself.
    [(10, (0, 3, 6, 8, 10)), (12, (0, 3, 6, 9, 12)), (3, (0, 1, 2, 3)), (1, (0, 1))],
)
def test_fixed_count(tokens, expected):
    assert cut("fixed_count", [0.0] * tokens, segments=4) == expected


def test_fixed_tokens():
    assert cut("fixed_tokens", [0.0] * 7, tokens=3) == (0, 3, 6, 7)
    assert cut("fixed_tokens", [0.0] * 6, tokens=3) == (0, 3, 6)
    assert cut("fixed_tokens", [0.0] * 2, tokens=30) == (0, 2)


def test_fixed_count_has_the_official_boundaries():
    """Spec §2.3: the last token before each boundary; where T < parts also the last token of the response."""
    for tokens, boundaries in ((10, (2, 5, 7)), (12, (2, 5, 8)), (3, (0, 1, 2))):
        cuts = cut("fixed_count", [0.0] * tokens, segments=4)
        assert tuple(c - 1 for c in cuts[1 : len(boundaries) + 1]) == boundaries


partitions = st.builds(
    Partition,
    name=st.sampled_from(sorted(PARTITIONS)),
    interval=st.integers(1, 6),
    segments=st.integers(1, 6),
    tokens=st.integers(1, 6),
    threshold=st.floats(0, 1),
)
responses = st.lists(st.floats(-8, 0, width=32), max_size=25)


@given(partitions, responses, st.data())
def test_cuts_cover_the_response_exactly(partition, logprobs, data):
    piece = st.sampled_from(["a", "\n", "b.\n", " C", ""])
    pieces = data.draw(st.lists(piece, min_size=len(logprobs), max_size=len(logprobs)))
    cuts = PARTITIONS[partition.name](logprobs, pieces, partition)
    assert cuts[0] == 0 and cuts[-1] == len(logprobs)
    assert list(cuts) == sorted(set(cuts))
    assert all(type(position) is int for position in cuts)


@given(partitions)
def test_an_empty_response_has_one_cut_and_no_segment(partition):
    assert PARTITIONS[partition.name]([], [], partition) == (0,)


@given(responses, st.integers(1, 6))
def test_interval_segments_hold_interval_cutpoints(logprobs, interval):
    cuts = cut("cutpoint_interval", logprobs, interval=interval)
    found = cutpoints(logprobs)
    counts = [sum(a <= t < b for t in found) for a, b in zip(cuts, cuts[1:], strict=False)]
    after_first = counts[1:] if counts and counts[0] == 0 else counts
    assert all(count == interval for count in after_first[:-1])
    assert all(0 < count <= interval for count in after_first[-1:])


@given(responses, st.integers(1, 6))
def test_count_segments_hold_equal_numbers_of_cutpoints(logprobs, segments):
    cuts = cut("cutpoint_count", logprobs, segments=segments)
    found = cutpoints(logprobs)
    counts = [sum(a <= t < b for t in found) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert len(counts) <= segments
    assert not counts or max(counts) - min(counts) <= 1


@given(responses)
def test_settings_that_must_coincide(logprobs):
    tokens = len(logprobs)
    assert cut("fixed_tokens", logprobs, tokens=1) == cut("every_token", logprobs)
    assert cut("fixed_count", logprobs, segments=1) == cut("whole", logprobs) == cut("lines", logprobs)
    assert cut("cutpoint_interval", logprobs, threshold=0.0) == cut("whole", logprobs)
    assert cut("every_token", logprobs) == tuple(range(tokens + 1))
