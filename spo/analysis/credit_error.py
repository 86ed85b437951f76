"""How wrong estimated advantages are, and what they cost: each method against the truth that an audit measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spo.analysis import captions, results, style
from spo.analysis.plotting import Axes, Canvas, withStroke
from spo.analysis.slices import Figure
from spo.analysis.style import Drawn

#: Of families of estimators in the order of the audit (Okabe & Ito).
PALETTE = ("#E69F00", "#B3A369", "#D55E00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#000000")
RESAMPLES = 2000
#: Points that cost the same stand this factor apart.
DODGE = 1.12
#: With more ticks than this, those at powers of ten alone are written.
MOST_TICKS = 7
#: Width of a letter of a label, and how far a label may be moved from its point, in points, nearest first.
LETTER_POINTS, MOVES = 4.3, (0, 5, -5, 9, -9, 13, -13, 18, -18, 24, -24)


def credit_error(settings: Figure, root: Path) -> Drawn:
    """Error of each estimator's advantages over the tokens generated for it, and correlation with the truth beside it.

    `options.colours` gives hex colours by family: the label without its last word, where several share the rest.
    """
    labels = tuple(results.read_rows(root / settings.files[0])[0]["estimates"])
    rows = results.audit(root, settings.files, labels)
    table = error_table(rows, labels)
    beside = table.groupby(table["generated_tokens"].round(1)).cumcount()
    placed = table.assign(x=table["generated_tokens"] * DODGE**beside)
    colours = dict(zip(dict.fromkeys(table["family"]), PALETTE * len(table), strict=False))
    colours |= settings.options.get("colours", {})
    canvas = Canvas(figsize=(style.FULL_INCHES, 3.3), layout="constrained")
    error, correlation = canvas.subplots(1, 2)
    _panel(error, placed, "error", colours)
    _panel(correlation, placed, "correlation", colours)
    spread = float(np.sqrt(max(0.0, (rows["truth"] ** 2 - rows["truth_variance"]).mean())))
    error.axhline(spread, color=style.QUIET, lw=0.8, ls=(0, (2, 2)), zorder=1)
    error.set_ylabel("error of advantages")
    correlation.set_ylabel("correlation with the true advantages")
    sizes = (
        f"{len(rows)} tokens of {rows['problem_id'].nunique()} problems, {captions.span([len(settings.files)], 'seed')}"
    )
    style.headline(canvas, settings.title)
    marks = "Whiskers: 95 % bootstrap interval over seeds and problems; dashed: an advantage of 0 for every token"
    style.small_print(canvas, f"{sizes}. {marks}.")
    canvas.draw_without_rendering()
    _name(error, placed, "error", colours, spread)
    _name(correlation, placed, "correlation", colours)
    return Drawn(canvas, table, _caption(settings, table, sizes, spread))


def error_table(rows: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """One row an estimator: family, tokens generated a token trained on, error and correlation with their intervals.

    rows: as `results.audit` with `truth_variance`. The error is the root of the mean squared distance from the measured
    truth, less the variance of that measurement; the correlation is with the truth as measured. Intervals are of 2,000
    resamples of seeds and of problems, the same for all estimators.
    """
    families, table = family_of(labels), []
    for label in labels:
        sums = _sums(rows, label)
        names = {"estimator": label, "family": families[label], "generated_tokens": rows[f"tokens {label}"].mean()}
        for name, statistic in (("error", _error), ("correlation", _correlation)):
            low, high = np.nanquantile(statistic(_resampled(sums)), [0.025, 0.975])
            names |= {name: float(statistic(sums.sum((1, 2)))), f"{name}_low": low, f"{name}_high": high}
        table.append({**names, "tokens": len(rows)})
    return pd.DataFrame(table)


def family_of(labels: tuple[str, ...]) -> dict[str, str]:
    """Label -> its family: the label without its last word where another one begins alike, else the label itself.

    >>> family_of(("SPO-chain N=1", "SPO-chain N=5", "VinePPO K=5", "GRPO"))
    {'SPO-chain N=1': 'SPO-chain', 'SPO-chain N=5': 'SPO-chain', 'VinePPO K=5': 'VinePPO K=5', 'GRPO': 'GRPO'}
    """
    stems = [label.rpartition(" ")[0] for label in labels]
    return {label: stem if stem and stems.count(stem) > 1 else label for label, stem in zip(labels, stems, strict=True)}


# ---- statistics, from sums over tokens: n, squared errors, truth, truth^2, estimate, estimate^2, both multiplied -----


def _sums(rows: pd.DataFrame, label: str) -> np.ndarray:
    """The seven sums (7, S, P) of each seed and problem; 0 where a problem has no token measured."""
    truth, estimate = rows["truth"], rows[f"estimate {label}"]
    squares = (estimate - truth) ** 2 - rows["truth_variance"]
    terms = (1.0 + 0 * truth, squares, truth, truth**2, estimate, estimate**2, truth * estimate)
    keys = [rows["seed"], rows["problem_id"]]
    return np.stack([term.groupby(keys).sum().unstack(fill_value=0.0).to_numpy() for term in terms])


def _resampled(sums: np.ndarray) -> np.ndarray:
    """The sums (7, R) of R resamples: seeds and problems drawn with replacement, each pair as often as both."""
    generator = np.random.default_rng(0)
    seeds, problems = (generator.multinomial(n, np.full(n, 1 / n), RESAMPLES) for n in sums.shape[1:])
    return np.einsum("rs,ksp,rp->kr", seeds, sums, problems, optimize=True)


def _error(sums: np.ndarray) -> np.ndarray:
    n, squares = sums[0], sums[1]
    return np.sqrt(np.maximum(0.0, squares / np.maximum(n, 1)))


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Pearson's; 0 where either never changes."""
    n, _, x, xx, y, yy, xy = sums
    spread = np.sqrt(np.maximum(0.0, n * xx - x**2) * np.maximum(0.0, n * yy - y**2))
    return np.where(spread > 1e-9, (n * xy - x * y) / np.where(spread > 1e-9, spread, 1.0), 0.0)


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _panel(axes: Axes, table: pd.DataFrame, column: str, colours: dict[str, str]) -> None:
    """Points with whiskers, a family joined by a line; points that cost the same stand side by side."""
    for family, own in table.sort_values("x").groupby("family", sort=False):
        axes.plot(own["x"], own[column], color=colours[family], lw=1.2, zorder=2)
        whiskers = {"color": colours[family], "lw": 1.0, "alpha": 0.6}
        axes.vlines(own["x"], own[f"{column}_low"], own[f"{column}_high"], **whiskers)
        axes.plot(own["x"], own[column], "o", color=colours[family], ms=4.5, mec="white", mew=0.6, zorder=3)
    axes.set_xscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick < 1.5 * table["x"].max()]
    ticks = ticks if len(ticks) <= MOST_TICKS else ticks[::3]
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_xlim(0.8, 8 * table["x"].max())
    axes.set_ylim(min(0.0, 1.05 * table[f"{column}_low"].min()), 1.05 * table[f"{column}_high"].max())
    axes.grid(axis="y")
    axes.set_xlabel("tokens generated for each token trained on")


def _name(axes: Axes, table: pd.DataFrame, column: str, colours: dict[str, str], rule: float | None = None) -> None:
    """Write a label right of each point, moved up or down until it covers no point, no other label, and not the dashed
    line at height `rule`."""
    halo = [withStroke(linewidth=2, foreground="white")]
    dearest = table.loc[table.groupby("family")["generated_tokens"].idxmax(), "estimator"].tolist()
    points = axes.transData.transform(table[["x", column]].to_numpy(float)) * 72 / axes.figure.dpi
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    if rule is not None:
        across = axes.transData.transform([(1, rule)])[0, 1] * 72 / axes.figure.dpi
        taken.append((-np.inf, across - 1, np.inf, across + 1))
    for row, (x, y) in zip(table.itertuples(), points, strict=True):
        words = row.estimator if row.estimator in dearest else row.estimator.rpartition(" ")[2]
        width = LETTER_POINTS * len(words)
        boxes = [(x + 5, y + move - 4, x + 5 + width, y + move + 4) for move in MOVES]
        place = next((i for i, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)), 0)
        taken.append(boxes[place])
        at, colour = (row.x, getattr(row, column)), style.darker(colours[row.family])
        offset = {"xytext": (6, MOVES[place]), "textcoords": "offset points", "va": "center"}
        axes.annotate(words, at, size=6.5, weight="bold", color=colour, path_effects=halo, zorder=5, **offset)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, bottom, right, top) share ground."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _caption(settings: Figure, table: pd.DataFrame, sizes: str, spread: float) -> str:
    said = "; ".join(
        f"{row.estimator} {row.error:.3f} [{row.error_low:.3f}, {row.error_high:.3f}] for {row.generated_tokens:.1f}"
        for row in table.itertuples()
    )
    text = (
        f"{settings.title}. Left: root of the mean squared distance of estimated advantages from the true ones, the "
        f"variance of the measured truth taken off; right: their correlation. True advantages are differences of the "
        f"values after and before a token, from many rollouts; {sizes}. Across: tokens that a method generates for "
        f"each token that it trains on; points of equal cost are drawn side by side, the "
        f"CSV has their true places. Whiskers: 95 % bootstrap interval over seeds and problems. Dashed: an "
        f"advantage of 0 for every token, {spread:.3f}. Advantages of groups are not divided by their standard "
        f"deviation. Errors, and tokens generated for each: {said}."
    )
    return captions.with_note(text, settings)
