"""Whether two single expressions have the same value: plain fractions here, everything else in a worker of `pool`."""

from __future__ import annotations

from fractions import Fraction

from spo.grading import pool
from spo.grading.trees import Tree, fraction
from spo.grading.verdicts import DIFFERENT, EQUAL


def compare(reference: Tree, answer: Tree) -> str:
    """`equal`, `different`, or the reason why a worker was killed over it.

    The degree sign around an answer is ignored; 25% answers for 25 and for 1/4, but 0.25 does not for 25. Digits in
    another base than ten are compared as digits, and the base may be left out.

    >>> number, percent = ("number", "25"), ("percent", ("number", "25"))
    >>> compare(number, percent), compare(percent, ("number", "0.25")), compare(number, ("number", "0.25"))
    ('equal', 'equal', 'different')
    """
    reference, answer = _without_degrees(reference), _without_degrees(answer)
    if reference[0] == answer[0] == "-":
        return compare(reference[1], answer[1])
    if "base" in (reference[0], answer[0]):
        return _bases(reference, answer)
    if reference[0] == "percent" and answer[0] == "percent":
        return compare(reference[1], answer[1])
    if "percent" in (reference[0], answer[0]):
        whole, percent = (reference, answer) if answer[0] == "percent" else (answer, reference)
        if (outcome := _same(whole, percent[1])) != DIFFERENT:
            return outcome
        return _same(whole, ("/", percent[1], ("number", "100")))
    outcome = _same(reference, answer)
    return _rounded(reference, answer) if outcome == DIFFERENT else outcome


def _same(reference: Tree, answer: Tree) -> str:
    first, second = fraction(reference), fraction(answer)
    if first is not None and second is not None:
        return EQUAL if first == second else DIFFERENT
    return pool.ask("value", reference, answer)


def _rounded(reference: Tree, answer: Tree) -> str:
    """A reference such as 8.24, with two places or more, is taken to be rounded; then the exact value is right too."""
    sign = -1 if reference[0] == "-" else 1
    number = reference[1] if sign < 0 else reference
    places = len(number[1].partition(".")[2]) if number[0] == "number" else 0
    if places < 2:
        return DIFFERENT
    value = fraction(answer)
    if value is not None:
        return EQUAL if abs(value - sign * Fraction(number[1])) <= Fraction(1, 2 * 10**places) else DIFFERENT
    return pool.ask("rounds to", answer, ("-" if sign < 0 else "") + number[1])


def _bases(reference: Tree, answer: Tree) -> str:
    """Digits with a base: 203_7 is the same as 203 where only one of them names the base."""
    if reference[0] == answer[0]:
        return EQUAL if reference == answer else DIFFERENT
    digits, other = (reference, answer) if reference[0] == "base" else (answer, reference)
    return EQUAL if other == ("number", digits[1]) else DIFFERENT


def _without_degrees(tree: Tree) -> Tree:
    return tree[1] if tree[0] == "degrees" else tree
