"""The grader of the published Knights-and-Knaves puzzles: who is a knight and who is a knave."""

from __future__ import annotations

import re

from spo.grading.final import MOST_PHRASES, last_box
from spo.grading.turns import parts
from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING, shown
from spo.types import Verdict

_LONGEST_TAIL = 20_000  # characters at the end of a response that are read
_NAMES = r"[A-Z][a-z]+(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*)[A-Z][a-z]+){0,9}"
_SAYS = re.compile(
    rf"\b(?P<names>{_NAMES})\s*(?:\bis\b|\bare\b|:|=|\u2192|->|-|\u2013|\u2014|\|)\s*(?:both\s+|all\s+)?"
    r"(?P<no>not\s+)?(?:an?\s+|the\s+)?(?P<kind>[a-z]+)\b",
    re.IGNORECASE,
)
_GROUP = re.compile(rf"\b(?P<kind>[A-Za-z]+)s?\s*:\s*(?P<names>{_NAMES})")
_MARKERS = re.compile(r"CONCLUSION|<answer>|final answer|answer\s*:|####|solution\s*:", re.IGNORECASE)

#: the kinds of the published puzzles: a reference in which all are of one kind does not name the other
_PAIRS = [("knight", "knave"), ("hero", "villain"), ("saint", "sinner"), ("angel", "devil"), ("sage", "fool")]
_PAIRS += [("pioneer", "laggard"), ("altruist", "egoist")]
_OPPOSITES = dict(_PAIRS) | {liar: truthful for truthful, liar in _PAIRS}

_NO_NAMES = frozenset(
    [
        "and",
        "he",
        "she",
        "they",
        "it",
        "both",
        "all",
        "everyone",
        "this",
        "that",
        "these",
        "those",
        "who",
        "which",
        "one",
        "the",
        "others",
        "other",
        "so",
        "then",
        "if",
        "either",
        "neither",
        "each",
        "person",
        "conclusion",
        "answer",
        "solution",
        "assumption",
        "statement",
    ]
)


def knights(answer: str, response: str) -> Verdict:
    r"""Correct if the response's conclusion gives every person of `answer` its kind, and no person another.

    `answer` is the published form, `(1) Zoey is a knight\n(2) Oliver is a knave`. The conclusion is the last box, or
    what follows the last "CONCLUSION", `<answer>`, "final answer" or `####` that says anything of anyone, or else the
    end of the response from where everybody has been named. Numbering, order, markdown and case do not count.

    >>> knights("(1) Zoey is a knight\n(2) Oliver is a knave", "CONCLUSION:\n1. **Oliver**: Knave\n2. Zoey is a knight")
    Verdict(correct=True, extracted='Oliver knave, Zoey knight', reason='equal')
    """
    expected = dict(_said(answer, set()))
    kinds = {*expected.values(), "knight", "knave"}
    found = _conclusion(response, expected, kinds | {_OPPOSITES[kind] for kind in kinds if kind in _OPPOSITES})
    if not found:
        return Verdict(False, None, MISSING)
    told = ", ".join(f"{name.capitalize()} {kind}" for name, kind in found.items())
    correct = found == expected
    return Verdict(correct, shown(told), EQUAL if correct else DIFFERENT)


def _conclusion(response: str, expected: dict[str, str], kinds: set[str]) -> dict[str, str]:
    """What is concluded of whom; of somebody named twice, the last word counts."""
    thought, said = parts(response)
    text = (said if said.strip() else thought)[-_LONGEST_TAIL:]
    box = last_box(text)
    if box is not None and (found := _told(box, expected, kinds)):
        return found
    for marker in list(_MARKERS.finditer(text))[: -MOST_PHRASES - 1 : -1]:
        if found := _told(text[marker.end() :], expected, kinds):
            return found
    # Without a marker: backwards, line by line, until everybody is named. The reasoning before does not count.
    found: dict[str, str] = {}
    for line in reversed(text.splitlines()):
        said_there = dict(_said(line, kinds))
        found = said_there | found
        if set(expected) <= set(found):
            break
    return found


def _told(text: str, expected: dict[str, str], kinds: set[str]) -> dict[str, str]:
    """Return who is what; somebody expected of whom only an unknown kind is told, such as a troll, is of that kind."""
    known = dict(_said(text, kinds))
    others = {name: kind for name, kind in _said(text, set()) if name in expected and name not in known}
    return known | others


def _said(text: str, kinds: set[str]) -> list[tuple[str, str]]:
    """(name, kind) pairs that a text states, both in lower case; with no `kinds` given every word is one."""
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\b|[*_`{}\\$]", " ", text)
    text = re.sub(r"[ \t]+", " ", text)
    pairs = [(match.start(), match["names"], match["kind"], bool(match["no"])) for match in _SAYS.finditer(text)]
    pairs += [(match.start(), match["names"], match["kind"], False) for match in _GROUP.finditer(text)]
    found = []
    for _, names, kind, negated in sorted(pairs):
        kind = kind.lower() if kind.lower() in kinds else kind.lower().removesuffix("s")
        if (kinds and kind not in kinds) or names.lower() in kinds or names.lower().removesuffix("s") in kinds:
            continue
        if negated:
            kind = _OPPOSITES.get(kind) or next((other for other in sorted(kinds) if other != kind), f"no {kind}")
        found += [(name.lower(), kind) for name in re.findall(r"[A-Za-z]+", names) if name.lower() not in _NO_NAMES]
    return found
