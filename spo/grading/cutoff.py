"""Texts that break off or end in doubt, so that their last number is no answer."""

from __future__ import annotations

import re

_LONGEST_TAIL = 2_000  # characters at the end that are looked at
_LONGEST_DOUBT = 300  # characters at the end in which a response gives up
# No sentence ends with these words.
_HANGING_SUM = re.compile(
    r"(?:\b(?:and|then|so|the|of|to|is|we|need|by|which|because|find)|[=+\-/]|(?<!\*)\*)\s*$", re.IGNORECASE
)
_HANGING = re.compile(
    r"(?:\b(?:and|or|the|an?|of|to|is|are|was|be|so|that|then|with|for|by|we|in|as|from|at|if|because|since|which|when|where|"
    r"into|on|than|need|let|this|but|our|its|their|his|her|find|get)|[,;:+\-/=<>(&≤≥^]|(?<!\*)\*)\s*$",
    re.IGNORECASE,
)
_END = re.compile(r"[.!?:](?=[\s*\"')\]$]|$)|\n\n")
_COMPLETE = re.compile(r"(?:[.!?)\]}$*|`\"'%°]|</\w+>)\s*$")
# A sentence that begins so plans, and one after the last value with such words does not conclude.
_PLANS = re.compile(
    r"\W*(?:now,?\s+|next,?\s+|first,?\s+|but\s+|so\s+)?(?:let's|let\s+(?:me|us)|suppose|assume|consider|try|"
    r"we\s+(?:still\s+|now\s+)?(?:need|have)\s+to|i\s+doubt|i\s+am\s+not\s+sure|i'm\s+not\s+sure|wait|hmm)\b"
    r"(?!.*(?:[,;]\s*(?:so|then|and|thus|hence|or|giving|which)|\\rightarrow|\\Rightarrow|\\implies|=.*=))",
    re.IGNORECASE | re.DOTALL,
)
_HEDGED = re.compile(
    r"\b(?:(?:might|may|could)\s+be|doubt(?:\s+that)?|not\s+sure\s+(?:if|that)|perhaps|maybe)\W*(?:it\s+is\s+)?$",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:might|may\s+(?:need|not|have)|let's|let\s+(?:me\s+(?!know)|us)|(?<!not )(?<!n't )(?:need|have)\s+to|"
    r"wait|hmm|however|unfortunately|not\s+sure|unsure|cannot\s+(?:be\s+)?(?:determine|solve)|"
    r"numerical(?:ly)?\s+methods?|not\s+easy|difficult|how\s+to\s+continue)\b",
    re.IGNORECASE,
)
_GIVES_UP = re.compile(
    r"\bI\s+(?:cannot|can't|could\s+not|couldn't|am\s+unable|do\s+not\s+know|don't\s+know)\b", re.IGNORECASE
)
_OPENERS = re.compile(r"\\begin\{(\w+\*?)\}|\\end\{(\w+\*?)\}")
_FAREWELL = re.compile(r"\b(?:I hope|let me know|feel free|if you (?:have|need|want))\b.*", re.IGNORECASE | re.DOTALL)
_FEW_WORDS = 4


def is_unfinished(text: str) -> bool:
    """Return whether a text that ends its sentences breaks off within one, or within a formula.

    >>> is_unfinished("So it is 5. At these points, the distance"), is_unfinished("So it is 5."), is_unfinished("x = 5")
    (True, False, False)
    """
    tail = text[-_LONGEST_TAIL:].rstrip()
    if not tail or _COMPLETE.search(tail) and not _has_open_formula(tail):
        return False
    last = tail[max((end.end() for end in _END.finditer(tail)), default=0) :]
    last = last.rpartition("\n\n")[2]
    return _has_open_formula(tail) or bool(_HANGING.search(tail)) or len(last.split()) > _FEW_WORDS


def is_open_ended(text: str, value_start: int, value_end: int) -> bool:
    """Return whether the words around the last value of a text, from `value_start` on, rule it out as a conclusion."""
    rest = _FAREWELL.sub("", text[value_end:])
    text = text[:value_end] + rest
    start = max((end.end() for end in _END.finditer(text, 0, value_end) if end.end() < value_end), default=0)
    start = max(start, text.rfind("\n", 0, value_end) + 1)
    if _has_open_formula(text) or _HANGING.search(text.rstrip()):
        return True
    if _PLANS.match(text, start, value_end) or _HEDGED.search(text, max(start, value_start - 60), value_start):
        return True
    after_sentence = _END.search(rest)
    remark = rest[after_sentence.end() :].lstrip() if after_sentence else ""
    if (not remark.startswith("(") and _DOUBT.search(remark)) or _GIVES_UP.search(text[-_LONGEST_DOUBT:]):
        return True
    after = rest[max((end.end() for end in _END.finditer(rest)), default=0) :]
    ended = bool(_END.search(text, 0, value_end))
    if _COMPLETE.search(text.rstrip()) or not after.strip():
        return False
    # Words after the value without a full stop: a unit if they are few, unless another sentence has begun.
    words = after.split()
    if after.lstrip(" $)").startswith(",") and len(words) > 1:
        return True
    return _END.search(rest) is not None or (ended and len(words) > _FEW_WORDS) or _joins(words)


def is_hanging(text: str) -> bool:
    """Return whether a text ends with a word or sign that no line of a calculation ends with.

    >>> is_hanging("9 * 2 ="), is_hanging("13 eggs and then"), is_hanging("9 * 2 = 18")
    (True, True, False)
    """
    return bool(_HANGING_SUM.search(text[-_LONGEST_TAIL:].rstrip()))


def _joins(words: list[str]) -> bool:
    """ "x <= 3 and q": another clause has begun."""
    return bool({"and", "or", "so", "then"} & {word.lower() for word in words})


def _has_open_formula(tail: str) -> bool:
    """Return whether a formula, a bracket of one or an environment begins and does not end."""
    plain = tail.rpartition("\n\n")[2].replace(r"\$", " ").replace("\\\\", " ")
    if plain.rfind(r"\[") > plain.rfind(r"\]") or plain.rfind(r"\(") > plain.rfind(r"\)"):
        return True
    opened = 0
    for environment in _OPENERS.finditer(plain):
        opened = opened + 1 if environment[1] else max(0, opened - 1)
    if opened:
        return True
    if plain.count("$") % 2 == 0:
        return False
    # An odd number of dollars may be money: a formula has begun where signs of formulas follow.
    rest = plain[plain.rfind("$") + 1 :]
    return bool(re.match(r"[^\d\s][^ ]*[\\^_={]|[^$]*[\\^_={][^$]*$", rest)) and not re.match(
        r"\d[\d,.]*(?:\s|$)", rest
    )
