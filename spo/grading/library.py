"""The community's rule for mathematical answers: the library math-verify, in the worker process of `pool`."""

from __future__ import annotations

from spo.grading import pool
from spo.grading.verdicts import EQUAL, shown
from spo.types import Verdict

LONGEST_RESPONSE = 100_000  # characters at the end of a response that are read


def math_verify(answer: str, response: str) -> Verdict:
    r"""Correct if math-verify's `verify(parse(answer), parse(response))` says so, with its own extraction and defaults.

    A timeout, too much memory and an error of the library (reason `error`) are wrong. The answer is parsed in a box.
    Deviation: the library's time limits of 5 s need the main thread; the worker's deadline takes their place.
    """
    outcome, extracted = pool.verify(answer, response[-LONGEST_RESPONSE:])
    return Verdict(outcome == EQUAL, shown(extracted), outcome)
