from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spo.grading import GRADERS, reward
from spo.types import Verdict

# grader, answer, response, correct, extracted, reason
CASES = [
    ("final_line", "85", "47 + 38: so 85.\n#### 85", True, "85", "equal"),
    ("final_line", "85", "#### 58\n#### 85", True, "85", "equal"),
    ("final_line", "85", "#### 85\n#### 58", False, "58", "different"),
    ("final_line", "85", "so 85.", False, None, "no answer"),
    ("final_line", "85", "so 85.\n####", False, None, "no answer"),
    ("final_line", "85", "####   \n\n", False, None, "no answer"),
    ("final_line", "85", "", False, None, "no answer"),
    ("final_line", "85", "### 85", False, None, "no answer"),
    ("final_line", "85", "####85.", True, "85", "equal"),
    ("final_line", "85", "#### 085", False, "085", "different"),
    ("final_line", "85", "#### 85\nand more", True, "85", "equal"),
    (
        "final_line",
        "Ann knight, Ben knave",
        "#### ANN knight,   Ben\tknave.",
        True,
        "ANN knight,   Ben\tknave",
        "equal",
    ),
    ("final_line", "Ann knight, Ben knave", "#### Ben knave, Ann knight", False, "Ben knave, Ann knight", "different"),
    ("final_line", "Ann knight, Ben knave", "#### Ann knight, Ben", False, "Ann knight, Ben", "different"),
    ("gsm8k_official", "1080", "#### 1,080", True, "1,080", "equal"),
    ("gsm8k_official", "1,080", "#### 1,080", False, "1,080", "different"),
    ("gsm8k_official", "1,080", "#### 1080", False, "1080", "different"),
    ("gsm8k_official", "5", "#### 5.0", False, "5.0", "different"),
    ("gsm8k_official", "5", "#### $5", False, "$5", "different"),
    ("gsm8k_official", "5", "#### 5 ", True, "5", "equal"),
    ("gsm8k_official", "5", "#### 5\nmore", False, "5\nmore", "different"),
    ("gsm8k_official", "5", "#### 5\n#### 5", False, "5", "several conclusions"),
    ("gsm8k_official", "5", "########", False, "", "several conclusions"),
    ("gsm8k_official", "5", "5", False, None, "no answer"),
]


@pytest.mark.parametrize(("grader", "answer", "response", "correct", "extracted", "reason"), CASES)
def test_verdicts(grader, answer, response, correct, extracted, reason):
    assert GRADERS[grader].grade(answer, response) == Verdict(correct, extracted, reason)


@settings(deadline=None)  # the first question starts a worker
@given(st.sampled_from(sorted(GRADERS)), st.text(max_size=20), st.text(max_size=200))
def test_any_text_gets_a_verdict(grader, answer, response):
    verdict = GRADERS[grader].grade(answer, response)
    reasons = {"equal", "different", "no answer", "several conclusions"}
    assert verdict.reason in reasons | ({"error", "timeout", "memory"} if grader == "math_verify" else set())
    assert verdict.correct == (verdict.reason == "equal")
    assert verdict.extracted is None or len(verdict.extracted) <= 200


@given(st.integers(-(10**9), 10**9))
def test_every_way_to_write_a_whole_number(number):
    for written in (f"{number}", f"{number:,}", f"{number}.", f"{number}.00", f" {number} "):
        for gold in (f"{number}", f"{number:,}"):
            assert GRADERS["gsm8k"].grade(gold, f"So\n#### {written}").correct
    assert not GRADERS["gsm8k"].grade(str(number), f"#### {number + 1}").correct


def test_rewards():
    assert reward(GRADERS["gsm8k"].grade("5", "#### 5")) == 1.0
    assert reward(GRADERS["gsm8k"].grade("5", "#### 6")) == 0.0
    assert reward(GRADERS["gsm8k"].grade("5", "none")) == 0.0
    assert reward(GRADERS["gsm8k"].grade("5", "#### 4\n#### 5")) == 1.0
    assert reward(GRADERS["gsm8k_official"].grade("5", "#### 5\n#### 5")) == -2.0


def test_names_and_versions():
    assert all(grader.name == name and grader.version >= 1 for name, grader in GRADERS.items())
