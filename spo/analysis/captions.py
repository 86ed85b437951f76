"""Words that figures and tables share: how many seeds and problems, and which context."""

from __future__ import annotations

import pandas as pd

from spo.analysis.slices import Figure, Study, Table


def seeds(study: Study) -> str:
    """How many seeds each trained method has, such as `3 seeds` or `2–3 seeds`."""
    return span([len(arm.runs) for arm in study.arms], "seed")


def sizes(table: pd.DataFrame) -> str:
    """Seeds and problems of a table with columns kind, method, seeds and n, such as `3 seeds, n = 500 problems`."""
    means = table[table["kind"] == "mean"]
    trained = means[means["method"] != "base"] if (means["method"] != "base").any() else means
    return f"{span(trained['seeds'].tolist(), 'seed')}, n = {int(means['n'].max())} problems"


def chosen(study: Study) -> str:
    """What the intervals of a study allow for: with one seed a method, only the choice of problems."""
    return "of seeds and of problems" if any(len(arm.runs) > 1 for arm in study.arms) else "of problems (one seed each)"


def span(counts: list[int], noun: str) -> str:
    """Counts of one thing in words.

    >>> span([3, 3], "seed"), span([1], "seed"), span([2, 3], "seed")
    ('3 seeds', '1 seed', '2–3 seeds')
    """
    low, high = min(counts), max(counts)
    return f"{low}{f'–{high}' if high > low else ''} {noun}{'s' if high > 1 else ''}"


def with_note(text: str, settings: Figure | Table) -> str:
    """The caption, followed by the note that the config adds."""
    return f"{text} {settings.note}" if settings.note else text
