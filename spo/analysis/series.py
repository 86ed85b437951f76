"""Series: one number an iteration of each run, smoothed over a few iterations and averaged over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spo.analysis import captions, stats, style
from spo.analysis.plotting import Axes
from spo.analysis.slices import Arm
from spo.errors import UserError

#: Iterations that a running mean takes together, where one iteration has too few responses to show a course.
WINDOW_ITERATIONS = 9
SMOOTHED = f"running means over {WINDOW_ITERATIONS} iterations"


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over a centred window of an odd number of values (T); near the ends, over the part of it that there is.

    >>> running_mean(np.array([1.0, 2.0, 6.0]), 3).tolist()
    [1.5, 3.0, 4.0]
    >>> running_mean(np.array([1.0, 3.0]), 9).tolist()
    [2.0, 2.0]
    """
    reach = window // 2
    return np.array([np.mean(values[max(i - reach, 0) : i + reach + 1]) for i in range(len(values))])


def series_table(arms: tuple[Arm, ...], rows: pd.DataFrame, field: str, window: int = 1) -> pd.DataFrame:
    """Points of `field` over iterations: `kind` seed (as measured) and mean (over seeds, of running means).

    `rows` has one row for each run and iteration, rows without the field are left out; `low` and `high` are Student's
    95 % t-interval over seeds, at iterations that all seeds have; UserError where there are none.
    """
    frames = []
    for arm in arms:
        own = rows[rows["method"] == arm.method].dropna(subset=field)
        names = {"method": arm.method, "label": arm.label}
        points = {"seed": own["seed"], "iteration": own["iteration"], "value": own[field]}
        frames.append(pd.DataFrame({**names, "kind": "seed", **points}))
        runs = own.pivot(index="iteration", columns="seed", values=field).dropna()
        if runs.empty:
            raise UserError(f"{arm.method}: no iteration at which every seed has {field!r}; train its seeds alike")
        smooth = np.stack([running_mean(run, window) for run in runs.to_numpy(float).T])
        means = pd.DataFrame([stats.mean_of_runs(column) for column in smooth.T], columns=["value", "low", "high"])
        frames.append(means.assign(**names, kind="mean", iteration=runs.index, seeds=len(smooth)))
    columns = ["method", "label", "kind", "seed", "iteration", "value", "low", "high", "seeds"]
    frame = pd.concat([part.reindex(columns=columns) for part in frames], ignore_index=True)
    return frame.astype({"seed": "Int64", "seeds": "Int64"})


def draw_series(axes: Axes, arms: tuple[Arm, ...], table: pd.DataFrame, scale: float = 1.0) -> None:
    """Draw a `series_table`, values times `scale`: dots for seeds, a line for the mean, a band for its interval."""
    for arm in arms:
        own = table[table["method"] == arm.method]
        seeds, mean = own[own["kind"] == "seed"], own[own["kind"] == "mean"]
        dots = {"ms": 1.8, "mew": 0, "alpha": 0.3, "color": arm.colour}
        axes.plot(seeds["iteration"], scale * seeds["value"], "o", **dots)
        x, y = mean["iteration"], scale * mean["value"]
        if captions.banded(arm):
            axes.fill_between(x, scale * mean["low"], scale * mean["high"], color=arm.colour, alpha=0.18, lw=0)
        axes.plot(x, y, color=arm.colour, ls=arm.line, lw=1.6, zorder=3)
        axes.plot(x.iloc[-1], y.iloc[-1], "o", ms=3.2, color=arm.colour, clip_on=False, zorder=4)
    axes.set_xlim(0, 1.02 * max(table["iteration"].max(), 1))
    axes.grid(axis="y")
    style.whole_numbers(axes.xaxis)
    axes.set_xlabel("iterations")


def end(table: pd.DataFrame, arm: Arm) -> tuple[float, float]:
    """Last iteration of an arm's mean line, and its value there."""
    last = table[(table["method"] == arm.method) & (table["kind"] == "mean")].iloc[-1]
    return float(last["iteration"]), float(last["value"])
