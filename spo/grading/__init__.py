"""Graders: functions (answer, response text) -> Verdict, by name in `GRADERS`.

They take any text a model may write, without running it. What has to be evaluated is evaluated in a process with a
deadline and a memory limit (`pool`).
"""

from __future__ import annotations

from dataclasses import dataclass

from spo.grading import conclusion, knights, library, mathematics, number, official
from spo.grading.verdicts import SEVERAL
from spo.types import Grade, Verdict


@dataclass(frozen=True)
class Grader:
    """A grading rule; `version` changes whenever a verdict can change, and is stored with every score."""

    name: str
    version: int
    grade: Grade


#: `grader:` in config -> rule
GRADERS: dict[str, Grader] = {
    "final_line": Grader("final_line", 1, conclusion.final_line),
    "gsm8k": Grader("gsm8k", 4, number.gsm8k),
    "gsm8k_official": Grader("gsm8k_official", 2, conclusion.gsm8k_official),
    "math": Grader("math", 3, mathematics.mathematics),
    "math_verify": Grader("math_verify", 1, library.math_verify),
    "math_official": Grader("math_official", 4, official.math_official),
    "aime": Grader("aime", 3, mathematics.aime),
    "knights": Grader("knights", 3, knights.knights),
}

SEVERAL_CONCLUSIONS_REWARD = -2.0


def reward(verdict: Verdict) -> float:
    """1 for a correct response, 0 for any other, -2 where the official rule found several conclusions (spec §7.1).

    Deviation: the paper has binary rewards only; the -2 comes with the official graders and no other.
    """
    if verdict.reason == SEVERAL:
        return SEVERAL_CONCLUSIONS_REWARD
    return 1.0 if verdict.correct else 0.0
