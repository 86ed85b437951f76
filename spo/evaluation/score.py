"""Accuracy with its interval and the truncation rate beside it, at each context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def contexts(graded: Sequence[Mapping[str, object]], interval) -> dict[str, dict[str, float]]:
    """Per context: accuracy (Pass@1: mean over samples and problems), its interval, truncation rate, mean length.

    `interval(correct, n)` gives (low, high). All shares are fractions of 1.

    >>> row = {"context": 8, "correct": True, "finished": True, "response_tokens": 4}
    >>> contexts([row, row | {"correct": False}], lambda correct, n: (0.1, 0.9))["8"]["accuracy"]
    0.5
    """
    out = {}
    for context in dict.fromkeys(row["context"] for row in graded):
        rows = [row for row in graded if row["context"] == context]
        n, correct = len(rows), sum(row["correct"] for row in rows)
        low, high = interval(correct, n)
        out[str(context)] = {
            "accuracy": correct / n,
            "correct": correct,
            "n": n,
            "low": low,
            "high": high,
            "truncated": sum(not row["finished"] for row in rows) / n,
            "response_tokens_mean": sum(row["response_tokens"] for row in rows) / n,
        }
    return out
