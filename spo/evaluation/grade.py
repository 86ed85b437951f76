"""Verdicts on predictions at each context: a shorter context sees exactly a prefix of what the longest one saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from spo.errors import UserError
from spo.types import Grade


def cut(prediction: Mapping[str, object], context_tokens: int) -> tuple[list[int], bool]:
    """(response ids, finished) of a prediction as if it had been made at `context_tokens`, prompt included.

    >>> cut({"prompt_tokens": 3, "response_ids": [5, 6, 1], "finished": True}, 6)
    ([5, 6, 1], True)
    >>> cut({"prompt_tokens": 3, "response_ids": [5, 6, 1], "finished": True}, 5)
    ([5, 6], False)
    """
    ids = prediction["response_ids"]
    room = max(0, context_tokens - prediction["prompt_tokens"])
    return (ids[:room], False) if len(ids) > room else (ids, prediction["finished"])


def run(
    predictions: Sequence[Mapping[str, object]],
    answers: Mapping[str, str],
    decode: Callable[[Sequence[int]], str],
    grade: Grade,
    contexts: Sequence[int],
) -> list[dict]:
    """Graded rows, all predictions at each context: problem_id, sample, context, correct, extracted, reason, finished,
    response_tokens, and at the longest context the response. A truncated response is graded on what it says; UserError
    for a problem without answer."""
    rows = []
    for context in contexts:
        for prediction in predictions:
            problem_id = prediction["problem_id"]
            if problem_id not in answers:
                raise UserError(f"predictions: problem {problem_id!r} is not in the problem file; predict again")
            ids, finished = cut(prediction, context)
            response = decode(ids)
            verdict = grade(answers[problem_id], response)
            rows.append(
                {
                    "problem_id": problem_id,
                    "sample": prediction["sample"],
                    "context": context,
                    "correct": verdict.correct,
                    "extracted": verdict.extracted,
                    "reason": verdict.reason,
                    "finished": finished,
                    "response_tokens": len(ids),
                }
                | ({"response": response} if context == max(contexts) else {})
            )
    return rows
