"""Where steps end: VinePPO's rule about the conclusion, whatever the tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.partition import lines
from spo.credit.steps import step_ends
from spo.settings import Partition


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], ()),
        (["a", "\n", "b", "\n", "c"], (1, 3)),
        (["a", "\n", "b", "\n", "####", " 3"], (1,)),
        (["a", "\n", "\n", "####", " 3"], ()),
        (["a", "\n", " ", "##", "##", " 3"], ()),
        (["a", ".\n", "b\n", "#### 3", "\n", "c"], (1, 4)),
        (["a", "\n####", " 3"], ()),
        (["a", "\n", "### 3"], (1,)),
        (["a", "\n"], (1,)),
    ],
)
def test_ends(pieces, expected):
    assert step_ends(pieces) == expected


def test_the_conclusion_belongs_to_the_last_step():
    pieces = ["1+1", "=2", "\n", "2+1", "=3", "\n", "####", " 3"]
    assert lines([0.0] * 8, step_ends(pieces), Partition()) == (0, 3, 8)


@given(st.lists(st.sampled_from(["a", "\n", "##", "####", " "]), max_size=12))
def test_only_line_ends_before_no_conclusion(pieces):
    for position in range(len(pieces)):
        rest = "".join(pieces[position + 1 :]).lstrip()
        ends = pieces[position] == "\n" and not rest.startswith("####")
        assert (position in step_ends(pieces)) == ends
