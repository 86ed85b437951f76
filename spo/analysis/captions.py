"""Words that figures and tables share: how many seeds and problems, and which context."""

from __future__ import annotations

import pandas as pd

from spo.analysis.slices import Arm, Figure, Study, Table
from spo.analysis.stats import Estimate

FEWEST_SEEDS_OF_A_BAND = 3


def seeds(study: Study) -> str:
    """How many seeds each trained method has, such as `3 seeds` or `2–3 seeds`."""
    trained = [arm for arm in study.arms if arm.trained]
    return span([len(arm.runs) for arm in trained or study.arms], "seed")


def sizes(table: pd.DataFrame) -> str:
    """Seeds and problems of a table with columns kind, method, seeds and n, such as `3 seeds, n = 500 problems`."""
    means = table[table["kind"] == "mean"]
    trained = means[means["method"] != "base"] if (means["method"] != "base").any() else means
    return f"{span(trained['seeds'].tolist(), 'seed')}, n = {int(means['n'].max())} problems"


def chosen(study: Study) -> str:
    """What the intervals of a study allow for: with one seed a method, only the choice of problems."""
    return "of seeds and of problems" if any(len(arm.runs) > 1 for arm in study.arms) else "of problems (one seed each)"


def marks(study: Study, smoothed: str) -> str:
    """What dots, lines and bands of a series over iterations are; `smoothed` says how single seeds are."""
    mean = "mean over seeds of " if any(len(arm.runs) > 1 for arm in study.arms) else ""
    return (
        f"Dots: single iterations of single seeds; lines: {mean}{smoothed}{bands(study, '95 % t-interval over seeds')}"
    )


def banded(arm: Arm) -> bool:
    """Return True if a method has a band: a t-interval from two seeds, twelve times as wide as the seeds are apart,
    says nothing and hides the lines."""
    return len(arm.runs) >= FEWEST_SEEDS_OF_A_BAND


def bands(study: Study, words: str) -> str:
    """Return what bands are, `words`, and which methods have none.

    Of one seed there is no interval at all, and nothing to say.
    """
    if any(map(banded, study.arms)):
        return f"; bands: {words}"
    return "; no bands: two seeds give no useful interval" if any(len(arm.runs) > 1 for arm in study.arms) else ""


def estimate(mean: Estimate, unit: str) -> str:
    """A mean with its interval, where it has one, in three figures.

    >>> estimate(Estimate(1.234, 1.1, 1.3), " s"), estimate(Estimate(2.0, 2.0, 2.0), "")
    ('1.23 s [1.1, 1.3]', '2')
    """
    interval = "" if mean.low == mean.high else f" [{mean.low:.3g}, {mean.high:.3g}]"
    return f"{mean.value:.3g}{unit}{interval}"


def span(counts: list[int], noun: str) -> str:
    """Counts of one thing in words.

    >>> span([3, 3], "seed"), span([1], "seed"), span([2, 3], "seed")
    ('3 seeds', '1 seed', '2–3 seeds')
    """
    low, high = min(counts), max(counts)
    return f"{low}{f'–{high}' if high > low else ''} {noun}{'s' if high > 1 else ''}"


def validated(settings: Figure | Table) -> str:
    """Return the name of the validation accuracy shown, with its sampling.

    >>> validated(Figure(draw="overfitting", title="T", metric="validation_sampled_accuracy", sampled="2 samples"))
    'Sampled accuracy (2 samples)'
    """
    if settings.metric == "validation_accuracy":
        return "Greedy accuracy"
    return f"Sampled accuracy ({settings.sampled})" if settings.sampled else "Sampled accuracy"


def variants(study: Study) -> str:
    """What each variant changes in its method, such as `GRPO + mask: GRPO with loss.probability_mask 0.9.`"""
    changed = [
        f"{arm.label}: {arm.variant_of} with {', '.join(f'{key} {value}' for key, value in arm.changes)}."
        for arm in study.arms
        if arm.variant_of and arm.changes
    ]
    return " ".join(changed)


def with_note(text: str, settings: Figure | Table) -> str:
    """The caption, followed by what variants change and by the note that the config adds."""
    parts = (text, variants(settings.study) if settings.study else "", settings.note)
    return " ".join(part for part in parts if part)
