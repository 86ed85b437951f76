"""One response with its uncertain tokens, its segments and what each segment earned (Fig. 12)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from spo.analysis import captions, results, style
from spo.analysis.plotting import Axes, Canvas, LinearSegmentedColormap, Rectangle, to_hex
from spo.analysis.slices import Figure
from spo.analysis.style import Drawn
from spo.errors import UserError

#: A line of text: its characters, and its height with the advantages above it, in inches.
LINE_CHARACTERS, LINE_INCHES = 76, 0.37
#: What a monospaced character of this size needs, in inches.
FONT_POINTS = 9.0
CHARACTER_INCHES = FONT_POINTS * 0.602 / 72
MARGIN_INCHES, TITLE_INCHES, QUESTION_INCHES, LEGEND_INCHES = 0.15, 0.32, 0.14, 0.6
#: Characters that the label of an advantage needs, neighbours apart.
LABEL_CHARACTERS = 5.5
RED, BLUE, GAIN, LOSS = "#C62828", "#0057B8", "#1B7837", "#762A83"
#: Ground of a token, from impossible to sure.
GROUND = LinearSegmentedColormap.from_list("probability", ["#F4A259", "#FFFFFF"])
LINE_END, END = "↵", "∎"


class Placed(NamedTuple):
    """A token on the page: what is written, and where it begins."""

    token: int
    text: str
    line: int
    column: int


def segments(settings: Figure, root: Path) -> Drawn:
    """The tokens of a traced response on a ground that shows their probability, cutpoints red, segments between bars.

    `options.problem` is the place of the problem in the trace, counted from 0.
    """
    traced = results.read_json(root / settings.files[0])
    number, there = settings.options.get("problem", 0), len(traced["problems"])
    if number not in range(there):
        raise UserError(f"{settings.title}: options.problem is {number!r}, but the trace has problems 0 to {there - 1}")
    problem = traced["problems"][number]
    row, question = problem["chain"], textwrap.wrap(problem["question"], LINE_CHARACTERS)
    placed = place(row["tokens"], row["finished"])
    top = TITLE_INCHES + QUESTION_INCHES * len(question)
    bottom = top + LINE_INCHES * (1 + placed[-1].line)
    page = _page(bottom + LEGEND_INCHES)
    for number, line in enumerate(question):
        page.text(0, TITLE_INCHES + QUESTION_INCHES * number, line, size=7.5, color=style.QUIET, va="top")
    _tokens(page, row, placed, top)
    _advantages(page, row, placed, top)
    _legend(page, bottom + 0.27, f"{END if row['finished'] else 'cut off'} reward {row['reward']:g}")
    page.text(-0.8, 0.08, settings.title, size=8.5, weight="bold", va="top")
    return Drawn(page.figure, token_table(row), _caption(settings, problem, traced["settings"]["chain"]))


def place(tokens: Sequence[str], finished: bool) -> list[Placed]:
    """Where each token stands; a line ends where the text's does or after `LINE_CHARACTERS`.

    A line end is written as a sign of its own, and so is the end of a response that ended by itself.

    >>> place(["a", " b", "\\n", "c", ""], True)[2:]
    [Placed(token=2, text='↵', line=0, column=3), Placed(token=3, text='c', line=1, column=0), \
Placed(token=4, text='∎', line=1, column=1)]
    """
    placed, line, column = [], 0, 0
    for number, piece in enumerate(tokens):
        text = END if finished and number == len(tokens) - 1 and not piece else piece.replace("\n", LINE_END)
        if column and column + len(text) > LINE_CHARACTERS:
            line, column, text = line + 1, 0, text.lstrip(" ")
        placed.append(Placed(number, text, line, column))
        column += len(text)
        if "\n" in piece:
            line, column = line + 1, 0
    return placed


def token_table(row: dict[str, Any]) -> pd.DataFrame:
    """One row for each token of a traced chain: its text, probability, and segment with the values at both ends."""
    positions = np.arange(len(row["tokens"]))
    segment = np.searchsorted(row["cuts"], positions, side="right") - 1
    values = np.array([np.nan if value is None else value for value in row["values"]])
    return pd.DataFrame(
        {
            "position": positions,
            "text": row["tokens"],
            "probability": row["probabilities"],
            "cutpoint": np.isin(positions, row["cutpoints"]),
            "segment": segment,
            "value_before": values[segment],
            "value_after": values[segment + 1],
            "advantage": np.array(row["advantages"])[segment],
        }
    )


# ---- drawing: x in characters, y in inches from the top --------------------------------------------------------------


def _page(height_inches: float) -> Axes:
    """Axes over a whole new figure, a margin left and right apart."""
    width = LINE_CHARACTERS * CHARACTER_INCHES + 2 * MARGIN_INCHES
    canvas = Canvas(figsize=(width, height_inches))
    page = canvas.add_axes((0, 0, 1, 1))
    margin = MARGIN_INCHES / CHARACTER_INCHES
    page.set(xlim=(-margin, LINE_CHARACTERS + margin), ylim=(height_inches, 0))
    page.axis("off")
    return page


def _tokens(page: Axes, row: dict[str, Any], placed: Sequence[Placed], top: float) -> None:
    """Each token on its ground, red where it is a cutpoint, with a bar before the first of each segment."""
    for each in placed:
        text = each.text.strip(" ")
        x = each.column + len(each.text) - len(each.text.lstrip(" "))
        y = _baseline(each.line, top)
        _ground(page, x, y, len(text), row["probabilities"][each.token])
        _word(page, x, y, text, uncertain=each.token in row["cutpoints"])
        if each.token in row["cuts"]:
            _bar(page, (each.column + x) / 2, y)


def _ground(page: Axes, x: float, y: float, characters: int, probability: float) -> None:
    colour = to_hex(GROUND(float(probability)))  # a whole number would be a place in the table
    page.add_patch(Rectangle((x, y - 0.125), characters, 0.17, color=colour, lw=0, zorder=1))


def _word(page: Axes, x: float, y: float, text: str, uncertain: bool) -> None:
    colour, weight = (RED, "bold") if uncertain else (style.QUIET if text in (LINE_END, END) else style.INK, "normal")
    font = {"family": style.monospace(), "size": FONT_POINTS, "color": colour, "weight": weight}
    page.text(x, y, text, va="baseline", zorder=3, **font)


def _bar(page: Axes, x: float, y: float) -> None:
    page.plot([x, x], [y - 0.22, y + 0.06], color=BLUE, lw=1.4, zorder=4, solid_capstyle="butt")


def _advantages(page: Axes, row: dict[str, Any], placed: Sequence[Placed], top: float) -> None:
    """A strip over each segment, and its advantage once, on the line that has most of it."""
    cuts, labels = row["cuts"], {}
    for k, advantage in enumerate(row["advantages"]):
        spans: dict[int, tuple[int, int]] = {}
        for each in placed[cuts[k] : cuts[k + 1]]:
            start, _ = spans.get(each.line, (each.column, 0))
            spans[each.line] = (start, each.column + len(each.text))
        for line, (start, end) in spans.items():
            _strip(page, start, end, _baseline(line, top), advantage)
        line, (start, end) = max(spans.items(), key=lambda item: item[1][1] - item[1][0])
        labels.setdefault(line, []).append(((start + end) / 2, advantage))
    for line, written in labels.items():
        middles = np.array([x for x, _ in written])
        half = LABEL_CHARACTERS / 2
        for x, (_, advantage) in zip(
            style.push_apart(middles, LABEL_CHARACTERS, half, LINE_CHARACTERS - half), written, strict=True
        ):
            _label(page, x, _baseline(line, top), advantage)


def _strip(page: Axes, start: float, end: float, y: float, advantage: float) -> None:
    page.plot(
        [start + 0.2, end - 0.1], [y - 0.165] * 2, color=_sign(advantage), lw=2.2, solid_capstyle="butt", zorder=2
    )


def _label(page: Axes, x: float, y: float, advantage: float) -> None:
    words = f"{advantage:+.2f}".replace("-", "\u2212") if advantage else "0"
    page.text(x, y - 0.195, words, size=6.5, weight="bold", color=_sign(advantage), ha="center", va="bottom")


def _sign(advantage: float) -> str:
    return GAIN if advantage > 0 else LOSS if advantage < 0 else style.QUIET


def _baseline(line: int, top: float) -> float:
    return top + LINE_INCHES * (line + 0.8)


def _legend(page: Axes, y: float, ending: str) -> None:
    """What the marks mean, each drawn as it is above."""
    words = {"size": 7, "color": style.QUIET, "va": "baseline"}
    for step in range(40):
        page.add_patch(Rectangle((step / 5, y - 0.1), 0.2, 0.13, color=to_hex(GROUND(step / 39)), lw=0))
    page.text(0.2, y, "0", **words)
    page.text(7.8, y, "1", ha="right", **words)
    page.text(8.6, y, "probability of a token", **words)
    _word(page, 30, y, "word", uncertain=True)
    page.text(34.8, y, "cutpoint: an uncertain token", **words)
    _bar(page, 60, y + 0.04)
    page.text(61, y, "start of a segment", **words)
    below = y + 0.2
    _strip(page, -0.2, 4, below + 0.13, 1.0)
    _strip(page, 4, 8, below + 0.13, -1.0)
    page.text(8.6, below, "advantage of a segment: how it changed the chance of a right answer", **words)
    page.text(76, below, ending, ha="right", **words)


def _caption(settings: Figure, problem: dict[str, Any], chain: dict[str, Any]) -> str:
    row, partition = problem["chain"], chain["partition"]
    text = (
        f"{settings.title}. A response to {problem['id']}, reward {row['reward']:g}. The darker the ground, the less "
        f"probable the token; cutpoints, tokens below {partition['threshold']:g}, are red. Blue bars: starts of "
        f"segments (partition {partition['name']}). Above each segment its advantage: the value at its end minus that "
        f"at its start, each the mean of {chain['rollouts_per_cut']} rollouts; after the last token the value is the "
        "reward."
    )
    return captions.with_note(text, settings)
