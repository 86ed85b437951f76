"""Steps of a solution, read from its text (VinePPO, arXiv 2410.01679; spec §4.4).

A rule returns the positions in the text at which steps begin, in order, the first of them 0.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

#: Begins the conclusion of a GSM8K solution, which belongs to the last step.
CONCLUSION = "\n#### "

#: Formulas, in the order in which they are looked for; what one pattern has matched is one formula for the next.
_FORMULAS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\[asy\].*?\[/asy\]",
        r"\$\\begin\{tabular\}.*?\\end\{tabular\}\$",
        r"\\begin\{tabular\}.*?\\end\{tabular\}",
        r"\\\(.*?\\\)",
        r"\\\[.*?\\\]",
        r"\$\$.*?\$\$",
        r"(?<!\\)\$.*?[^\\]\$(?!\$)",
        r"\\begin\{([^}]*)\}.*?\\end\{\1\}",
    )
]
#: Stands for a formula while sentences are looked for, as often as the official placeholder has characters, which count
#: for the length of a part.
_BLANK, _BLANKS = "\ue000", 60
#: A full stop before a capital letter, unless it ends a word of one or two letters (`Fig. A` is cut, `St. A` is not).
_SENTENCE = re.compile(r"(?<!\b[A-Za-z]\.)(?<!\s[A-Za-z]\.)(?<!\s[A-Za-z][A-Za-z]\.)(?<=\.)(?=\s+[A-Z])")
#: Ends of a formula that end a sentence too.
_CLOSINGS = (".$", ".$$", r".\)", r".\]")
#: What opens a formula on a line of its own.
_OPENING = re.compile(r"\$|\$\$|\\\(|\\\[|\\begin\{[^}]*\}|\[asy\]")
#: Parts longer than this are broken where that leaves enough on both sides: in words, then inside formulas. With each
#: pattern, the characters at its end that belong to the next part.
_LONG = 100
_WORD_BREAKS = [(re.compile(p), next_part) for p, next_part in ((",", 0), (r"\sand\s", 1), (":", 0), (r"\sto\s", 1))]
_FORMULA_BREAKS = [(re.compile(p), 0) for p in (r",\$", r",\\\)", r",\\\]", "=", r"\\equiv", r"\+", r"\\cancelto")]
_LEAST_WORDS, _LEAST_FORMULA = 40, 20
#: Shorter parts are joined with the next one.
_SHORT, _TINY = 20, 3


def line_starts(text: str) -> tuple[int, ...]:
    """Return where the lines of a GSM8K solution begin: each with its new-line.

    Empty lines before the first line with text belong to it. With a conclusion `#### ...` everything after the last
    line with text belongs to that line: empty lines, the conclusion, and what follows the conclusion.
    Deviation: where the official code finds several conclusions it raises an error; here the first one counts.

    >>> line_starts("1+1=2\\n2+1=3\\n#### 3\\n")
    (0, 5)
    """
    body, conclusion, _ = text.partition(CONCLUSION)
    lines = body.split("\n")
    filled = [n for n, line in enumerate(lines) if line.strip()] or [0]
    last = filled[-1] if conclusion else len(lines) - 1
    ends = list(accumulate(len(line) + (n > 0) for n, line in enumerate(lines)))
    return tuple(sorted({0, *ends[filled[0] : last]}))


def math_starts(text: str) -> tuple[int, ...]:
    """Return where the steps of a MATH solution begin: sentences, lines, displayed formulas and parts of long ones.

    A step begins with its new-line or blank. Formulas are not cut by full stops; a formula that ends in one ends a
    step. Short parts are joined with the next one.
    Deviation: where formulas contain each other, or a solution has fewer than 20 characters, the official code raises
    an error and drops the response; here it is cut like any other, or is one step.

    >>> text = "We add the two numbers first. Then we get $1+2=3.$ So the answer is clear to all of us."
    >>> [text[a:b] for a, b in pairwise((*math_starts(text), len(text)))]
    ['We add the two numbers first.', ' Then we get $1+2=3.$', ' So the answer is clear to all of us.']
    """
    veiled = _veil(text)
    starts = _sentences(veiled)
    starts = _after_formulas(veiled, starts)
    edges = [veiled.places[start] for start in starts]
    edges = _lines_of_formulas(veiled, edges)
    return tuple(sorted({start for a, b in pairwise(edges) for start in _breaks(text, a, b)} | {0}))


#: name in `spo.credit.partition.PARTITIONS` -> where steps begin in a text
RULES: dict[str, Callable[[str], tuple[int, ...]]] = {"lines": line_starts, "math_steps": math_starts}


def step_cuts(rule: Callable[[str], Sequence[int]], pieces: Sequence[str]) -> tuple[int, ...]:
    """Return the tokens at which steps begin, as cuts 0 = c_0 < ... < c_K = T.

    pieces (T): the text that each token adds. A token belongs to the step in which it begins, so one that holds the end
    of a line and the new-line after it ends a step.

    >>> step_cuts(line_starts, ["1+1", "=2", "\\n", "2+1=3", "\\n", "####", " 3"])
    (0, 2, 7)
    """
    starts = [0, *accumulate(map(len, pieces))][: len(pieces)]
    inner = (bisect.bisect_left(starts, start) for start in rule("".join(pieces)))
    return tuple(sorted({0, len(pieces), *inner}))


class _Veiled(NamedTuple):
    """A text with `_BLANKS` for each formula. `places` (one more than characters): position in the true text."""

    true: str
    text: str
    places: list[int]

    def formulas(self, start: int, end: int) -> Iterator[tuple[int, str]]:
        """(Position after the formula, its true text) of each formula in text[start:end]."""
        at = start
        while (at := self.text.find(_BLANK * _BLANKS, at, end)) >= 0:
            at += _BLANKS
            yield at, self.true[self.places[at - 1] : self.places[at]]

    def shown(self, start: int, end: int) -> str:
        """The true text of text[start:end]."""
        return self.true[self.places[start] : self.places[end]]


def _veil(true: str) -> _Veiled:
    text, places = true, list(range(len(true) + 1))
    for pattern in _FORMULAS:
        pieces, kept, at = [], [], 0
        for found in pattern.finditer(text):
            pieces += [text[at : found.start()], _BLANK * _BLANKS]
            kept += places[at : found.start()] + [places[found.start()]] * _BLANKS
            at = found.end()
        text, places = "".join([*pieces, text[at:]]), kept + places[at:]
    return _Veiled(true, text, places)


def _sentences(veiled: _Veiled) -> list[int]:
    """Edges of sentences and lines in the veiled text; a short line is joined with the next one."""
    text = veiled.text
    ends = {found.start() for found in _SENTENCE.finditer(text)} | {n for n, c in enumerate(text) if c == "\n"}
    edges = sorted({0, len(text)} | ends)

    def short(part: str) -> bool:
        return part == "\n" or (not part.endswith(".") and len(part) < _SHORT)

    return _joined(edges, lambda a, b: short(text[a:b]), last=False)


def _after_formulas(veiled: _Veiled, edges: Sequence[int]) -> list[int]:
    """The same edges, with one after each formula that ends a sentence."""
    closed = [
        after for a, b in pairwise(edges) for after, formula in veiled.formulas(a, b) if formula.endswith(_CLOSINGS)
    ]

    def short(a: int, b: int) -> bool:
        part = veiled.shown(a, b)
        return not part.endswith(_CLOSINGS) and len(part) < _SHORT

    return _joined(sorted({*edges, *closed}), short)


def _lines_of_formulas(veiled: _Veiled, edges: Sequence[int]) -> list[int]:
    """Edges in the true text, with one at each new-line inside a formula; of equal formulas in a part only the first
    is cut."""
    true, lines = veiled.true, set()
    for a, b in pairwise(edges):
        seen: set[str] = set()
        for after, formula in veiled.formulas(
            bisect.bisect_left(veiled.places, a), bisect.bisect_left(veiled.places, b)
        ):
            if formula not in seen:
                start = veiled.places[after] - len(formula)
                lines |= {start + n for n, c in enumerate(formula) if c == "\n"}
            seen.add(formula)

    def short(a: int, b: int) -> bool:
        return b - a < _TINY or bool(_OPENING.fullmatch(true[a:b].strip()))

    return _joined(sorted({*edges, *lines}), short)


def _joined(edges: list[int], short: Callable[[int, int], bool], last: bool = True) -> list[int]:
    """Edges without those after a short part; a short last part is joined with the one before it if `last`."""
    out = [edges[0]]
    for edge in edges[1:]:
        if edge == edges[-1] or not short(out[-1], edge):
            out.append(edge)
    if last and len(out) > 2 and short(out[-2], out[-1]):
        del out[-2]
    return out


def _breaks(text: str, start: int, end: int) -> list[int]:
    """Starts of the pieces of text[start:end], none longer than `_LONG` where it can be broken.

    Once a formula was broken, what lies in its range is broken as a formula only; like the official code this counts
    the range from the beginning of the broken piece.
    """
    edges, low, high, i = [0, end - start], -1, 0, 0
    while i < len(edges) - 1:
        part = text[start + edges[i] : start + edges[i + 1]]
        at = None
        if len(part) > _LONG:
            if not low <= edges[i] < high:
                at = _word_break(part)
            if at is None and (at := _formula_break(part)) is not None:
                low, high = at if low == -1 else min(low, at), max(high, len(part))
        if at is None:
            i += 1
        else:
            edges.insert(i + 1, edges[i] + at)
    return [start + edge for edge in edges[:-1]]


def _word_break(part: str) -> int | None:
    """Return where a long part is broken outside formulas; None if nowhere."""
    veiled = _veil(part)
    for at in _middles(_WORD_BREAKS, veiled.text):
        if min(veiled.places[at], len(part) - veiled.places[at]) >= _LEAST_WORDS:
            return veiled.places[at]
    return None


def _formula_break(part: str) -> int | None:
    """Return where a long part is broken inside a formula; None if nowhere."""
    found = (at for at in _middles(_FORMULA_BREAKS, part) if min(at, len(part) - at) >= _LEAST_FORMULA)
    return next(found, None)


def _middles(breaks: Iterable[tuple[re.Pattern, int]], text: str) -> Iterator[int]:
    """For each pattern that occurs the break nearest to the middle, the first of equally near ones."""
    for pattern, next_part in breaks:
        found = [match.end() - next_part for match in pattern.finditer(text)]
        if found:
            yield min(found, key=lambda at: abs(len(text) - 2 * at))
