"""Accuracy beside the sampling that it took (Fig. 4b)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from spo.analysis import bars, captions, results, style
from spo.analysis.plotting import Axes, Canvas
from spo.analysis.slices import Figure
from spo.analysis.style import Drawn

#: Column of the table -> the metric that is divided by the trajectories of its iteration, and the panel's words.
BUDGETS = {
    "states_a_trajectory": ("mc_points", "states estimated\na trajectory"),
    "tokens_a_trajectory": ("sampled_tokens", "tokens generated\na trajectory"),
}


def budget_bars(settings: Figure, root: Path) -> Drawn:
    """`accuracy_bars`, and in panels that share their rows the states estimated and tokens generated a trajectory."""
    keys = ["method", "kind", "seed"]
    table = bars.bar_table(settings, root).merge(budget_table(settings, root), how="left", on=keys)
    canvas = Canvas(figsize=(style.FULL_INCHES, bars.height_inches(settings)), layout="constrained")
    accuracy, *panels = canvas.subplots(1, 1 + len(BUDGETS), sharey=True, width_ratios=(2.2, 1, 1))
    bars.draw_accuracy(accuracy, settings, table)
    for axes, (column, (_, words)) in zip(panels, BUDGETS.items(), strict=True):
        _budget_panel(axes, settings, table, column)
        axes.set_xlabel(words)
    style.headline(canvas, settings.title)
    style.small_print(canvas, f"{settings.study.dataset}, {captions.sizes(table)}. {bars.marks(settings)}.")
    more = (
        "Right: states whose value is estimated, and tokens generated, rollouts included, both for each response "
        "trained on; means over iterations and seeds."
    )
    return Drawn(canvas, table, bars.accuracy_caption(settings, table, more))


def budget_table(settings: Figure, root: Path) -> pd.DataFrame:
    """`BUDGETS` of each run, mean over iterations (`kind` seed), and of each method, mean over runs (`kind` mean)."""
    fields = tuple(field for field, _ in BUDGETS.values())
    rows = results.metrics(root, settings.study, (*fields, "trajectories"))
    shares = {column: rows[field] / rows["trajectories"] for column, (field, _) in BUDGETS.items()}
    seeds = rows.assign(**shares).groupby(["method", "seed"], as_index=False)[list(BUDGETS)].mean()
    means = seeds.groupby("method", as_index=False)[list(BUDGETS)].mean()
    frame = pd.concat([seeds.assign(kind="seed"), means.assign(kind="mean")], ignore_index=True)
    return frame.astype({"seed": "Int64"})


def _budget_panel(axes: Axes, settings: Figure, table: pd.DataFrame, column: str) -> None:
    form = "{:.1f}" if table[column].max() < 100 else "{:.0f}"
    words = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "size": 7.5}
    for place, arm in enumerate(results.arms(settings.study)):
        own = table[table["method"] == arm.method]
        mean, seeds = own[own["kind"] == "mean"][column].iloc[0], own[own["kind"] == "seed"][column]
        if pd.isna(mean):
            axes.annotate("–", (0, place), color=style.QUIET, **words)
            continue
        axes.barh(place, mean, height=0.5, color=arm.colour, alpha=0.85, linewidth=0)
        bars.draw_seeds(axes, place, seeds)
        axes.annotate(form.format(mean), (seeds.max(), place), **words)
    axes.set_xlim(0, 1.35 * table[column].max() or 1.0)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=3)
    axes.grid(axis="x")
