"""Pages are shared while somebody holds them and never lost; the rest is checked through the engine."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from spo.policy import pages


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=40))
def test_no_page_is_given_twice_or_lost(acts):
    """Takes of some pages, each with some more holders, who let go in the end."""
    pool = pages.Pool(1 << 20)
    held, seen = [], set()
    for count, more in acts:
        ids = pool.take(count)
        assert len(ids) == count and not set(ids.tolist()) & seen
        seen |= set(ids.tolist())
        for _ in range(more):
            pool.hold(ids)
        held.append((ids, more + 1))
        if len(held) > 3:
            old, times = held.pop(0)
            for left in range(times, 0, -1):
                assert pool.held == len(seen)
                pool.release(old)
                if left == 1:
                    seen -= set(old.tolist())
        assert pool.held == len(seen)
    for ids, times in held:
        pool.release(np.tile(ids, times))
    assert pool.held == 0
    everything = pool.take(len(pool.addresses) << pool.slab_shift)
    assert len(set(everything.tolist())) == len(everything)


def test_an_extended_chain_goes_on_with_an_empty_page():
    chains = pages.chains([([3], [16]), ([4, 5], [16, 2])])
    longer = pages.extended(chains, np.array([0]), np.array([9]))
    assert longer.pages[0, :2].tolist() == [3, 9] and longer.counts[0, :2].tolist() == [16, 0]
    assert longer.used.tolist() == [2, 2]
    wider = pages.extended(longer, np.array([1]), np.array([8]))
    assert wider.pages[1, :3].tolist() == [4, 5, 8] and wider.used.tolist() == [2, 3]
    assert sorted(wider.entries().tolist()) == [3, 4, 5, 8, 9]


def test_rows_of_different_width_are_joined():
    both = pages.joined(pages.chains([([3], [16])]), pages.chains([([4, 5], [16, 2])]))
    assert both.pages.tolist() == [[3, 0], [4, 5]] and both.used.tolist() == [1, 2]
    assert pages.joined(pages.chains([]), both).counts.tolist() == both.counts.tolist()
