"""Bars: one number for each method, with its interval, its seeds and the paper's number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spo.analysis import captions, results, stats, style
from spo.analysis.plotting import Axes, Canvas
from spo.analysis.slices import Arm, Figure
from spo.analysis.style import Drawn


def accuracy_bars(settings: Figure, root: Path) -> Drawn:
    """One bar for the base and each method: mean accuracy over seeds, interval, single seeds, the paper's number."""
    table = bar_table(settings, root)
    canvas = Canvas(figsize=(style.HALF_INCHES, height_inches(settings)), layout="constrained")
    draw_accuracy(canvas.subplots(), settings, table)
    style.headline(canvas, settings.title)
    style.small_print(canvas, f"{settings.study.dataset}, {captions.sizes(table)}. {marks(settings)}.")
    return Drawn(canvas, table, accuracy_caption(settings, table))


def height_inches(settings: Figure) -> float:
    """Return the height of a figure with one row per arm and quoted method."""
    labels = _labels(settings)
    lines = max(1 + label.count("\n") for label in labels)
    return 0.62 + max(0.4, 0.17 * lines) * len(labels)


def _labels(settings: Figure) -> list[str]:
    rows = [*results.arms(settings.study), *settings.quoted]
    return [style.wrapped(row.label) for row in rows]


def draw_accuracy(axes: Axes, settings: Figure, table: pd.DataFrame) -> None:
    """Draw a `bar_table`, a row per arm from top to bottom, with its numbers at the right margin; quoted bars below."""
    arms = results.arms(settings.study)
    for place, arm in enumerate(arms):
        _bar_row(axes, place, arm, table[table["method"] == arm.method])
    for place, quoted in enumerate(settings.quoted, start=len(arms)):
        _quoted_row(axes, place, quoted.number.value)
    labels = _labels(settings)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.42, -0.75)
    axes.tick_params(axis="y", length=0)
    style.percent_axis(axes.xaxis)
    axes.set_xlim(0, 100 * min(1.0, _ceiling(table)))
    axes.grid(axis="x")
    axes.set_xlabel("test accuracy (%)")
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "size": 6.5, "color": style.QUIET}
    axes.text(1.03, -0.62, "ours, % [95 %]", **beside)


def bar_table(settings: Figure, root: Path) -> pd.DataFrame:
    """Return what `accuracy_bars` shows, a row each; accuracies are fractions.

    `kind` is mean, seed, paper (the paper's number for a method run here) or quoted (for one that is not).
    """
    context = results.shown_context(settings)
    scores = results.scores(root, settings.study)
    rows = []
    for arm in results.arms(settings.study):
        own = scores[(scores["method"] == arm.method) & (scores["context"] == context)]
        names = {"method": arm.method, "label": arm.label, "context": context}
        correct = results.correctness(root, settings.study, arm, context)
        mean = stats.mean_over_seeds(correct)
        size = {"n": correct.shape[1], "seeds": correct.shape[0], "truncated": own["truncated"].mean()}
        rows.append({**names, "kind": "mean", "accuracy": mean.value, "low": mean.low, "high": mean.high, **size})
        for run in own.itertuples():
            part = {"seed": run.seed, "accuracy": run.accuracy, "low": run.low, "high": run.high}
            rows.append({**names, "kind": "seed", **part, "n": correct.shape[1], "truncated": run.truncated})
        number = results.paper_number(settings, arm.method, context)
        if number:
            source = {"where": number.where, "note": number.note}
            rows.append({**names, "kind": "paper", "accuracy": number.value / 100, **source})
    for quoted in settings.quoted:
        number = quoted.number
        names = {"method": number.method, "label": quoted.label, "context": context, "kind": "quoted"}
        rows.append({**names, "accuracy": number.value / 100, "where": number.where, "note": number.note})
    columns = ["method", "label", "context", "kind", "seed", "accuracy", "low", "high", "n", "seeds", "truncated"]
    frame = pd.DataFrame(rows).reindex(columns=[*columns, "where", "note"])
    return frame.astype({"seed": "Int64", "n": "Int64", "seeds": "Int64"})


def _bar_row(axes: Axes, place: int, arm: Arm, group: pd.DataFrame) -> None:
    mean = group[group["kind"] == "mean"].iloc[0]
    seeds = group[group["kind"] == "seed"]
    paper = group[group["kind"] == "paper"]
    axes.barh(place, 100 * mean.accuracy, height=0.5, color=arm.colour, alpha=0.85, linewidth=0)
    low, high = 100 * mean.low, 100 * mean.high
    for colour, width in (("white", 2.4), (style.INK, 1.0)):  # a white edge keeps whiskers visible on dark bars
        axes.hlines(place, low, high, color=colour, lw=width, zorder=3)
        axes.vlines([low, high], place - 0.09, place + 0.09, color=colour, lw=width, zorder=3)
    draw_seeds(axes, place, 100 * seeds["accuracy"])
    words = {"xy": (1.03, place), "xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
    axes.annotate(f"{100 * mean.accuracy:.1f}", xytext=(0, 0), weight="bold", size=7.5, **words)
    axes.annotate(f"[{low:.1f}, {high:.1f}]", xytext=(25, 0), size=6.5, color=style.QUIET, **words)
    for value in 100 * paper["accuracy"]:
        axes.plot(value, place + 0.37, marker="D", ms=3.6, mfc="white", mec=style.INK, mew=0.8, zorder=5, clip_on=False)
        axes.annotate(
            f"paper: {value:.1f}",
            (value, place + 0.37),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            size=6.2,
            color=style.QUIET,
            annotation_clip=False,
        )


def _quoted_row(axes: Axes, place: int, value: float) -> None:
    """Draw a hollow bar for a number in per cent that is quoted."""
    axes.barh(place, value, height=0.5, facecolor="none", edgecolor=style.QUIET, linewidth=0.8, hatch="////")
    words = {"xycoords": axes.get_yaxis_transform(), "va": "center", "size": 7.5, "color": style.QUIET}
    axes.annotate(f"{value:.1f}", (1.03, place), **words)


def draw_seeds(axes: Axes, place: int, values: pd.Series) -> None:
    """A dot for each seed of the row at `place`, one above the other, where there are several."""
    if len(values) > 1:
        offsets = np.linspace(-0.15, 0.15, len(values))
        dots = {"s": 9, "color": style.INK, "edgecolor": "white", "linewidth": 0.5, "zorder": 4}
        axes.scatter(values, place + offsets, **dots)


def accuracy_caption(settings: Figure, table: pd.DataFrame, more: str = "") -> str:
    """The caption of accuracy bars; `more` is a sentence about what stands beside them."""
    study, context = settings.study, results.shown_context(settings)
    text = (
        f"{settings.title}. Accuracy on the {study.dataset} test set (protocol {study.protocol}, context {context} "
        f"tokens; {captions.sizes(table)}). Bars: mean over seeds; whiskers: 95 % interval for the choice "
        f"{captions.chosen(study)}; dots: single seeds."
    )
    paper = table[table["kind"] == "paper"]
    if len(paper):
        places = ", ".join(dict.fromkeys(paper["where"]))
        text += f" Diamonds: the numbers the paper reports ({places}), for its own model and data."
    if settings.quoted:
        places = ", ".join(dict.fromkeys(quoted.number.where for quoted in settings.quoted))
        sources = "; ".join(dict.fromkeys(filter(None, (quoted.number.note for quoted in settings.quoted))))
        text += f" Hatched: not run here, quoted from {places}{f' ({sources})' if sources else ''}."
    return captions.with_note(f"{text} {more}".strip(), settings)


def marks(settings: Figure) -> str:
    """What dots, whiskers and diamonds are, for the small print."""
    words = f"Dots: single seeds; whiskers: 95 % interval for the choice {captions.chosen(settings.study)}"
    places = dict.fromkeys(number.where for number in settings.paper)
    words += f"; ◇ paper, {', '.join(places)}" if places else ""
    return words + ("; hatched: quoted, not run here" if settings.quoted else "")


def _ceiling(table: pd.DataFrame) -> float:
    return 1.08 * float(np.nanmax(table[["accuracy", "high"]].to_numpy(float)))
