"""The public reference solutions, graded against their own answers and against those of other problems."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction

import pytest

from spo.grading import GRADERS
from spo.grading.latex import flat
from spo.grading.parse import parse
from spo.grading.tokens import Unreadable


def read(path) -> list[dict]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


@pytest.fixture(scope="module")
def math(data_folder) -> list[tuple[str, str]]:
    rows = read(data_folder / "math/train.jsonl.gz") + read(data_folder / "math/test.jsonl.gz")
    return [(row["answer"], row["solution"]) for row in rows if row["answer"]]


@pytest.fixture(scope="module")
def gsm8k(data_folder) -> list[tuple[str, str]]:
    rows = read(data_folder / "gsm8k/train.jsonl.gz") + read(data_folder / "gsm8k/test.jsonl")
    return [(row["answer"].rpartition("####")[2].strip(), row["answer"]) for row in rows]


def others(pairs: list[tuple[str, str]], normal) -> list[tuple[str, str]]:
    """Each answer with the solution of a problem far away, where the two answers have different normal forms."""
    shifted = pairs[len(pairs) // 2 :] + pairs[: len(pairs) // 2]
    return [(a, solution) for (a, _), (b, solution) in zip(pairs, shifted, strict=True) if normal(a) != normal(b)]


def test_math_solutions_are_right(math):
    assert len(math) == 12_498
    wrong = [answer for answer, solution in math if not GRADERS["math"].grade(answer, solution).correct]
    assert wrong == []


def test_solutions_of_other_math_problems_are_wrong(math):
    pairs = others(math, flat)
    assert len(pairs) > 12_000
    verdicts = [GRADERS["math"].grade(answer, solution) for answer, solution in pairs]
    assert {verdict.reason for verdict in verdicts} <= {"equal", "different"}
    # What remains are equal values in other words, such as x=1 and 1.
    assert sum(verdict.correct for verdict in verdicts) <= 12


def test_the_grammar_reads_the_answers(math):
    unread = []
    for answer, _ in math:
        try:
            parse(answer)
        except Unreadable:
            unread.append(answer)
    assert unread == [r"\text{A5}_{11}"]


@pytest.fixture(scope="module")
def without_box(data_folder) -> list[tuple[str, str, str]]:
    """(answer, solution before the answer, solution after it) of test solutions with one box."""
    parted = [
        (row["answer"], *row["solution"].rpartition(r"\boxed{" + row["answer"] + "}"))
        for row in read(data_folder / "math/test.jsonl.gz")
    ]
    return [(answer, start, rest) for answer, start, box, rest in parted if box and r"\boxed" not in start]


def test_most_math_solutions_without_their_box_are_understood(without_box):
    """The last formula of a solution is not always its answer."""
    assert len(without_box) > 4_800
    wrong = [
        answer
        for answer, start, rest in without_box
        if not GRADERS["math"].grade(answer, start + answer + rest).correct
    ]
    assert len(wrong) <= 420


def test_few_math_solutions_that_break_off_before_their_answer_are_right(without_box):
    """Text that is cut off has no answer; its last number matches by luck, or since it is said before the box."""
    cut = [(answer, start[: int(0.8 * len(start))]) for answer, start, _ in without_box]
    assert sum(GRADERS["math"].grade(answer, text).correct for answer, text in cut) <= 80


def test_gsm8k_solutions_are_right(gsm8k):
    assert len(gsm8k) == 8_792
    assert [answer for answer, solution in gsm8k if not GRADERS["gsm8k"].grade(answer, solution).correct] == []


def test_solutions_of_other_gsm8k_problems_are_wrong(gsm8k):
    pairs = others(gsm8k, lambda answer: Fraction(answer.replace(",", "")))
    assert len(pairs) > 8_500
    assert not [answer for answer, solution in pairs if GRADERS["gsm8k"].grade(answer, solution).correct]


def test_gsm8k_solutions_without_their_mark_are_understood(gsm8k):
    """About half of the exceptions are solutions whose last sentence contradicts their answer."""
    graded = [GRADERS["gsm8k"].grade(answer, solution.rpartition("####")[0]).correct for answer, solution in gsm8k]
    assert graded.count(False) <= 50


def test_gsm8k_solutions_after_the_heading_answer_are_understood(gsm8k):
    """ "Answer:" at the head of the working is a heading: its first sentence is not the answer."""
    texts = [(answer, "Answer: " + solution.rpartition("####")[0]) for answer, solution in gsm8k]
    assert sum(not GRADERS["gsm8k"].grade(answer, text).correct for answer, text in texts) <= 60


def test_references_of_svamp_and_aime_are_right(data_folder):
    svamp = [row["answer"] for row in read(data_folder / "svamp/all.jsonl")]
    aime = [row["answer"] for row in read(data_folder / "aime24/test.jsonl")]
    assert len(svamp) == 1_000 and len(aime) == 30
    for grader, answers in (("gsm8k", svamp), ("math", svamp), ("aime", aime)):
        for form in ("{}", "The answer is {}.", r"Thus $\boxed{{{}}}$.", "<think>7</think>\n<answer>{}</answer>"):
            wrong = [answer for answer in answers if not GRADERS[grader].grade(answer, form.format(answer)).correct]
            assert wrong == [], (grader, form)
