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
#: text that is dropped wherever it stands, before units and signs are looked at
_FIRST_DROPPED = (r"\left", r"\right")
#: (pattern, replacement) in this order; each is applied everywhere, and blanks at the ends are removed
_REWRITTEN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\^\{\\circ\}|\^\\circ", ""),
        (r"\{[cm]?m\}(?:\^[23])?", ""),
        (r"p\.m\.$", ""),
        (r"(\d)\s*t$", r"\1"),
        (r"\\?\$|x\\in", ""),
        (r"\\%", "%"),
        (r"([ {])\.", r"\g<1>0."),
        (r"\\cdot", ""),
        (r"infinity", r"\\infty"),
        (r"^((?!.*\\infty).*)$", lambda match: match[1].replace("inf", r"\infty")),
        (r"\\mathbf|\\mathrm|\\mbox\{.*?\}", ""),
        (r"^([^i]*j[^i]*)$", lambda match: match[1].replace("j", "i")),
        (r"(\d)\.0+(?=\D|$)", r"\1"),
        (r"^\.", "0."),
        (r"\\(sqrt|tan)(-?[0-9.a-zA-Z]+)", r"\\\1{\2}"),
        (r"\\(sqrt|tan)\s+(\w+)$", r"\\\1{\2}"),
        (r" ", ""),
        (r"\\frac(?!\{)(.)(\{)", r"\\frac{\1}\2"),
        (r"\\frac(?!\{)(.)(.)", r"\\frac{\1}{\2}"),
    )
]
_RATIO = re.compile(r"(-?(?:0|[1-9]\d*)|[^/]*sqrt[^/]*)/(-?(?:0|[1-9]\d*)|[^/]*sqrt[^/]*)")


def math_official(answer: str, response: str) -> Verdict:
    r"""The published rule for MATH: the last stated answers equal the reference as text, as a number, or as a value.

    Stated is what stands in the first `final answer is $...$. I hope`, else every closed box, else what follows the
    last "he answer is", else the last number; text with an unclosed box and nothing else states nothing. Numbers are
    equal within 1e-3, also as per cent. Of several answers the order does not count; brackets of intervals do not
    either. Two `####` make it `several conclusions`, for which `spo.grading.reward` gives -2.
    Deviation: the question and the reference solution are not at hand. The reference is one answer; where it has
    commas outside brackets, the question is taken to ask for answers "separated by commas". What the published code
    asks of sympy, which would run the text, a worker evaluates.

    >>> math_official("0.333", r"\boxed{\frac13}").correct, math_official("50", r"\boxed{0.5}").correct
    (True, True)
    >>> math_official(r"\sqrt{2}", r"\boxed{1.414}").correct, math_official("5", r"\boxed{.5}").correct
    (True, False)
    """
    if response.count(MARK) > 1:
        return Verdict(False, shown(response.rpartition(MARK)[2].strip()), SEVERAL)
    separated = _is_list(normal(answer))
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
    """Whether a reference has commas that separate answers."""
    return "," in reference and not (
        _BRACKETS & set(reference) or _AND.search(reference) or _THOUSANDS.fullmatch(reference)
    )


def normal(text: str) -> str:
    r"""An answer without units, fonts, blanks and dollars, as the published rule has it.

    >>> normal(r"\dfrac12"), normal("3/4"), normal(r".5\text{ cm}"), normal(r"2 \cdot 3")
    ('\\frac{1}{2}', '\\frac{3}{4}', '0.5', '23')
    """
    text = text.strip().replace("\n", "").rstrip(".").replace(r"\!", "")
    if text.startswith(r"\text{") and text.endswith("}"):
        text = text[len(r"\text{") : -1]
    text = re.sub(r"[tdc]frac", "frac", text)
    for dropped in _FIRST_DROPPED:
        text = text.replace(dropped, "")
    text = re.sub(r"\\text\{.*?\}$", "", text).strip() or text
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text).strip()
    if ratio := _RATIO.fullmatch(text):
        text = rf"\frac{{{ratio[1]}}}{{{ratio[2]}}}"
    return re.sub(r"[\\,.]+$", "", text)


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
    outcome = _asked("value", [sympy_text.mixed(f"({text})") for text in texts], implicit=True)
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
