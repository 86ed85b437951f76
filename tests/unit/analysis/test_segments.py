"""The picture of one response: what is written where, and every mark that a reader looks for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from spo.analysis import style
from spo.analysis.segments import BLUE, GAIN, LINE_CHARACTERS, LOSS, RED, place, segments, token_table
from spo.analysis.slices import Figure
from spo.errors import UserError
from tests import traced


@pytest.fixture
def draw(tmp_path):
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/t.json").write_text(json.dumps(traced.trace()), encoding="utf-8")

    def make(**options):
        with style.styled():
            settings = Figure(draw="segments", title="A response", files=("traces/t.json",), options=options)
            return segments(settings, tmp_path)

    return make


def test_every_mark_is_there(draw):
    drawn = draw()
    (page,) = drawn.canvas.axes
    colours = {text.get_text(): to_hex(text.get_color()).upper() for text in page.texts}
    assert colours["7"] == colours['"yes"'] == RED.upper() and colours["so"] == style.INK.upper()
    assert colours["\u22120.25"] == LOSS.upper() and colours["+0.75"] == GAIN.upper()
    bars = [line for line in page.lines if to_hex(line.get_color()).upper() == BLUE.upper()]
    assert len(bars) == 2 + 1  # one a segment, and one in the legend
    assert "∎ reward 1" in colours and "↵" in colours
    assert "mean of 4 rollouts" in drawn.caption and "reward 1" in drawn.caption


def test_the_table_has_a_row_a_token(draw):
    table = token_table(traced.finished()["chain"])
    assert table["segment"].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert table["cutpoint"].tolist() == [True, False, False, True, False, True, False]
    assert table["value_before"].tolist() == [0.5] * 3 + [0.25] * 4
    assert table["advantage"].tolist() == [-0.25] * 3 + [0.75] * 4
    assert draw().table.equals(table)
    assert np.isnan(token_table(traced.cut_off()["chain"])["value_before"]).all()


def test_a_response_without_cutpoints_that_was_cut_off(draw):
    drawn = draw(problem=1)
    written = [text.get_text() for text in drawn.canvas.axes[0].texts]
    assert "cut off reward 0" in written and "∎" not in written and "0" in written


def test_a_problem_that_is_not_there(draw):
    with pytest.raises(UserError, match=r"options\.problem is 2, but the trace has problems 0 to 1"):
        draw(problem=2)


@given(st.lists(st.text("ab \n", max_size=6), max_size=60), st.booleans())
def test_text_stays_on_the_page_and_in_order(tokens, finished):
    placed = place(tokens, finished)
    assert [each.token for each in placed] == list(range(len(tokens)))
    ends = [(each.line, each.column + len(each.text)) for each in placed]
    assert all(end <= LINE_CHARACTERS for _, end in ends)
    for (line, end), after in zip(ends, placed[1:], strict=False):
        assert (after.line, after.column) in {(line, end), (line + 1, 0)}
