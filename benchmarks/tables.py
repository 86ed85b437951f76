"""What the benchmarks' tables have in common."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path


def write(path: Path, rows: Sequence[object]) -> None:
    """A CSV of dataclass instances of one kind, numbers to four significant digits, None as nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0].__dataclass_fields__)
        writer.writerows([short(value) for value in vars(row).values()] for row in rows)


def short(value: object) -> object:
    """Floats of four significant digits, or whole; the rest as it is.

    >>> short(0.123456), short(123456.7), short(12), short("text")
    (0.1235, 123457, 12, 'text')
    """
    if not isinstance(value, float):
        return value
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")
