"""Episodes in, padded tensors out, and which rows go together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spo import prefixes, seeds
from spo.batching import collate, micro_batches, shared_batches, shuffled_batches, take
from spo.errors import UserError
from spo.types import Episode

SHORT = Episode("short", (5,), (6, 7), (-0.5, -0.25), (1.0, -1.0))
LONG = Episode("long", (1, 2, 3), (4, 5), (-1.0, -2.0), (0.5, 0.25))


def test_column_j_describes_token_j_plus_1():
    batch = collate([SHORT, LONG], pad_id=9, ref_logprobs=[(-0.75, -0.5), (-1.5, -2.5)])
    assert batch.input_ids.tolist() == [[5, 6, 7, 9, 9], [1, 2, 3, 4, 5]]
    assert batch.lengths.tolist() == [3, 5]
    assert batch.response_mask.int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert batch.old_logprobs.tolist() == [[-0.5, -0.25, 0, 0], [0, 0, -1, -2]]
    assert batch.advantages.tolist() == [[1, -1, 0, 0], [0, 0, 0.5, 0.25]]
    assert batch.ref_logprobs.tolist() == [[-0.75, -0.5, 0, 0], [0, 0, -1.5, -2.5]]
    assert batch.input_ids[:, 1:][batch.response_mask].tolist() == [6, 7, 4, 5]
    assert (batch.input_ids.dtype, batch.advantages.dtype) == (torch.int64, torch.float32)


def test_an_empty_response_has_no_response_tokens():
    batch = collate([Episode("empty", (1, 2), (), (), ()), SHORT], pad_id=0)
    assert batch.lengths.tolist() == [2, 3]
    assert batch.response_mask.int().tolist() == [[0, 0], [1, 1]]
    assert collate([Episode("empty", (1,), (), (), ())], pad_id=0).response_mask.shape == (1, 0)


def test_misuse_is_refused():
    with pytest.raises(UserError, match="problem p1: its prompt has no tokens"):
        collate([Episode("p1", (), (4,), (-1.0,), (1.0,))], pad_id=0)
    with pytest.raises(ValueError, match="no episodes"):
        collate([], pad_id=0)
    with pytest.raises(ValueError, match="one number for each response token"):
        collate([SHORT], pad_id=0, ref_logprobs=[(-1.0,)])


def episode(row: int, prompt: int, response: int) -> Episode:
    spread = tuple(-0.1 * (row + t + 1) for t in range(response))
    return Episode(f"p{row}", tuple(range(prompt)), tuple(range(response)), spread, spread)


sizes = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=6)


@given(sizes, st.booleans(), st.data())
def test_take_equals_collating_those_episodes(shapes, with_reference, data):
    episodes = [episode(row, *shape) for row, shape in enumerate(shapes)]
    reference = [e.old_logprobs for e in episodes] if with_reference else None
    rows = data.draw(st.lists(st.integers(0, len(episodes) - 1), min_size=1, max_size=6))
    chosen = None if reference is None else [reference[row] for row in rows]
    expected = collate([episodes[row] for row in rows], 0, chosen)
    for ours, theirs in zip(take(collate(episodes, 0, reference), rows), expected, strict=True):
        assert (ours is theirs is None) or torch.equal(ours, theirs)


lengths_lists = st.lists(st.integers(1, 40), max_size=30)


@given(lengths_lists, st.integers(1, 120), st.none() | st.integers(1, 5), st.booleans())
def test_micro_batches_hold_everything_once_within_the_limits(lengths, max_tokens, max_episodes, sort):
    groups = micro_batches(lengths, max_tokens, max_episodes, sort)
    members = [index for group in groups for index in group]
    assert sorted(members) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= max_tokens
        assert max_episodes is None or len(group) <= max_episodes
    if sort:
        assert [lengths[index] for index in members] == sorted(lengths, reverse=True)
    else:
        assert members == list(range(len(lengths)))


def test_sorting_saves_padding():
    lengths = [10, 100] * 20
    padded = {
        sort: sum(len(g) * max(lengths[i] for i in g) for g in micro_batches(lengths, 400, sort=sort))
        for sort in (True, False)
    }
    assert padded == {True: sum(lengths), False: 40 * 100}


def distinct(rows) -> int:
    return len({row[:end] for row in rows for end in range(1, len(row) + 1)})


@given(
    st.lists(st.lists(st.integers(2, 3), min_size=1, max_size=8).map(tuple), max_size=20),
    st.integers(1, 40),
    st.none() | st.integers(1, 5),
)
def test_shared_batches_hold_everything_once_within_the_limits(rows, max_tokens, max_episodes):
    groups = shared_batches(prefixes.pad(rows), max_tokens, max_episodes)
    members = [index for group in groups for index in group]
    assert sorted(members) == list(range(len(rows)))
    assert [rows[i] for i in members] == sorted(rows)
    for group in groups:
        assert len(group) == 1 or distinct([rows[i] for i in group]) <= max_tokens
        assert max_episodes is None or len(group) <= max_episodes
    for group, following in zip(groups, groups[1:], strict=False):
        # A group ends only where the next row does not fit.
        fuller = [rows[i] for i in (*group, following[0])]
        assert len(group) == max_episodes or distinct(fuller) > max_tokens


@given(st.integers(0, 50), st.integers(1, 12), st.integers(0, 2**64 - 1))
def test_an_epoch_visits_everything_once(count, batch_size, key):
    batches = shuffled_batches(count, batch_size, key)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert batches == shuffled_batches(count, batch_size, key)


def test_the_order_depends_on_the_key():
    orders = {shuffled_batches(20, 20, seeds.key(1, "order", epoch))[0] for epoch in range(5)}
    assert len(orders) == 5
