"""The replay buffer, by hand and by its invariants."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spo.methods.replay import draw
from spo.settings import Replay, Tree
from spo.types import Episode


def episode(problem: str, number: int) -> Episode:
    return Episode(problem, (1,), (number,), (-0.5,), (1.0,))


def tree(limit: int = 100, fill: bool = False, **replay) -> Tree:
    return Tree(episodes_per_iteration=limit, fill_by_repeating=fill, replay=Replay(**replay) if replay else None)


def test_a_problem_offers_at_most_its_quota_and_the_rest_waits():
    offered = tuple((5, episode("a", i)) for i in range(6)) + ((5, episode("b", 9)),)
    used, kept = draw(offered, tree(max_per_problem=4), 5, np.random.default_rng(0))
    assert Counter(e.problem_id for e in used) == {"a": 4, "b": 1}
    assert sorted([e.response_ids for e in used] + [e.response_ids for _, e in kept]) == [
        (0,),
        (1,),
        (2,),
        (3,),
        (4,),
        (5,),
        (9,),
    ]


def test_old_segments_are_dropped_at_the_age_that_is_too_old():
    offered = tuple((made, episode(str(made), made)) for made in (1, 2, 3))
    used, kept = draw(offered, tree(max_age_iterations=2), 4, np.random.default_rng(0))
    assert [e.problem_id for e in used] == ["3"] and kept == ()


def test_surplus_returns_or_is_lost():
    offered = tuple((1, episode("a", i)) for i in range(10))
    for keep, left in ((True, 7), (False, 0)):
        used, kept = draw(offered, tree(limit=3, keep_surplus=keep), 1, np.random.default_rng(0))
        assert len(used) == 3 and len(kept) == left


def test_without_buffer_nothing_stays():
    used, kept = draw(tuple((1, episode("a", i)) for i in range(50)), tree(limit=40), 1, np.random.default_rng(0))
    assert len(used) == 40 and kept == ()


def test_filling_repeats_what_there_is():
    used, _ = draw(((1, episode("a", 1)), (1, episode("a", 2))), tree(limit=5, fill=True), 1, np.random.default_rng(0))
    assert sorted(Counter(e.response_ids for e in used).values()) == [2, 3]
    assert draw((), tree(limit=5, fill=True), 1, np.random.default_rng(0)) == ((), ())


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc")), max_size=40),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 8),
)
def test_nothing_is_used_twice_or_invented(rows, limit, quota, age):
    offered = tuple((made, episode(problem, i)) for i, (made, problem) in enumerate(rows))
    settings = tree(limit=limit, max_per_problem=quota, max_age_iterations=age)
    used, kept = draw(offered, settings, 9, np.random.default_rng(1))
    everything = [e for e in used] + [e for _, e in kept]
    fresh = {e.response_ids for made, e in offered if 9 - made < age}
    assert {e.response_ids for e in everything} == fresh and len(everything) == len(fresh)
    assert len(used) <= limit and all(n <= quota for n in Counter(e.problem_id for e in used).values())
