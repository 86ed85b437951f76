"""The grader of whole-number word problems (GSM8K): what number does the response state as its final answer?"""

from __future__ import annotations

import re
from fractions import Fraction

from spo.grading.cutoff import is_hanging
from spo.grading.final import LONGEST_SEARCH, MOST_PHRASES, REASONS, box_end, boxes, without_code
from spo.grading.sentence import LONGEST_STATEMENT, first_value, has_number, plain, stated_value
from spo.grading.turns import parts, tagged
from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING, shown
from spo.grading.words import SCALES
from spo.types import Verdict

_LONGEST_TAIL = 5_000  # characters at the end of a response in which an unmarked answer is looked for
_HEADING = re.compile(r"(?:step|part|stage|case|section|question|problem)\b|\d+[.):]\s*\**[A-Z]", re.IGNORECASE)
_FAREWELL = re.compile(r"\W*(?:I hope|let me know|feel free|if you have)\b", re.IGNORECASE)
_PHRASE = re.compile(
    r"\b(?:final\s+|correct\s+|total\s+){0,3}answer\b(?:\s+(?:to|for)\b[^.\n]{0,80}?)?\s*"
    r"(?:\bis\b(?:\s+that\b)?|[:=])[\s*_]*:?",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\W*(?:not|never|neither|wrong|incorrect)\b", re.IGNORECASE)
# A number, perhaps with a currency before it and a unit of few words after it
_BARE = re.compile(r"\W*[a-zA-Z]{0,3}\W*\d[\d,./]*\W*(?:[a-zA-Z]+\W*){0,4}(?:\([^()]*\)\W*)?")
_SENTENCE_END = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bi\.e)(?<!\be\.g)[.!?]+(?=\s|$|[*\"')])|\n+"
)


def gsm8k(answer: str, response: str) -> Verdict:
    """Correct if the final answer of the response is the same number as `answer`, whatever stands around it.

    The final answer is, in this order: what follows the last `####` that is no heading, the last box, what follows
    the last "answer is" or "answer:", the number that the last sentence with a number concludes with. Currency, units,
    per cent signs, separators of thousands, markdown and LaTeX do not count; values are compared exactly, so 33.33 is
    not 33. A second `####` is not punished.
    Deviation: `gsm8k_official` keeps the published behaviour (spec §7.1).

    >>> gsm8k("1,080", "So there are 1080.\\n#### $1080.00 a year").correct
    True
    >>> gsm8k("18", "She makes 9 * 2 = $18 a day.").correct
    True
    >>> gsm8k("18", "The answer is 18.5.")
    Verdict(correct=False, extracted='18.5', reason='different')
    """
    found = stated_number(response)
    if found is None:
        return Verdict(False, None, MISSING)
    text, value = found
    correct = value is not None and _agrees(value, _reference(answer), text)
    return Verdict(correct, shown(text), EQUAL if correct else DIFFERENT)


def stated_number(response: str) -> tuple[str, Fraction | None] | None:
    """(text, value) of the final answer; the value is None where the text is no number, and all is where none is."""
    thought, said = parts(response)
    text = tagged(said) or (said if said.strip() else thought)
    marked = _marked(text)
    if marked is not None:
        return marked, _line_value(marked)
    box_start, box = next(reversed(boxes(text)), (0, None))
    for statement in _phrased(text, box_end(text, box_start, box) if box else 0):
        value, _ = stated_value(statement)
        if value is not None or has_number(statement):
            return statement, value
    if box is not None:
        return box, first_value(plain(box[:LONGEST_STATEMENT]))
    return _concluded(text)


def _line_value(line: str) -> Fraction | None:
    """Of a line that begins with words the number that it concludes with, of any other the first."""
    text = plain(line)
    return stated_value(line)[0] if text[:1].isalpha() else first_value(text)


def _reference(answer: str) -> Fraction | None:
    return first_value(plain(answer))


def _agrees(value: Fraction, reference: Fraction | None, text: str) -> bool:
    """The question may ask for millions, so that 3 million answers for 3 as well as for 3,000,000."""
    scales = [scale for name, scale in SCALES.items() if name in text.lower()]
    return reference is not None and value in (reference, *(reference * scale for scale in scales))


# ---- where it is stated ----------------------------------------------------------------------------------------------


def _marked(text: str) -> str | None:
    """The line after the last `####` that is an answer and no heading such as `#### Step 2` or `#### 2. Add up`."""
    end = len(text)
    while (mark := text.rfind("####", 0, end)) >= 0:
        lines = text[mark + 4 : end].strip("# \t").lstrip()[:LONGEST_STATEMENT].splitlines()
        has_more = len(lines) > 1 or end < len(text)
        line = lines[0].strip() if lines else ""
        if has_number(line) and not (_HEADING.match(line.strip("*_ ")) and has_more):
            return line
        end = mark
    return None


def _phrased(text: str, after: int) -> list[str]:
    """Return what follows "answer is", the last one first, up to the end of the sentence.

    `after`: the place of the last box, before which nothing counts. An "Answer:" at the head of the working states
    nothing, unless a bare value follows.
    """
    found = []
    for match in list(_PHRASE.finditer(text, max(after, len(text) - LONGEST_SEARCH)))[: -MOST_PHRASES - 1 : -1]:
        rest = text[match.end() : match.end() + LONGEST_STATEMENT].lstrip(" \t\n*_:")
        statement = _first_sentence(rest)
        if after and "is" not in match.group().lower().split() and "final" not in match.group().lower():
            continue
        if statement and not _NEGATED.match(statement) and not _is_working(text, match, statement):
            found.append(statement)
    return found


def _is_working(text: str, match: re.Match[str], statement: str) -> bool:
    if match.group().rstrip("* \n_")[-1:] not in ":=" or text[: match.start()].strip("#*_> \t\n"):
        return False
    end = text.find(statement, match.end()) + len(statement)
    return not _BARE.fullmatch(statement) and has_number(text[end:]) and not REASONS.match(text, end)


def _concluded(text: str) -> tuple[str, Fraction | None] | None:
    """The last sentence with a number in it, and the number it concludes with."""
    tail = without_code(text)[-_LONGEST_TAIL:].rstrip()
    if is_hanging(tail):
        return None
    for sentence in reversed(_sentences(tail)):
        value, shown_text = stated_value(sentence) if not _FAREWELL.match(sentence) else (None, "")
        if value is not None:
            return shown_text, value
    return None


def _sentences(text: str) -> list[str]:
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        parts.append(text[start : end.start()])
        start = end.end()
    return [part for part in (*parts, text[start:]) if part.strip()]


def _first_sentence(text: str) -> str:
    sentences = _sentences(text)
    return sentences[0].strip() if sentences else ""
