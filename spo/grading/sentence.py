"""Which number a line or sentence states: "So she makes $18 a day for 9 eggs" states 18."""

from __future__ import annotations

import re
from fractions import Fraction

from spo.grading import words
from spo.grading.latex import clean

LONGEST_STATEMENT = 500  # characters of a stated answer that are read
_MOST_DIGITS = 30
_LOOKS_BACK = 40  # characters before a number in which a circumstance is looked for

_VALUE = re.compile(
    r"""(?P<minus>-\s*)?(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>\.\d+)?
    (?:\s*/\s*(?P<below>\d+)(?![\d/]))?(?:\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+))?(?::(?P<minutes>\d\d)\b)?
    (?:\s*(?P<scale>dozen|thousand|million|billion)\b|(?P<kilo>k)\b)?""",
    re.VERBOSE | re.IGNORECASE,
)
# A sum that is not worked out, a choice, a multiple of a variable: no number at all.
_OPEN = re.compile(r"[^\d]*[\d.,]+(?:\s*[-+*]\s*(?:\d|[xyn]\b)|\s*\^\s*\d|\s*x\s*\d|\s+or\s+\d|[xyn]\b)")

# ---- words that say which of several numbers is the answer -----------------------------------------------------------

_ARTICLES = (
    r"(?:the\s+|all\s+|these\s+|those\s+|next\s+|first\s+|(?<!will )last\s+|his\s+|her\s+|their\s+|its\s+|original\s+)"
)
# What a number after these words counts is a circumstance: "in 5 years", "for 4 people", "each of the 3".
_CIRCUMSTANCE = re.compile(
    r"\b(?:(?:in|after|for|within|over|per|every|each|from|(?<!total )(?<!sum )(?<!average )of|at|on|during|than|by|"
    r"above|below|with)\s+|(?:after|by|from|for|without)\s+[a-z]+ing\s+|"
    rf"{_ARTICLES}){_ARTICLES}*$",
    re.IGNORECASE,
)
_ROUNDED = re.compile(
    r".*\bround(?:s|ed|ing)?\s+(?:it\s+|this\s+)?(?:up\s+|down\s+|off\s+)?to\s+(?=\d)", re.IGNORECASE | re.DOTALL
)
# "22 because 22 > 21", but not "because 66 / 3 = 22", which says it once more
_REASON = re.compile(r"\b(?:because|as there (?:is|are)|which is the)\b(?=[^=]*$|.*[<>])", re.IGNORECASE)
_HENCE = re.compile(r"[,;]\s*(?:so|meaning|which means|hence|thus|therefore|thereby|leaving)\b", re.IGNORECASE)
# "25% of 80 is 20" and "4 boxes hold 20 eggs" state 20
_SUBJECT = re.compile(
    r"\W*[\d.,]+(?:(?:\s*%|\s*percent|/\s*\d+)\s+of\b.*?\b(?:is|are|equals)|"
    r"(?:\s+[a-z]+){1,3}?\s+(?:have|has|costs?|weighs?|contains?|holds?|makes?|earns?|equals?))\s+(?=\W*\d)",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"^\W*(?:if|since|because|as|given|comparing|there (?:were|was|are))\b[^,]*(?<!\btotal),", re.IGNORECASE
)
# After the number that answers: what it is for, compared with, or said in other words.
_ASIDE = re.compile(
    r"\b(?:so that|that (?:costs?|is|are)|as this|since|if|when|out of|i\.e|over the course|and ha(?:s|ve)|"
    r"instead of|rather than|of the (?:remaining|total)|(?<=\btotal), (?=\d)|"
    r"(?<!need )(?<!needs )(?<!has )(?<!have )(?<!had )(?<!going )to (?:make|feed|groom|buy|finish|travel|clean|reach|"
    r"complete|cover|fill|get|serve|build|tie|pay|have|save|afford|run|walk|drive|read|write|ride|swim|fly|paint|cook))\b|,\s+who\b|\s\([^()]*\)\W*$|"
    r",\s+(?=\d+(?:\s+\w+){0,2}\s+(?:more|less|fewer)\s+than)",
    re.IGNORECASE,
)  # fmt: skip


def stated_value(sentence: str) -> tuple[Fraction | None, str]:
    """(value, text) of what a sentence states: in bold, after the last `=`, at its start, or in its main clause.

    >>> stated_value("So, Ann needs $5 more to buy the wallet that costs $100")[0]
    Fraction(5, 1)
    >>> stated_value("In 2 years he will be 48")[0], stated_value("It takes 24 / 3 = 8 hours for 3 men")[0]
    (Fraction(48, 1), Fraction(8, 1))
    """
    sentence = sentence[-LONGEST_STATEMENT:]
    for bold in reversed(re.findall(r"\*\*(.+?)\*\*", sentence, re.DOTALL)):
        value = first_value(plain(bold))
        if value is not None:
            return value, bold
    text = _without_sum(plain(sentence))
    if rounded := _ROUNDED.search(text):
        text = text[rounded.end() :]
    elif (reason := _REASON.search(text)) and _values(text[: reason.start()]):
        text = text[: reason.start()]
    _, equals, after = text.rpartition("=")
    if (hence := _HENCE.search(after)) and _values(after[hence.end() :]):
        equals, text = "", after[hence.end() :]
    found = _values(after) if equals else []
    if found:
        return found[0][1], after.strip()
    if subject := _SUBJECT.match(text):
        text = text[subject.end() :]
    found = _values(text)
    if found and not text[: found[0][0]].strip():
        return first_value(text), text
    values = _main_values(text) or [value for _, value in found] or [Fraction(value) for value in words.values(text)]
    return (values[-1] if values else None), text.strip()


def first_value(text: str) -> Fraction | None:
    """The number after the last `=`, else the first; None for a sum that is not worked out and for no number.

    >>> first_value("3 * 6 = 18 dollars"), first_value("18 (9 eggs)"), first_value("9 + 9")
    (Fraction(18, 1), Fraction(18, 1), None)
    """
    before, equals, after = _without_sum(text).rpartition("=")
    found = _values(after) or _values(before)
    if found:
        return None if not equals and _OPEN.match(after) else found[0][1]
    return next(map(Fraction, words.values(text)), None)


def has_number(text: str) -> bool:
    """Whether there is a digit or a number in words."""
    return any(character.isdigit() for character in text) or bool(words.values(text))


def plain(text: str) -> str:
    r"""Without LaTeX and markdown.

    >>> plain(r"\boxed{\$1{,}080}"), plain(r"**\frac{1}{2}** cup")
    ('1080', '1/2  cup')
    """
    text = clean(text.replace("\\!", ""))
    text = re.sub(r"\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}", r" \1/\2 ", text)
    text = re.sub(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"(?<=\d)[ \u00a0](?=\d{3}(?:\D|$))(?<!\d{4}[ \u00a0])", "", text)
    return re.sub(r"[*_]{2,}|[{}\\]", " ", text.replace(r"\approx", "=")).strip()


def _without_sum(text: str) -> str:
    """`42` of `42 = 6 * 7`, any other text unchanged."""
    before, _, after = text.rpartition("=")
    return before if _OPEN.match(after) and _values(before) else text


def _main_values(text: str) -> list[Fraction]:
    """The numbers of the main clause that count no circumstance."""
    if (condition := _CONDITION.match(text)) and _stated(text[condition.end() :]):
        text = text[condition.end() :]
    for aside in _ASIDE.finditer(text):
        if stated := _stated(text[: aside.start()]):
            return stated
    return _stated(text)


def _stated(text: str) -> list[Fraction]:
    return [
        value for start, value in _values(text) if not _CIRCUMSTANCE.search(text[max(0, start - _LOOKS_BACK) : start])
    ]


def _values(text: str) -> list[tuple[int, Fraction]]:
    """(start, value) of the numbers in a text."""
    found = []
    for match in _VALUE.finditer(text):
        before = text[: match.start()][-1:]
        if before.isalpha() or before == "_" or len(match.group()) > _MOST_DIGITS:
            continue
        # The minus of "3-2" or "10 - 4" is an operation, no sign.
        subtracts = match["minus"] and re.search(r"[\d)]\s*$", text[max(0, match.start() - 5) : match.start()])
        value = _worth(match)
        if value is not None:
            found.append((match.start(), -value if match["minus"] and not subtracts else value))
    return found


def _worth(match: re.Match[str]) -> Fraction | None:
    value = Fraction((match["whole"].replace(",", "") or "0") + (match["decimals"] or ""))
    if match["minutes"]:
        value += Fraction(int(match["minutes"]), 60)
    for top, below in ((None, match["below"]), (match["top"], match["bottom"])):
        if below and int(below) == 0:
            return None
        if below:
            value = value + Fraction(int(top), int(below)) if top else value / int(below)
    return value * (1000 if match["kilo"] else words.SCALES.get((match["scale"] or "").lower(), 1))
