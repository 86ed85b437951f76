"""Verdicts on responses in a file, and on predictions at each context.

A shorter context sees exactly a prefix of what the longest one saw.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spo import store
from spo.errors import UserError
from spo.grading import Grader
from spo.grading.verdicts import DIFFERENT, EQUAL, MISSING
from spo.types import Grade


def cut(prediction: Mapping[str, object], context_tokens: int) -> tuple[list[int], bool]:
    """Return (response ids, finished) of a prediction as if it had been made at `context_tokens`, prompt included.

    A response that the token limit of its protocol ended is unfinished at every context. One that a stop text ended is
    finished only at contexts that hold the stop text too; at shorter ones it ends within that text.

    >>> cut({"prompt_tokens": 3, "response_ids": [5, 6, 1], "finished": True}, 6)
    ([5, 6, 1], True)
    >>> cut({"prompt_tokens": 3, "response_ids": [5, 6, 1], "finished": True}, 5)
    ([5, 6], False)
    >>> cut({"prompt_tokens": 3, "response_ids": [5], "stop_ids": [7, 8], "finished": True}, 5)
    ([5, 7], False)
    """
    ids = prediction["response_ids"]
    sampled = [*ids, *prediction.get("stop_ids", ())]
    room = max(0, context_tokens - prediction["prompt_tokens"])
    return (sampled[:room], False) if len(sampled) > room else (ids, prediction["finished"])


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


def grade_file(source: Path, grader: Grader, output: Path) -> None:
    """Write to `output` each line of `source` with its `correct`, `extracted`, `reason`, `grader` and `version`.

    Lines (gzip or plain) are JSON objects with the texts `answer` and `response`; other fields are kept, and so is the
    order. Good lines are written even if there are bad ones; then UserError `source:line: reason` names the first.
    A summary is printed, on standard error if the lines go to standard output.
    """
    rows, bad = [], []
    for row in store.good_rows(source, bad, check=_check, finite=False):
        verdict = grader.grade(row["answer"], row["response"])
        found = {"correct": verdict.correct, "extracted": verdict.extracted, "reason": verdict.reason}
        rows.append(row | found | {"grader": grader.name, "version": grader.version})
    store.write_jsonl(output, rows)
    print(summary(rows), file=sys.stderr if store.is_standard_output(output) else sys.stdout, flush=True)
    if bad:
        raise UserError(f"{store.first_of(bad)}; the {len(rows)} good lines are graded in {output}")


def summary(rows: Sequence[Mapping[str, object]]) -> str:
    """Return one line that counts the graded rows that are right, without answer, stopped or punished.

    >>> summary([{"reason": reason} for reason in ("equal", "different", "no answer", "equal", "timeout")])
    '5 graded: 2 right, 1 without answer, 1 timeout'
    """
    counts = Counter(row["reason"] for row in rows)
    right, missing = counts.pop(EQUAL, 0), counts.pop(MISSING, 0)
    counts.pop(DIFFERENT, None)
    others = "".join(f", {count} {reason}" for reason, count in sorted(counts.items()))
    return f"{len(rows)} graded: {right} right, {missing} without answer{others}"


def _check(row: Mapping[str, object]) -> None:
    """ValueError for a row that cannot be graded, or not be written again."""
    for name in ("answer", "response"):
        if not isinstance(row.get(name), str):
            raise ValueError(f"field {name!r} is missing or no text")
    try:
        json.dumps(row, allow_nan=False)
    except ValueError:
        raise ValueError("not valid JSON: a value is not a finite number") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None
