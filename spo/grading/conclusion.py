"""Graders of responses that end in `#### answer`: the text after the last mark is compared with the expected answer."""

from __future__ import annotations

from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING, SEVERAL, shown
from spo.types import Verdict

MARK = "####"


def final_line(answer: str, response: str) -> Verdict:
    """Correct if the text after the last `####` is `answer`, up to case, blanks and a final full stop.

    >>> final_line("Ann knight, Ben knave", "Ann knight, Ben knave?\\n#### ann knight, Ben knave.")
    Verdict(correct=True, extracted='ann knight, Ben knave', reason='equal')
    """
    found = _conclusion(response)
    return _verdict(found, found is not None and _folded(found) == _folded(_stripped(answer)))


def gsm8k_official(answer: str, response: str) -> Verdict:
    """The official rule (spec §7.1): string equality after removing commas from the response's answer only.

    The answer is what follows the first four `#` in a row, so that `##### 42` answers `# 42`. 14 of the 1,319 test
    answers contain a comma and can never be matched. A response with two or more `####` is wrong with reason
    `several conclusions`, for which `spo.grading.reward` gives -2; the check comes before all others.

    >>> gsm8k_official("1,080", "#### 1,080").correct, gsm8k_official("5", "#### 5.0").correct
    (False, False)
    """
    _, *conclusions = response.split(MARK)
    found = conclusions[-1].strip() if conclusions else None
    if len(conclusions) > 1:
        return Verdict(False, shown(found), SEVERAL)
    return _verdict(found, found is not None and found.replace(",", "").lower() == answer.strip().lower())


def _conclusion(response: str) -> str | None:
    """The first line after the last `####`, without blanks and a full stop around it; None if there is nothing."""
    _, mark, after = response.rpartition(MARK)
    lines = after.strip().splitlines() if mark else []
    return (_stripped(lines[0]) or None) if lines else None


def _stripped(text: str) -> str:
    return text.strip().removesuffix(".").rstrip()


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _verdict(found: str | None, correct: bool) -> Verdict:
    if found is None:
        return Verdict(False, None, MISSING)
    return Verdict(correct, shown(found), EQUAL if correct else DIFFERENT)
