from __future__ import annotations

import pandas as pd

from spo.analysis import texts, typeset
from spo.analysis.typeset import Made

CELLS = pd.DataFrame({"method": ["GRPO", "", "PPO"], "what": ["a", "b_c", ""], "%": ["1.0", "2.0", "3.0"]})
MADE = Made(pd.DataFrame({"x": [0.123456789, 2]}), CELLS, "A caption.", words=("what",), bold=frozenset({1, 2}))


def test_markdown_aligns_words_left_and_numbers_right_and_marks_rows():
    assert typeset.markdown("Title", MADE).splitlines() == [
        *("**Title**", "", "| method | what | % |", "| --- | --- | ---: |"),
        *("| GRPO | a | 1.0 |", "|  | **b_c** | **2.0** |", "| **PPO** |  | **3.0** |", "", "A caption."),
    ]


def test_latex_wraps_words_and_marks_rows():
    lines = typeset.latex("50 %", "t", MADE).splitlines()
    assert r"\begin{tabular}{p{0.15\textwidth}p{0.15\textwidth}r}" in lines
    assert r"\caption{50 \%. A caption.}" in lines
    assert r" & \textbf{b\_c} & \textbf{2.0} \\" in lines
    assert r"\begin{tabular}{lrr}" in typeset.latex("T", "t", MADE._replace(words=()))


def test_files_come_out_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        typeset.write("t", "T", MADE, tmp_path / name / "t")
    for suffix in ("md", "csv", "tex", "json"):
        assert (tmp_path / f"a/t.{suffix}").read_bytes() == (tmp_path / f"b/t.{suffix}").read_bytes()
    assert (tmp_path / "a/t.csv").read_text() == "x\n0.123457\n2\n"


def test_latex_escapes_what_it_would_obey():
    assert texts.latex(r"a_b 5% {x} $ & # ^ ~ \ – − ± §") == (
        r"a\_b 5\% \{x\} \$ \& \# \textasciicircum{} \textasciitilde{} \textbackslash{} -- $-$ $\pm$ \S{}"
    )
