r"""The published grading rule of MATH (spec §7.1): looser than `mathematics` in numbers, stricter in form."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from spo.grading import pool, sympy_text
from spo.grading.conclusion import MARK
from spo.grading.latex import LONGEST_ANSWER
from spo.grading.tokens import Unreadable
from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING, SEVERAL, shown
from spo.types import Verdict

TOLERANCE = 1e-3
_MOST_STATED = 100  # boxes at the end of a response that are looked at
_FINAL, _HOPE, _PHRASE = "final answer is $", "$. I hope", "he answer is"
_NUMBER = re.compile(r"-?\d*\.?\d+")
_AND = re.compile(r"\\text\{\s*and\s*\}")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_BRACKETS = frozenset("()[]")
_BRACKETED = re.compile(r"[(\[].+[)\]]", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(?P<rows>.*)\\end\{[pb]matrix\}", re.DOTALL)
_LONGEST_LABEL = 2  # characters before `=` that are no part of the answer
#: (pattern, replacement), applied everywhere in this order; after each of the units blanks at the ends go too
_UNITS = (
    *((r"\^\{\\circ\}", ""), (r"\^\\circ", ""), (r"\{[cm]?m\}(?:\^[23])?", "")),
    *((r"p\.m\.$", ""), (r"(\d)\s*t$", r"\1")),
)
_SIGNS = (
    *((r"\\\$", ""), (r"\$", ""), (r"x\\in", ""), (r"\\%", "%"), (r"\\%", "%")),
    *((r" \.", " 0."), (r"\{\.", "{0."), (r"\\cdot", ""), (r"infinity", r"\\infty")),
)
_FONTS = ((r"\+\\inity", r"\\infty"), (r"\\mathbf", ""), (r"\\mathrm", ""), (r"\\mbox\{.*?\}", ""))
_NUMBERS = ((r"(\d+)\.0+([^\d])", r"\1\2"), (r"(\d+)\.0+$", r"\1"), (r"^\.", "0."))
_BRACES = tuple(
    (rf"\\{name}{pattern}", rf"\\{name}{{\1}}")
    for name in ("sqrt", "tan")
    for pattern in (r"(-?[0-9.a-zA-Z]+)", r"\s+(\w+)$")
)
_WHOLE = r"0|-?[1-9][0-9]*"
_RATIO = re.compile(rf"({_WHOLE}|[^/]*sqrt[^/]*)/({_WHOLE}|[^/]*sqrt[^/]*)")


def math_official(answer: str, response: str) -> Verdict:
    r"""The published rule for MATH: the last stated answers equal the reference as text, as a number, or as a value.

    Stated is what stands in the first `final answer is $...$. I hope`, else every closed box, else what follows the
    last "he answer is", else the last number; text with an unclosed box and nothing else states nothing. Numbers are
    equal within 1e-3, also as per cent. Of several answers the order does not count; brackets of intervals do not
    either. Two `####` make it `several conclusions`, for which `spo.grading.reward` gives -2.
    Deviation: the question and the reference solution are not at hand. The reference is one answer, where several
    boxes of a solution officially are several; where it has commas outside brackets and braces, the question is taken
    to ask for answers "separated by commas". What the published code asks of sympy, which would run the text, a worker
    evaluates.

    >>> math_official("0.333", r"\boxed{\frac13}").correct, math_official("50", r"\boxed{0.5}").correct
    (True, True)
    >>> math_official(r"\sqrt{2}", r"\boxed{1.414}").correct, math_official("5", r"\boxed{.5}").correct
    (True, False)
    """
    if response.count(MARK) > 1:
        return Verdict(False, shown(response.rpartition(MARK)[2].strip()), SEVERAL)
    separated = _is_list(answer)
    stated = list(dict.fromkeys(_split(_stated(response), separated)))
    if not stated:
        return Verdict(False, None, MISSING)
    expected = list(dict.fromkeys(_split([answer], separated)))
    last = stated[-len(expected) :]
    outcome = _same_items(last, expected)
    return Verdict(outcome == EQUAL, shown(", ".join(last)), outcome)


# ---- what is stated --------------------------------------------------------------------------------------------------


def _stated(response: str) -> list[str]:
    if _FINAL in response and _HOPE in response:
        return [response.split(_FINAL, 1)[1].split(_HOPE, 1)[0]]
    if "boxed" in response:
        return _boxes(response)
    if _PHRASE in response:
        return [response.rpartition(_PHRASE)[2]]
    output = response.rpartition("```output")[2].split("```")[0].strip() if "```output" in response else ""
    return [output] if output else _last_number(response)


def _last_number(response: str) -> list[str]:
    text = response.replace(",", "").rstrip()
    end = next((place for place in range(len(text), 0, -1) if text[place - 1].isdecimal()), 0)
    start = end
    while start and (text[start - 1].isdecimal() or text[start - 1] in ".-"):
        start -= 1
    return _NUMBER.findall(text[start:end])[-1:]


def _boxes(response: str) -> list[str]:
    """The content of each box that is closed, the innermost of nested ones; a per cent sign leaves the brace."""
    found = []
    for piece in response.split("boxed{")[1:][-_MOST_STATED:]:
        depth = 0
        for brace in re.finditer(r"[{}]", piece):
            depth += 1 if brace.group() == "{" else -1
            if depth < 0:
                found.append(piece[: brace.end() if piece[brace.end() :][:1] == "%" else brace.start()])
                break
    return found


def _split(texts: Sequence[str], separated: bool) -> list[str]:
    """The answers in `texts`, normalised; those in one text stand between `and`, or if `separated` between commas."""
    found = []
    for text in texts:
        line = text.strip()[:LONGEST_ANSWER].split("\n")[0].lstrip(":").rstrip(".").rstrip("/")
        piece = normal(line)
        found += piece.split(",") if separated and not _BRACKETS & set(piece) else _AND.split(piece)
    return [piece.strip() for piece in found]


def _is_list(reference: str) -> bool:
    """Return whether a reference has commas that separate answers: not in brackets, braces or a long number."""
    text = normal(reference)
    one_number = _THOUSANDS.fullmatch(text) and text in re.sub(r"\\!\s*", "", reference)
    if one_number or _BRACKETS & set(text) or _AND.search(text):
        return False
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            return True
    return False


def normal(text: str) -> str:
    r"""An answer without units, fonts, blanks and dollars, as the published rule has it.

    >>> normal(r"\dfrac12"), normal("3/4"), normal(r".5\text{ cm}"), normal(r"2 \cdot 3")
    ('\\frac{1}{2}', '\\frac{3}{4}', '0.5', '23')
    """
    text = text.strip().replace("\n", "").rstrip(".").replace(r"\!", "")
    if text.startswith(r"\text{") and text.endswith("}"):
        text = text[len(r"\text{") : -1]
    for name in ("tfrac", "dfrac", "cfrac"):
        text = text.replace(name, "frac")
    text = text.replace(r"\left", "").replace(r"\right", "")
    text = re.sub(r"\\text\{.*?\}$", "", text).strip() or text
    for unit in _UNITS:
        text = re.sub(*unit, text).strip()
    text = _rewritten(text, _SIGNS)
    if r"\infty" not in text:
        text = text.replace("inf", r"\infty")
    text = _rewritten(text, _FONTS)
    if "i" not in text:
        text = text.replace("j", "i")
    text = _with_braces(_rewritten(text, (*_NUMBERS, *_BRACES, (" ", ""))))
    if ratio := _RATIO.fullmatch(text):
        text = rf"\frac{{{ratio[1]}}}{{{ratio[2]}}}"
    return re.sub(r"[\\,.]+$", "", text)


def _rewritten(text: str, patterns: Sequence[tuple[str, str]]) -> str:
    for pattern in patterns:
        text = re.sub(*pattern, text)
    return text


def _with_braces(text: str) -> str:
    r"""Braces around numerators and denominators of one character; nothing changes if one fraction has too few.

    >>> _with_braces(r"\frac12+\frac1{72}")
    '\\frac{1}{2}+\\frac{1}{72}'
    """
    first, *fractions = text.split(r"\frac")
    written = [first]
    for fraction in fractions:
        if fraction.startswith("{"):
            written.append(fraction)
        elif len(fraction) < len("12"):
            return text
        else:
            below = fraction[1:] if fraction[1] == "{" else f"{{{fraction[1]}}}{fraction[2:]}"
            written.append(f"{{{fraction[0]}}}{below}")
    return r"\frac".join(written)


# ---- what is the same ------------------------------------------------------------------------------------------------


def _same_items(stated: Sequence[str], expected: Sequence[str]) -> str:
    """Each stated answer is an expected one, and each expected one is stated; the order does not count."""
    outcomes = [[_same(one, other) for other in expected] for one in stated]
    rows = all(EQUAL in row for row in outcomes)
    if rows and all(EQUAL in column for column in zip(*outcomes, strict=True)):
        return EQUAL
    return next((outcome for row in outcomes for outcome in row if outcome not in (EQUAL, DIFFERENT)), DIFFERENT)


def _same(stated: str, expected: str) -> str:
    if r"\cup" in stated and r"\cup" in expected:
        return _same_items(stated.split(r"\cup"), expected.split(r"\cup"))
    numbers = [_float(text.replace(",", "")) for text in (stated, expected)]
    if None not in numbers and abs(numbers[0] - numbers[1]) < TOLERANCE:
        return EQUAL
    return _equal(stated, expected)


def _equal(stated: str, expected: str) -> str:
    if stated == expected:
        return EQUAL
    number, reference = _number(stated), _number(expected)
    if number is not None and reference is not None:
        close = any(_close(number, value) for value in (reference / 100, reference, reference * 100))
        return EQUAL if close else DIFFERENT
    stated, expected = stated.strip(), expected.strip()
    if not stated:
        return DIFFERENT
    outcome = DIFFERENT
    if _BRACKETED.match(stated) and _BRACKETED.match(expected):
        outcome = _rows([stated[1:-1].split(",")], [expected[1:-1].split(",")])
    matrices = [_MATRIX.fullmatch(text) for text in (stated, expected)]
    if outcome == DIFFERENT and all(matrices):
        outcome = _rows(*([row.split("&") for row in found["rows"].split(r"\\") if row.strip()] for found in matrices))
    return outcome if outcome != DIFFERENT else _equations(stated, expected)


def _rows(stated: list[list[str]], expected: list[list[str]]) -> str:
    """Entry by entry, whatever the brackets around them."""
    if [len(row) for row in stated] != [len(row) for row in expected]:
        return DIFFERENT
    pairs = (pair for rows in zip(stated, expected, strict=True) for pair in zip(*rows, strict=True))
    return next((outcome for pair in pairs if (outcome := _equal(*pair)) != EQUAL), EQUAL)


def _equations(stated: str, expected: str) -> str:
    sides = stated.split("="), expected.split("=")
    outcome = DIFFERENT
    if [len(side) for side in sides] == [2, 2]:
        first, second = (f"{left.strip()} - ({right.strip()})" for left, right in sides)
        outcome = _value(first, second)
        outcome = outcome if outcome != DIFFERENT else _value(f"-({first})", second)
    elif len(sides[0]) == 2 and len(sides[1]) == 1 and len(sides[0][0].strip()) <= _LONGEST_LABEL:
        outcome = _equal(sides[0][1], expected)
    elif len(sides[1]) == 2 and len(sides[0]) == 1 and len(sides[1][0].strip()) <= _LONGEST_LABEL:
        outcome = _equal(stated, sides[1][1])
    return outcome if outcome != DIFFERENT else _value(stated, expected)


def _value(stated: str, expected: str) -> str:
    """Equal for all values of the letters, or constants within the tolerance that have all their signs written."""
    try:
        texts = [sympy_text.text_of(text) for text in (stated, expected)]
    except Unreadable:
        return DIFFERENT
    if not all(map(sympy_text.may_be_evaluated, texts)):
        return DIFFERENT
    outcome = _asked("identity", [sympy_text.mixed(f"({text})") for text in texts], implicit=True)
    return outcome if outcome != DIFFERENT else _asked("close", texts, implicit=False)


def _asked(kind: str, texts: Sequence[str], implicit: bool) -> str:
    try:
        return pool.ask(kind, *(sympy_text.parse(text, implicit) for text in texts))
    except Unreadable:
        return DIFFERENT


def _number(text: str) -> float | None:
    """A number, without its commas; of per cent a hundredth."""
    text = text.replace(",", "")
    number = _float(text)
    if number is None and text.endswith("%"):
        part = _float(text[:-1].removesuffix("\\"))
        return None if part is None else part / 100
    return number


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _close(first: float, second: float) -> bool:
    return math.isclose(first, second, abs_tol=TOLERANCE)
