"""Curves: how validation accuracy grows with time, generated tokens and iterations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spo.analysis import captions, results, stats, style
from spo.analysis.plotting import Axes, Canvas
from spo.analysis.slices import Arm, Axis, Figure, Metric
from spo.analysis.style import Drawn

#: With more methods than this, single seeds are left out of the picture, not out of the CSV, so that means can be read.
MOST_ARMS_WITH_SEED_LINES = 4


def learning_curves(settings: Figure, root: Path) -> Drawn:
    """Validation accuracy of each method over seconds of training, generated tokens and iterations, one panel each."""
    curves = results.curves(root, settings.study, (settings.metric,))
    parts = [curve_table(settings.study.arms, curves, axis, settings.metric) for axis in settings.x]
    table = pd.concat(parts, ignore_index=True)
    panels = len(settings.x)
    width = style.WIDE_INCHES if panels == 1 else style.FULL_INCHES
    canvas = Canvas(figsize=(width, 2.5), layout="constrained")
    grid = canvas.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes, axis, part in zip(grid, settings.x, parts, strict=True):
        _curve_panel(axes, settings.study.arms, axis, part)
    grid[0].set_ylabel("validation accuracy (%)")
    grid[0].set_ylim(*_limits(table))
    style.percent_axis(grid[0].yaxis)
    style.headline(canvas, settings.title)
    n = int(curves["validation_n"].max())
    bands = captions.bands(settings.study, "95 % interval over seeds")
    marks = f"Lines: mean over seeds{bands}."
    style.small_print(canvas, f"{settings.study.dataset}, {captions.seeds(settings.study)}, n = {n} problems. {marks}")
    canvas.draw_without_rendering()
    _label_curves(grid[-1], settings, settings.x[-1], parts[-1])
    return Drawn(canvas, table, _curve_caption(settings, n))


def curve_table(
    arms: tuple[Arm, ...], curves: pd.DataFrame, axis: Axis, metric: Metric = "validation_accuracy"
) -> pd.DataFrame:
    """Return the points of one panel: `kind` seed (as validated) and mean (over seeds, at the same x, with interval).

    `metric` names the column of `curves` that is shown. Seeds are compared at equal x by straight lines between their
    validations, up to where the first of them ends.
    """
    column = {"seconds": "seconds", "tokens": "tokens", "iterations": "iteration"}[axis]
    frames = []
    for arm in arms:
        own = curves[curves["method"] == arm.method]
        names = {"axis": axis, "method": arm.method, "label": arm.label}
        seeds = [group.sort_values("iteration") for _, group in own.groupby("seed")]
        for group in seeds:
            part = {"seed": group["seed"], "x": group[column], "accuracy": group[metric]}
            frames.append(pd.DataFrame({**names, "kind": "seed", **part}))
        end = min(float(group[column].max()) for group in seeds)
        # The mean position of each validation is a natural grid: as many points as were measured.
        places = np.unique(np.minimum(own.groupby("iteration")[column].mean().to_numpy(float), end))
        lines = np.stack([np.interp(places, group[column], group[metric]) for group in seeds])
        means = pd.DataFrame([stats.mean_of_runs(line) for line in lines.T], columns=["accuracy", "low", "high"])
        means[["low", "high"]] = means[["low", "high"]].clip(0, 1)
        frames.append(means.assign(**names, kind="mean", x=places, seeds=len(seeds)))
    columns = ["axis", "method", "label", "kind", "seed", "x", "accuracy", "low", "high", "seeds"]
    frame = pd.concat([part.reindex(columns=columns) for part in frames], ignore_index=True)
    return frame.astype({"seed": "Int64", "seeds": "Int64"})


def _curve_panel(axes: Axes, arms: tuple[Arm, ...], axis: Axis, part: pd.DataFrame) -> None:
    divisor, unit = _scale(axis, part)
    few = len(arms) <= MOST_ARMS_WITH_SEED_LINES
    for arm in arms:
        own = part[part["method"] == arm.method]
        mean = own[own["kind"] == "mean"]
        x, y = mean["x"] / divisor, 100 * mean["accuracy"]
        if captions.banded(arm):
            band = {"color": arm.colour, "alpha": 0.16 if few else 0.1, "lw": 0}
            axes.fill_between(x, 100 * mean["low"], 100 * mean["high"], **band)
        if few:
            for _, seed in own[own["kind"] == "seed"].groupby("seed"):
                axes.plot(seed["x"] / divisor, 100 * seed["accuracy"], color=arm.colour, lw=0.5, alpha=0.45)
        axes.plot(x, y, color=arm.colour, ls=arm.line, lw=1.6, zorder=3)
        axes.plot(x.iloc[-1], y.iloc[-1], "o", ms=3.2, color=arm.colour, clip_on=False, zorder=4)
    axes.set_xlim(0, 1.02 * part["x"].max() / divisor or 1.0)
    axes.grid(axis="y")
    if axis == "iterations":
        style.whole_numbers(axes.xaxis)
    names = {"seconds": "training time", "tokens": "generated tokens", "iterations": "iterations"}
    axes.set_xlabel(f"{names[axis]} ({unit})" if unit else names[axis])


def _label_curves(axes: Axes, settings: Figure, axis: Axis, part: pd.DataFrame) -> None:
    divisor, _ = _scale(axis, part)
    ends = []
    for arm in settings.study.arms:
        mean = part[(part["method"] == arm.method) & (part["kind"] == "mean")].iloc[-1]
        number = results.paper_number(settings, arm.method)
        label, remark = f"{arm.label}: {100 * mean.accuracy:.0f} %", f"paper: {number.value:g}" if number else ""
        ends.append((mean.x / divisor, 100 * mean.accuracy, label, arm.colour, remark))
    style.label_ends(axes, ends)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Bounds in per cent with room for the lines and for bands that are not much wider than the lines spread."""
    low, high = table["accuracy"].min(), table["accuracy"].max()
    room = 0.3 * (high - low) + 0.005
    bottom, top = max(table["low"].min(), low - room), min(table["high"].max(), high + room)
    return 100 * max(0.0, min(bottom, low) - 0.01), 100 * min(1.0, max(top, high) + 0.01)


def _scale(axis: Axis, part: pd.DataFrame) -> tuple[float, str]:
    return (1, "") if axis == "iterations" else style.readable(part["x"].max(), time=axis == "seconds")


def _curve_caption(settings: Figure, n: int) -> str:
    study = settings.study
    names = {"seconds": "training time (validation left out)", "tokens": "generated tokens", "iterations": "iterations"}
    thin = "thin lines: single seeds; " if len(study.arms) <= MOST_ARMS_WITH_SEED_LINES else ""
    several = any(len(arm.runs) > 1 for arm in study.arms)
    bands = captions.bands(study, "95 % t-interval over seeds, on the same problems").removeprefix("; ")
    bands = f"{thin}{bands}".removesuffix("; ") if several else "one seed each"
    text = (
        f"{settings.title}. {captions.validated(settings)} on {n} validation problems of {study.dataset} over "
        f"{', '.join(names[axis] for axis in settings.x)}; {captions.seeds(study)}. Thick lines: mean over seeds; "
        f"{bands}."
    )
    for arm in study.arms:
        number = results.paper_number(settings, arm.method)
        if number:
            remark = f" ({number.note})" if number.note else ""
            text += f" Paper, {number.where}, {arm.label}: {number.value:g} %{remark}."
    return captions.with_note(text, settings)
