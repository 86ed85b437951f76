"""What sampling costs an iteration: seconds of generation (Fig. 3b) and states that rollouts estimate (Fig. 10)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from spo.analysis import captions, results, series, stats, style
from spo.analysis.plotting import Canvas
from spo.analysis.slices import Arm, Figure
from spo.analysis.style import Drawn


class Words(NamedTuple):
    """How a quantity is spoken of: along the axis, after a number, and in the caption."""

    axis: str
    unit: str
    meaning: str


def generation_time(settings: Figure, root: Path) -> Drawn:
    """Seconds that each iteration spends on making its episodes, over iterations, a line a method (Fig. 3b)."""
    rows = results.generation_seconds(root, settings.study)
    meaning = (
        "Seconds in which an iteration makes its episodes: sampling of responses and rollouts, and their "
        "log-probabilities; training, validation and saving are left out"
    )
    return _over_iterations(settings, rows, Words("seconds an iteration", "\u00a0s", meaning))


def sampling_points(settings: Figure, root: Path) -> Drawn:
    """States whose value is estimated for each trajectory, over iterations, a line a method (Fig. 10)."""
    rows = results.metrics(root, settings.study, ("mc_points", "trajectories"))
    meaning = (
        "States whose value an iteration estimates, divided by the responses that it trains on; a state that responses "
        "share counts once"
    )
    words = Words("states a trajectory", "", meaning)
    return _over_iterations(settings, rows.assign(value=rows["mc_points"] / rows["trajectories"]), words)


def _over_iterations(settings: Figure, rows: pd.DataFrame, words: Words) -> Drawn:
    """`rows` has one row for each run and iteration, with the number shown in `value`."""
    arms = settings.study.arms
    table = series.series_table(arms, rows, "value", series.WINDOW_ITERATIONS)
    canvas = Canvas(figsize=(style.WIDE_INCHES, 2.5), layout="constrained")
    axes = canvas.subplots()
    series.draw_series(axes, arms, table)
    # Bands of three seeds may be wide; the points say how high the picture has to be.
    axes.set_ylim(0, 1.06 * table["value"].max() or 1.0)
    axes.set_ylabel(words.axis)
    style.headline(canvas, settings.title)
    sizes = f"{settings.study.dataset}, {captions.seeds(settings.study)}"
    marks = captions.marks(settings.study, series.SMOOTHED)
    style.small_print(canvas, f"{sizes}. {marks}.")
    canvas.draw_without_rendering()
    means = {arm.method: _mean(table, arm) for arm in arms}
    ends = [
        (*series.end(table, arm), arm.label, arm.colour, f"mean {means[arm.method].value:.3g}{words.unit}")
        for arm in arms
    ]
    style.label_ends(axes, ends)
    said = "; ".join(f"{arm.label} {captions.estimate(means[arm.method], words.unit)}" for arm in arms)
    interval = " with 95 % t-interval over seeds" if table["seeds"].max() > 1 else ""
    text = f"{settings.title}. {words.meaning}. {sizes}. {marks}. Mean over all iterations and seeds{interval}: {said}."
    return Drawn(canvas, table, captions.with_note(text, settings))


def _mean(table: pd.DataFrame, arm: Arm) -> stats.Estimate:
    own = table[(table["method"] == arm.method) & (table["kind"] == "seed")]
    return stats.mean_of_runs(own.groupby("seed")["value"].mean().to_numpy())
