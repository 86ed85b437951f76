"""The picture of `growth.py`: time and memory against each variable."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spo.analysis import style
from spo.analysis.plotting import Axes, Canvas, FuncFormatter, NullLocator

if TYPE_CHECKING:
    from growth import Row

#: variable -> the words under its panels; other variables are not drawn.
VARIABLES = {
    "prompts": "prompts",
    "rollouts": "rollouts a prompt",
    "response_tokens": "tokens of a response",
    "width": "width of the model",
}
FIELDS = {"seconds": "seconds of processor time", "memory_mib": "peak memory, MiB"}
#: What is not told from nothing is drawn there.
LEAST = {"seconds": 1e-4, "memory_mib": 1.0}
COLOURS = {"sampling": "#0072B2", "training": "#D55E00"}
GREY = "#bdbdbd"
SMALL_PRINT = (
    "One core, float32. 8 prompts of 64 tokens, 4 responses of 64 to each, width 128, 4 layers, but for what varies; "
    "where length does, 1 response. Memory: the model and what the work adds to it. At most 64 rows are "
    "sampled at once, and a pass of training takes 2,048 tokens or one longer row. In the corners: slopes over the "
    "last three points. Grey: slope 1 through the last point."
)


def draw(rows: Sequence[Row], path: Path) -> None:
    """A PNG with time above, memory below and a column for each variable, on logarithmic axes."""
    with style.styled():
        canvas = Canvas(figsize=(1.3 * style.FULL_INCHES, 4.4), layout="constrained")
        grid = canvas.subplots(len(FIELDS), len(VARIABLES), sharex="col", sharey="row")
        for panels, (field, words) in zip(grid, FIELDS.items(), strict=True):
            panels[0].set_ylabel(words)
            for axes, variable in zip(panels, VARIABLES, strict=True):
                _panel(axes, [row for row in rows if row.variable == variable], field)
        for axes, name in zip(grid[-1], VARIABLES.values(), strict=True):
            axes.set_xlabel(name)
        style.headline(canvas, "Growth of time and memory")
        canvas.supxlabel(
            textwrap.fill(SMALL_PRINT, 205), x=0.01, ha="left", size=6, color=style.QUIET, linespacing=1.25
        )
        canvas.savefig(path, dpi=160, metadata={"Software": None})


def _panel(axes: Axes, rows: Sequence[Row], field: str) -> None:
    curves = {work: [row for row in rows if row.work == work] for work in COLOURS}
    upper = max(curves, key=lambda work: getattr(curves[work][-1], field))
    for work, colour in COLOURS.items():
        x = np.array([row.value for row in curves[work]], float)
        y = np.maximum([getattr(row, field) for row in curves[work]], LEAST[field])
        axes.plot(x, y[-1] * x / x[-1], color=GREY, lw=0.8, ls=(0, (4, 2)), zorder=1, scaley=False)
        axes.plot(x, y, color=colour, marker="o", ms=3, lw=1.3)
        last = curves[work][-1]
        fitted = last.time_slope if field == "seconds" else last.memory_slope
        words = work if fitted is None else f"{work} {fitted:.2f}"
        # In the corners that rising lines leave free.
        x, y, across, along = (0.03, 0.97, "left", "top") if work == upper else (0.98, 0.03, "right", "bottom")
        axes.text(x, y, words, transform=axes.transAxes, ha=across, va=along, color=colour, size=6.5)
    axes.set(xscale="log", yscale="log")
    ticks = sorted({row.value for row in rows})
    axes.set_xticks(ticks[:: -(-len(ticks) // 5)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1024:g}K" if x >= 1024 else f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.margins(y=0.15)
    axes.grid()
