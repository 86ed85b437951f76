"""Graders of mathematical answers: the final answer of the response against a reference in LaTeX."""

from __future__ import annotations

from spo.grading import equal
from spo.grading.final import final_answers
from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING, shown
from spo.types import Verdict


def mathematics(answer: str, response: str) -> Verdict:
    r"""Correct if the response's final answer is mathematically the reference, however either is written.

    The final answer is the last box, or else what a `####` line, "the answer is" or the last formula says; with
    several boxes in one line, all of them may answer for a list. See `equal` for what is the same.

    >>> mathematics(r"\frac{1}{2}", r"Thus $x = \boxed{0.5}$.")
    Verdict(correct=True, extracted='0.5', reason='equal')
    """
    found = final_answers(response)
    if not found:
        return Verdict(False, None, MISSING)
    outcome = DIFFERENT
    for candidate in found:
        outcome = equal.compare(answer, candidate)
        if outcome != DIFFERENT:
            return Verdict(outcome == EQUAL, shown(candidate), outcome)
    return Verdict(False, shown(found[0]), outcome)


def aime(answer: str, response: str) -> Verdict:
    r"""As `mathematics`; an answer is a whole number from 000 to 999, whose leading zeros do not count.

    >>> aime("025", r"so $\boxed{25}$").correct, aime("25", r"\boxed{25.5}").correct
    (True, False)
    """
    return mathematics(answer.strip().lstrip("0") or "0", response)
