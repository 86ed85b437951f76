"""Overfitting (Fig. 8): what is learnt of the training problems, what of others, and how alike responses become."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from spo.analysis import captions, results, series, style
from spo.analysis.plotting import Canvas
from spo.analysis.slices import Figure, Metric
from spo.analysis.style import Drawn


class Panel(NamedTuple):
    """A field of metrics.jsonl, a fraction: its heading and the iterations that its running mean takes together."""

    field: str
    heading: str
    window: int = 1


def panels(metric: Metric) -> tuple[Panel, ...]:
    """Return the panels; `metric` is the validation accuracy shown."""
    drawn = "greedy" if metric == "validation_accuracy" else "sampled"
    return (
        Panel("accuracy", "training problems, sampled", series.WINDOW_ITERATIONS),
        Panel(metric, f"validation problems, {drawn}"),
        Panel("distinct_responses", "distinct responses", series.WINDOW_ITERATIONS),
    )


def overfitting(settings: Figure, root: Path) -> Drawn:
    """Accuracy on training problems, accuracy on validation problems and share of distinct responses, a panel each."""
    arms, shown = settings.study.arms, panels(settings.metric)
    rows = results.metrics(root, settings.study, tuple(panel.field for panel in shown))
    parts = [series.series_table(arms, rows, panel.field, panel.window) for panel in shown]
    canvas = Canvas(figsize=(style.FULL_INCHES, 2.4), layout="constrained")
    grid = canvas.subplots(1, len(shown))
    for axes, panel, part in zip(grid, shown, parts, strict=True):
        series.draw_series(axes, arms, part, scale=100)
        axes.set_title(panel.heading, loc="left")
        style.percent_axis(axes.yaxis)
    # The two accuracies are there to be compared, so they share their bounds.
    for axes, some in zip(grid, (parts[:2], parts[:2], parts[2:]), strict=True):
        axes.set_ylim(*_bounds(pd.concat(some)))
    grid[0].set_ylabel("accuracy (%)")
    grid[2].set_ylabel("share (%)")
    style.headline(canvas, settings.title)
    n = int(rows["validation_n"].max())
    sizes = f"{settings.study.dataset}, {captions.seeds(settings.study)}, n = {n} validation problems"
    marks = captions.marks(settings.study, f"{series.SMOOTHED} (validation: as measured)")
    style.small_print(canvas, f"{sizes}. {marks}.")
    canvas.draw_without_rendering()
    for axes, part in zip(grid, parts, strict=True):
        ends = [(arm, *series.end(part, arm)) for arm in arms]
        named = axes is grid[-1]  # names once, beside the last panel; numbers beside each
        labels = [(x, 100 * y, f"{arm.label}: " * named + f"{100 * y:.0f} %", arm.colour, "") for arm, x, y in ends]
        style.label_ends(axes, labels)
    table = pd.concat([part.assign(field=panel.field) for panel, part in zip(shown, parts, strict=True)])
    validated = captions.validated(settings)
    validated = validated[0].lower() + validated[1:]
    text = (
        f"{settings.title}. Over iterations: accuracy of the responses sampled for training, {validated} on "
        f"validation problems, and share of different responses among those to the same problem. {sizes}. {marks}."
    )
    return Drawn(canvas, table, captions.with_note(text, settings))


def _bounds(table: pd.DataFrame) -> tuple[float, float]:
    low, high = 100 * table["value"].min(), 100 * table["value"].max()
    room = 0.05 * (high - low) + 1
    return max(0.0, low - room), min(102.0, high + room)
