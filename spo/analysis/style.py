"""Style of every figure: colours, labels kept apart, and reproducible files.

Modules that draw take matplotlib from `spo.analysis.plotting`, which imports it without the user's own settings.
"""

from __future__ import annotations

import io
import textwrap
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from spo import store
from spo.analysis.plotting import Axes, Axis, Canvas, MaxNLocator, matplotlib

INK = "#1a1a1a"
QUIET = "#6b6b6b"
GRID = "#e4e4e4"
#: Width of a half-page figure, of one with labels beside it, and of a full-page figure, in inches.
HALF_INCHES, WIDE_INCHES, FULL_INCHES = 3.6, 4.4, 7.0
#: Distance between two lines of direct labels, in points.
LABEL_GAP_POINTS = 9.5

#: Letters in a line of a label, and lines in one.
LABEL_LETTERS, LABEL_LINES = 32, 3

#: Files of a figure.
FORMATS = ("png", "pdf")
#: Fonts that ship with matplotlib, so every machine draws the same letters.
FONT, MONOSPACE = "DejaVu Sans", "DejaVu Sans Mono"

_RC = {
    "text.parse_math": False,  # a `$` in a label is a dollar
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,  # embedded TrueType: text stays text, as conferences require
    "svg.hashsalt": "spo",
}


class Drawn(NamedTuple):
    """A finished figure: the canvas, every plotted point, and the caption."""

    canvas: Canvas
    table: pd.DataFrame
    caption: str


def styled(fallbacks: tuple[str, ...] = ()) -> AbstractContextManager[None]:
    """Return the context in which every figure is drawn and saved; `fallbacks` have letters that `FONT` lacks.

    No backend is chosen: a figure without pyplot has none until it is saved, and then that of the file's format.
    """
    shipped = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    fonts = {"font.family": [FONT, *fallbacks], "font.monospace": [MONOSPACE, *fallbacks]}
    return matplotlib.rc_context({**shipped, **_RC, **fonts})


def monospace() -> list[str]:
    """Return the families of monospaced text, inside of `styled`."""
    return list(matplotlib.rcParams["font.monospace"])


def save(canvas: Canvas, stem: Path, dpi: int, formats: tuple[str, ...] = FORMATS) -> None:
    """Write stem.png and stem.pdf; the same figure gives the same bytes, for no date is written."""
    if "png" in formats:
        _save(canvas, Path(f"{stem}.png"), dpi=dpi, metadata={"Software": None})
        canvas.set_layout_engine("none")  # the PDF keeps the places just found, which saves a quarter of the time
    if "pdf" in formats:
        _save(canvas, Path(f"{stem}.pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})


def _save(canvas: Canvas, path: Path, **how) -> None:
    """Write one file whole or not at all."""
    drawn = io.BytesIO()
    canvas.savefig(drawn, format=path.suffix[1:], **how)
    store.write_bytes(path, drawn.getvalue())


def wrapped(label: str) -> str:
    """Return a label on as many lines as it needs, three at most; a longer one loses its middle.

    Labels of methods often differ at their ends, and the whole of each stands in the figure's CSV.

    >>> wrapped("SPO-chain without mask")
    'SPO-chain without mask'
    >>> wrapped("SPO-chain with cutpoints below a probability of 0.8").splitlines()
    ['SPO-chain with cutpoints below a', 'probability of 0.8']
    """
    lines = textwrap.wrap(label, LABEL_LETTERS)
    if len(lines) > LABEL_LINES:
        end = label[-LABEL_LETTERS:].lstrip()
        lines = [*lines[: LABEL_LINES - 2], lines[LABEL_LINES - 2][: LABEL_LETTERS - 2] + " …", end]
    return "\n".join(lines)


def push_apart(wanted: np.ndarray, gap: float, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    """Positions (N) at least `gap` apart, as near to the `wanted` ones (N) as least squares allows, in the same order.

    They stay within [low, high] where there is room.

    >>> push_apart(np.array([10.0, 10.0, 30.0]), 4.0).tolist()
    [8.0, 12.0, 30.0]
    >>> push_apart(np.array([1.0, 0.0]), 4.0, low=0.0).tolist()
    [4.0, 0.0]
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    placed = _isotonic(np.asarray(wanted, float)[order] - steps)
    result = np.empty(len(order))
    # Clipping a non-decreasing sequence keeps it so; the lower bound wins when there is no room for all.
    result[order] = np.maximum(np.minimum(placed, high - steps[-1]), low) + steps
    return result


def _isotonic(values: np.ndarray) -> np.ndarray:
    """The non-decreasing sequence (N) nearest to `values` (N) by least squares, by a minimax formula (Robertson, Wright
    & Dykstra 1988): for a handful of labels no library need be imported."""
    places = range(len(values))
    least = [[min(values[j : k + 1].mean() for k in places[i:]) for j in places[: i + 1]] for i in places]
    return np.array([max(row) for row in least])


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str, str]]) -> None:
    """Name lines at the right margin instead of in a legend; ends: (x, y, label, colour, remark in grey).

    Labels are pushed apart and a dotted line leads from each line's end to its label. The layout must be final.
    """
    height = axes.get_window_extent().height * 72 / axes.figure.dpi
    to_share = axes.transData + axes.transAxes.inverted()
    starts = np.array([to_share.transform((x, y)) for x, y, _, _, _ in ends])
    names = [wrapped(label) for _, _, label, _, _ in ends]
    gap = LABEL_GAP_POINTS * max(1 + name.count("\n") for name in names)
    placed = push_apart(starts[:, 1] * height, gap, 0, height) / height
    for name, (_, _, _, colour, remark), (x, y), share in zip(names, ends, starts, placed, strict=True):
        way = {"color": colour, "lw": 0.8, "alpha": 0.7, "transform": axes.transAxes, "clip_on": False}
        axes.plot([x, 1.005], [y, y], ls=(0, (1, 2)), **way)
        axes.plot([1.005, 1.03], [y, share], **way)
        words = axes.annotate(
            name, (1.04, share), xycoords="axes fraction", va="center", color=darker(colour), weight="bold", size=7.5
        )
        axes.annotate(f"  {remark}", (1, 0.15), xycoords=words, va="baseline", color=QUIET, size=6.5)


def darker(colour: str) -> str:
    """The colour, darkened just enough that small text in it is readable on white (luminance at most 0.4)."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    luminance = float(rgb @ np.array([0.2126, 0.7152, 0.0722]))
    return matplotlib.colors.to_hex(rgb * min(1.0, 0.4 / max(luminance, 1e-9)))


def readable(maximum: float, *, time: bool) -> tuple[float, str]:
    """Divisor that turns values up to `maximum` into short numbers, and its name; `time` is True for seconds.

    >>> readable(5400, time=True), readable(90, time=True), readable(3.2e6, time=False)
    ((60, 'minutes'), (1, 'seconds'), (1000000.0, 'millions'))
    """
    hours, minutes = (3600, "hours", 3 * 3600), (60, "minutes", 180)
    steps = [hours, minutes] if time else [(1e9, "billions", 1e9), (1e6, "millions", 1e6), (1e3, "thousands", 1e4)]
    return next(((divisor, name) for divisor, name, least in steps if maximum >= least), (1, "seconds" if time else ""))


def percent_axis(axis: Axis) -> None:
    """Whole numbers along an axis of per cents."""
    whole_numbers(axis)
    axis.set_major_formatter("{x:.0f}")


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers alone, none twice, however short the axis is."""
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def headline(canvas: Canvas, text: str) -> None:
    """The title, at the left edge of the figure."""
    canvas.suptitle(textwrap.fill(text, int(14 * canvas.get_figwidth())), x=0.01, ha="left", weight="bold", size=8.5)


def small_print(canvas: Canvas, text: str) -> None:
    """A few quiet words under the figure: seeds, problems, what the marks are."""
    words = textwrap.fill(text.replace(" %", "\u00a0%"), int(22 * canvas.get_figwidth()))
    canvas.supxlabel(words, x=0.01, ha="left", size=6, color=QUIET, linespacing=1.25)
