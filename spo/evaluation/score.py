"""Accuracy with its interval and the truncation rate beside it, at each context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Interval = Callable[[float, float], tuple[float, float]]


def contexts(graded: Sequence[Mapping[str, object]], interval: Interval) -> dict[str, dict[str, float]]:
    """Return per context: accuracy (Pass@1), its interval, truncation rate, mean length. All shares are fractions of 1.

    Accuracy is the mean over problems of each problem's share of correct samples. Samples of one problem are
    correlated, so a problem is one draw: `interval(correct, n)` gets n problems and the sum of their shares, which
    gives (low, high). `samples` counts all responses and `correct` the correct ones among them.

    >>> row = {"problem_id": "a", "context": 8, "correct": True, "finished": True, "response_tokens": 4}
    >>> rows = [row, row | {"correct": False}, row | {"problem_id": "b"}]
    >>> found = contexts(rows, lambda correct, n: (correct - 1, n))["8"]
    >>> [found[name] for name in ("accuracy", "n", "samples", "correct", "low", "high")]
    [0.75, 2, 3, 2, 0.5, 2]
    """
    out = {}
    for context in dict.fromkeys(row["context"] for row in graded):
        rows = [row for row in graded if row["context"] == context]
        verdicts: dict[object, list[bool]] = {}
        for row in rows:
            verdicts.setdefault(row["problem_id"], []).append(row["correct"])
        n, share = len(verdicts), sum(sum(each) / len(each) for each in verdicts.values())
        low, high = interval(share, n)
        out[str(context)] = {
            "accuracy": share / n,
            "n": n,
            "samples": len(rows),
            "correct": sum(row["correct"] for row in rows),
            "low": low,
            "high": high,
            "truncated": sum(not row["finished"] for row in rows) / len(rows),
            "response_tokens_mean": sum(row["response_tokens"] for row in rows) / len(rows),
        }
    return out
