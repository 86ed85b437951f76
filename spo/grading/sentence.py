"""Which number a line or sentence states: "So she makes $18 a day for 9 eggs" states 18."""

from __future__ import annotations

import re
from fractions import Fraction

from spo.grading import words
from spo.grading.latex import clean
from spo.grading.trees import Tree, fraction, repeating

LONGEST_STATEMENT = 500  # characters of a stated answer that are read
_MOST_DIGITS = 30
_LOOKS_BACK = 40  # characters before a number in which a circumstance is looked for

_VALUE = re.compile(
    r"""(?P<minus>-\s*)?(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>\.\d+)?
    (?:\s*/\s*(?P<below>\d+)(?![\d/]))?(?:\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+))?(?::(?P<minutes>\d\d)\b)?
    (?:\s*(?P<scale>dozen|thousand|million|billion)\b|(?P<kilo>k)\b)?""",
    re.VERBOSE | re.IGNORECASE,
)
# 12'000, 1,00,000 (lakhs and crores), 1.000.000
_DIGIT_GROUPS = re.compile(
    r"(?<![\d'’])\d{1,3}(?:['’]\d{3})+(?!\d)|(?<![\d,.])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])|(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.])"
)
_POWER_OF_TEN = re.compile(r"(?<![\d.,])(\d{1,9}(?:\.\d{1,9})?)\s*[*x]\s*10\s*\^\s*\{?\s*(-?\d{1,2})(?!\d)\s*\}?")
_RECURRING = re.compile(r"(\d{0,20}\.\d{0,20})\\overline\s*\{\s*(\d{1,20})\s*\}")
# A sum that is not worked out, a choice, a multiple of a variable: no number at all.
_OPEN = re.compile(
    r"[^\d]*[\d.,]+(?:\s*[-+*]\s*(?:\d|[xyn]\b)|\s*\^\s*\d|\s*x\s*\d|\s+or\s+\d[\d.]*+(?!\s*(?:%|percent))|[xyn]\b)"
)

# ---- words that say which of several numbers is the answer -----------------------------------------------------------

_ARTICLES = (
    r"(?:the\s+|all\s+|these\s+|those\s+|next\s+|first\s+|(?<!will )last\s+|his\s+|her\s+|their\s+|its\s+|"
    r"original\s+|other\s+|remaining\s+)"
)
# What a number after these words counts is a circumstance: "in 5 years", "for 4 people", "each of the 3".
_CIRCUMSTANCE = re.compile(
    r"\b(?:(?:in|after|for|within|over|per|every|each|from|"
    r"(?<!total )(?<!sum )(?<!average )(?<!profit )(?<!cost )(?<!amount )(?<!loss )(?<!price )(?<!distance )"
    r"(?<!bill )of|at|on|during|than|by|above|below|with)\s+|(?:after|by|from|for|without)\s+[a-z]+ing\s+|"
    rf"{_ARTICLES}){_ARTICLES}*$",
    re.IGNORECASE,
)
_ROUNDED = re.compile(
    r".*\bround(?:s|ed|ing)?\s+(?:it\s+|this\s+)?(?:up\s+|down\s+|off\s+)?to\s+(?=\d)", re.IGNORECASE | re.DOTALL
)
# "22 because 22 > 21", but not "because 66 / 3 = 22", which says it once more
_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_ENDS_HEADING = re.compile(r"(?<=:)\s*\*\*|\s*\*\*\s*:")
_FEW_WORDS = 4
_PERCENT = re.compile(r"(?:=|\bor|\bis|,)\s*(\d[\d,]*(?:\.\d+)?)\s*(?:%|percent)")
_ONLY = re.compile(r"\b(?:only|just|exactly)\s+([a-z]+)\b", re.IGNORECASE)
_REASON = re.compile(r"\b(?:because|as there (?:is|are)|which is the)\b(?=[^=]*$|.*[<>])", re.IGNORECASE)
_HENCE = re.compile(r"[,;]\s*(?:so|meaning|which means|hence|thus|therefore|thereby|leaving)\b", re.IGNORECASE)
# "25% of 80 is 20" and "4 boxes hold 20 eggs" state 20
_SUBJECT = re.compile(
    r"(?:\W*(?:so|then|thus|therefore|hence)\b)?\W*[\d.,]+(?:(?:\s*%|\s*percent|/\s*\d+)\s+of\b.*?\b(?:is|are|equals)|"
    r"[^.=]*?\b(?:divided\s+by|times|multiplied\s+by|plus|minus|added\s+to|split\s+(?:between|among))\b[^=]*?"
    r"\b(?:is|are|equals?|gives?|makes?|leaves?|yields?|results?\s+in|comes?\s+to)\b(?:\s+[a-z]+){0,3}|"
    r"(?:\s+[a-z]+){1,3}\s+with\s+[\d.,]+(?:\s+[a-z]+){1,3}\s+each\s+(?:have|hold|contain|cost|make)|"
    r"(?:\s+[a-z]+){1,3}?\s+(?:have|has|costs?|weighs?|contains?|holds?|makes?|earns?|equals?))\s+(?=\W*\d)",
    re.IGNORECASE,
)
# "He can buy 3 toys and will have $2 left" is about the toys
_CAN = re.compile(
    r"[^\d]*\b(?:can|could)\b[^\d]*\d.*?(?=\band\s+(?:will\s+|would\s+|still\s+)?ha(?:s|ve)\b)", re.IGNORECASE
)
_CONDITION = re.compile(
    r"^\W*(?:if|since|because|as|given|comparing|there (?:were|was|are))\b[^,]*(?<!\btotal),", re.IGNORECASE
)
# After the number that answers: what it is for, compared with, or said in other words.
_ASIDE = re.compile(
    r"\b(?:so that|that (?:costs?|is|are)|as this|since|if|when|out of|i\.e|over the course|and ha(?:s|ve)|"
    r"instead of|rather than|of the (?:remaining|total)|(?<=\btotal), (?=\d)|"
    r"(?<!need )(?<!needs )(?<!has )(?<!have )(?<!had )(?<!going )to (?:make|feed|groom|buy|finish|travel|clean|reach|"
    r"complete|cover|fill|get|serve|build|tie|pay|have|save|afford|run|walk|drive|read|write|ride|swim|fly|paint|cook|transport|carry|move|"
    r"earn|pack|hold|raise|lose|gain|sell|deliver|store|seat|plant|produce|bake|fold|wash|mow|type|print|knit|sew|"
    r"dig|climb|load|unload|harvest|collect|catch|win|graduate|repay))\b|"
    r"\b(?:needed|required|necessary|enough|sufficient|takes?|took)\s+to\s+[a-z]+\b|\bby\s+the\s+time\b|,\s+who\b|\s\([^()]*\)\W*$|"
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
    for bold in reversed(list(_BOLD.finditer(sentence))):
        if (heading := _ENDS_HEADING.match(sentence, bold.end(1))) and _values(plain(sentence[heading.end() :])):
            continue
        value = first_value(plain(bold[1])) if len(bold[1].split()) <= _FEW_WORDS else stated_value(bold[1])[0]
        if value is not None:
            return _in_percent(value, plain(sentence)), bold[1]
    value, text = _main_value(_without_sum(plain(sentence)))
    return (None if value is None else _in_percent(value, text)), text


def _main_value(text: str) -> tuple[Fraction | None, str]:
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
    values = _main_values(text) or _values_in_words(text, bool(found)) or [value for _, value in found]
    return (values[-1] if values else None), text.strip()


def _in_percent(value: Fraction, text: str) -> Fraction:
    """12 of "0.12 or 12%", any other value unchanged."""
    percent = _PERCENT.search(text)
    worth = _values(percent[1])[0][1] if percent else None
    return worth if worth is not None and worth == 100 * value else value


def _values_in_words(text: str, beside_digits: bool) -> list[Fraction]:
    """Numbers in words; beside numbers in digits such a number counts in "only one" and the like alone."""
    match = _ONLY.search(text) if beside_digits else None
    return [Fraction(value) for value in words.values(match[1] if match else "" if beside_digits else text)]


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
    text = _DIGIT_GROUPS.sub(lambda number: re.sub(r"\D", "", number.group()), text.replace("\\!", ""))
    text = _RECURRING.sub(lambda number: _fraction(repeating(number[1] or "0.", number[2])), clean(text))
    text = _POWER_OF_TEN.sub(lambda number: _decimal(Fraction(number[1]) * Fraction(10) ** int(number[2])), text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r" \1/\2 ", text)
    text = re.sub(r"\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}", r" \1/\2 ", text)
    text = re.sub(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"(?<=\d)[ \u00a0](?=\d{3}(?:\D|$))(?<!\d{4}[ \u00a0])", "", text)
    return re.sub(r"[*_]{2,}|[{}\\]", " ", text.replace(r"\approx", "=")).strip()


def _decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _fraction(tree: Tree) -> str:
    value = fraction(tree)
    return f" {_decimal(value)} " if value is not None else " "


def _without_sum(text: str) -> str:
    """`42` of `42 = 6 * 7`, any other text unchanged."""
    before, _, after = text.rpartition("=")
    return before if _OPEN.match(after) and _values(before) else text


def _main_values(text: str) -> list[Fraction]:
    """The numbers of the main clause that count no circumstance."""
    if (condition := _CONDITION.match(text)) and _stated(text[condition.end() :]):
        text = text[condition.end() :]
    if can := _CAN.match(text):
        text = text[: can.end()]
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
