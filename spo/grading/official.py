"""The published grading rule of MATH, from its description (spec §7.1): looser than `mathematics` in numbers, stricter
in form."""

from __future__ import annotations

import re
from fractions import Fraction

from spo.grading import equal
from spo.grading.conclusion import MARK
from spo.grading.final import boxes
from spo.grading.latex import LONGEST_ANSWER, flat
from spo.grading.parse import parse
from spo.grading.tokens import Unreadable
from spo.grading.trees import fraction
from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING, SEVERAL, shown
from spo.types import Verdict

TOLERANCE = Fraction(1, 1000)
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def math_official(answer: str, response: str) -> Verdict:
    r"""The official rule for MATH: the last stated answer equals the reference as text, as a number, or as a value.

    Stated is what stands in `final answer is $...$. I hope`, else every box, else what follows the last "he answer is",
    else the last number. Numbers are equal within 1e-3, also as per cent. Two `####` make it `several conclusions`,
    for which `spo.grading.reward` gives -2.
    Deviation: the question and the reference solution are not at hand, so the reference is one answer, split at
    `\text{and}` only; and what the official code asks of sympy, a worker evaluates, since sympy would run the text.

    >>> math_official("0.333", r"\boxed{\frac13}").correct, math_official("50", r"\boxed{0.5}").correct
    (True, True)
    """
    if response.count(MARK) > 1:
        return Verdict(False, shown(response.rpartition(MARK)[2].strip()), SEVERAL)
    stated, expected = _stated(response), _split(answer)
    if not stated:
        return Verdict(False, None, MISSING)
    last = stated[-len(expected) :]
    outcomes = [_compared(one, other) for one, other in zip(expected, last, strict=False)]
    outcome = next((outcome for outcome in outcomes if outcome != EQUAL), EQUAL)
    if len(last) != len(expected):
        outcome = DIFFERENT
    return Verdict(outcome == EQUAL, shown(", ".join(last)), outcome)


def _stated(response: str) -> list[str]:
    """The stated answers in order, each once, where it is stated last."""
    _, final, after = response.rpartition("final answer is $")
    final_answer, hope, _ = after.partition("$. I hope")
    found = [final_answer] if final and hope else [content for _, content in boxes(response)]
    if not found:
        _, phrase, after = response.rpartition("he answer is")
        found = [after] if phrase else _NUMBER.findall(response)[-1:]
    pieces = [piece for text in found for piece in _split(text)]
    return list(dict.fromkeys(reversed(pieces)))[::-1]


def _split(text: str) -> list[str]:
    """Answers between `and`; of each the first line, without a colon, full stop or slash at its ends."""
    lines = (
        piece.strip().split("\n")[0].strip(":./ ") for piece in re.split(r"\\text\{\s*and\s*\}", text[:LONGEST_ANSWER])
    )
    return [line for line in lines if line]


def _compared(reference: str, answer: str) -> str:
    if flat(reference) == flat(answer):
        return EQUAL
    try:
        trees = parse(reference), parse(answer)
    except Unreadable:
        return DIFFERENT
    numbers = [fraction(tree[1] if tree[0] == "percent" else tree) for tree in trees]
    if None not in numbers:
        first, second = numbers
        close = any(abs(second - first * scale) <= TOLERANCE for scale in (1, 100, Fraction(1, 100)))
        return EQUAL if close else DIFFERENT
    return equal.compare(reference, answer)
