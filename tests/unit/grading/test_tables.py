r"""Hand-labelled responses: `correct <tab> reference <tab> response` (⏎ is a line end), by grader in `*.tsv`.

References of `math.tsv` are answers of MATH; right and wrong forms of each were written and labelled by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from spo.grading import GRADERS

PUZZLE = "(1) Zoey is a knight\n(2) Oliver is a knave\n(3) Sam is a knave"
LEAST = {"gsm8k": 150, "math": 300, "knights": 30}


def rows(grader: str) -> list[tuple[bool, str, str]]:
    text = (Path(__file__).parent / f"{grader}.tsv").read_text(encoding="utf-8")
    cells = [line.split("\t") for line in text.splitlines()]
    return [(row[0] == "1", row[-2] if len(row) == 3 else PUZZLE, row[-1].replace("⏎", "\n")) for row in cells]


CASES = [(grader, *row) for grader in LEAST for row in rows(grader)]


@pytest.mark.parametrize(("grader", "correct", "answer", "response"), CASES)
def test_labelled_by_hand(grader, correct, answer, response):
    assert GRADERS[grader].grade(answer, response).correct == correct


def test_there_are_enough_of_both_kinds():
    for grader, least in LEAST.items():
        labels = [correct for name, correct, *_ in CASES if name == grader]
        assert len(labels) >= least
        assert min(labels.count(True), labels.count(False)) >= least // 4
