"""Pairs labelled by hand, each with a reason: adversarial ones, and the styles of real responses (docs/graders.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spo.grading import GRADERS

#: pairs on which the grader is known to disagree with the label
KNOWN = {
    ("5", r"\boxed{5^{}}"),
    ("42", r"$\boxed{42 \text{ (or } 2 \times 21)}$"),
    (r"(-\infty, 0) \cup (0, \infty)", r"\boxed{\text{all real numbers except } 0}"),
    (r"\$2.50", r"\boxed{250 \text{ cents}}"),
    ("5", "The answer is 5 more than 8, which is 13."),
}
PAIRS = [
    (row.get("grader", name), *(row[field] for field in ("label", "answer", "response", "reason")))
    for name in ("gsm8k", "math", "styles")
    for row in map(json.loads, (Path(__file__).parent / f"pairs_{name}.jsonl").read_text("utf-8").split("\n")[:-1])
]


@pytest.mark.parametrize(("grader", "label", "answer", "response", "reason"), PAIRS)
def test_labelled_before_graded(grader, label, answer, response, reason):
    agrees = GRADERS[grader].grade(answer, response).correct == label
    assert agrees == ((answer, response) not in KNOWN), reason


def test_there_are_enough_of_both_kinds_and_few_known_disagreements():
    assert len(PAIRS) >= 1_000
    assert sum(not label for _, label, *_ in PAIRS) >= 300
    assert len(KNOWN) <= 5
