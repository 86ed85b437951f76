"""The tables by kind: each a function from a settings slice and the results folder to numbers, cells to read, and a
caption. A new kind is one function (here or in its own file), one line in `TABLES`, and one in `slices.TABLE_READS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from spo.analysis import captions, results, stats, texts, typeset
from spo.analysis.claims_table import claims_table
from spo.analysis.slices import Arm, Study, Table
from spo.analysis.tuning import tuning_table
from spo.analysis.typeset import Made
from spo.errors import UserError


def write(name: str, settings: Table, results_root: Path, output_stem: Path) -> None:
    """Write output_stem.md, .csv, .tex and .json.

    Raises UserError for an unknown kind of table or a missing result.
    """
    if settings.make not in TABLES:
        raise UserError(f"tables.{name}.make: no kind of table is {settings.make!r}; choose {', '.join(TABLES)}")
    settings = texts.printable(settings)
    made = TABLES[settings.make](settings, Path(results_root))
    typeset.write(name, settings.title, made, Path(output_stem))


def context_table(settings: Table, root: Path) -> Made:
    """Accuracy of each method (rows) at each context (columns), with truncation and the paper's numbers (Table 1)."""
    study = _study(settings)
    numbers = accuracy_numbers(settings, root, study.contexts)
    rows = []
    for arm in results.arms(study):
        own = numbers[numbers["method"] == arm.method].set_index("context")
        row = {"method": arm.label}
        for context in study.contexts:
            row[f"{context} tokens, %"] = _with_interval(own.loc[context])
            row[f"cut off at {context}, %"] = f"{100 * own.loc[context, 'truncated']:.1f}"
            if settings.paper:
                theirs = results.paper_context(study, context)
                row[f"paper {_short(theirs)}, %"] = _number(own.loc[context, "paper"])
        rows.append(row)
    return Made(numbers, pd.DataFrame(rows), _accuracy_caption(settings, numbers, study.contexts))


def accuracy_table(settings: Table, root: Path) -> Made:
    """Accuracy of each method at one context, its difference from the base, and the paper's numbers."""
    study, context = _study(settings), results.shown_context(settings)
    numbers = accuracy_numbers(settings, root, (context,))
    rows = []
    for arm, line in zip(results.arms(study), numbers.itertuples(), strict=True):
        row = {"method": arm.label, "ours, %": _with_interval(numbers.loc[line.Index])}
        if study.base:
            row["above base, points"] = "–" if arm.method == study.base.method else _gain(settings, root, arm, context)
        row |= {"cut off, %": f"{100 * line.truncated:.1f}", "seeds": str(line.seeds)}
        if settings.paper:
            row["paper, %"] = _number(line.paper)
        rows.append(row)
    return Made(numbers, pd.DataFrame(rows), _accuracy_caption(settings, numbers, (context,)))


def cost_table(settings: Table, root: Path) -> Made:
    """Seconds and memory of each rule, from Snakemake's benchmark files."""
    jobs = results.benchmarks(root)
    grouped = jobs.groupby("rule", sort=False)
    numbers = pd.DataFrame(
        {
            "jobs": grouped.size(),
            "seconds_total": grouped["seconds"].sum(),
            "seconds_median": grouped["seconds"].median(),
            "seconds_max": grouped["seconds"].max(),
            "max_rss_mb": grouped["max_rss_mb"].max(),
        }
    )
    numbers = numbers.sort_values("seconds_total", ascending=False, kind="stable").reset_index()
    cells = pd.DataFrame(
        {
            "rule": numbers["rule"],
            "jobs": numbers["jobs"].astype(str),
            "seconds, all jobs": numbers["seconds_total"].map("{:.0f}".format),
            "median job": numbers["seconds_median"].map("{:.1f}".format),
            "longest job": numbers["seconds_max"].map("{:.1f}".format),
            "peak memory, MB": [_number(value, "{:.0f}") for value in numbers["max_rss_mb"]],
        }
    )
    total = float(numbers["seconds_total"].sum())
    caption = (
        f"What the jobs of this study cost: {len(jobs)} jobs, {total / 60:.1f} minutes when added up (jobs run side by "
        f"side, so the study took less). Peak memory is that of the largest job; – marks jobs too short to measure."
    )
    return Made(numbers, cells, captions.with_note(caption, settings))


def settings_table(settings: Table, root: Path) -> Made:
    """Return the hyper-parameters of each method (columns), as the config resolves them (the paper's appendix H)."""
    if not settings.columns:
        raise UserError(f"tables: {settings.title!r} has no columns; add `experiment:` or `columns:` to it")
    texts = {column.label: dict(column.texts) for column in settings.columns}
    rows = [row for row, _ in settings.columns[0].texts if any(found[row] for found in texts.values())]
    numbers = pd.DataFrame({"setting": rows} | {label: [found[row] for row in rows] for label, found in texts.items()})
    caption = (
        "Settings of training as the config resolves them from defaults, methods, experiments and overrides. – marks "
        "what a method does not have. The last rows are of evaluation by the experiment's first protocol."
    )
    return Made(numbers, numbers.replace("", "–"), captions.with_note(caption, settings))


#: Kind of table (`make:` in the config) -> function.
TABLES: dict[str, Callable[[Table, Path], Made]] = {
    "context_table": context_table,
    "accuracy_table": accuracy_table,
    "cost_table": cost_table,
    "claims_table": claims_table,
    "tuning_table": tuning_table,
    "settings_table": settings_table,
}


def accuracy_numbers(settings: Table, root: Path, contexts: tuple[int, ...]) -> pd.DataFrame:
    """One row for each method and context: accuracy, low, high, truncated (fractions), response_tokens, n, seeds, and
    the paper's number (a fraction) with its source and note."""
    study = _study(settings)
    scores = results.scores(root, study)
    rows = []
    for arm in results.arms(study):
        for context in contexts:
            correct = results.correctness(root, study, arm, context)
            own = scores[(scores["method"] == arm.method) & (scores["context"] == context)]
            number = results.paper_number(settings, arm.method, context)
            rows.append(
                {
                    "method": arm.method,
                    "label": arm.label,
                    "context": context,
                    **dict(zip(("accuracy", "low", "high"), stats.mean_over_seeds(correct), strict=True)),
                    "truncated": own["truncated"].mean(),
                    "response_tokens": own["response_tokens_mean"].mean(),
                    "n": correct.shape[1],
                    "seeds": correct.shape[0],
                    "paper": number.value / 100 if number else np.nan,
                    "paper_where": number.where if number else "",
                    "paper_note": number.note if number else "",
                }
            )
    return pd.DataFrame(rows)


def _accuracy_caption(settings: Table, numbers: pd.DataFrame, contexts: tuple[int, ...]) -> str:
    study = settings.study
    places = ", ".join(dict.fromkeys(where for where in numbers["paper_where"] if where))
    notes = numbers.loc[numbers["paper_note"] != "", ["label", "paper_note"]].drop_duplicates()
    text = (
        f"Accuracy in per cent on {int(numbers['n'].max())} test problems of {study.dataset} (protocol "
        f"{study.protocol}, context {', '.join(map(str, contexts))} tokens), mean over seeds ({captions.seeds(study)} "
        f"a method) with the 95 % interval for the choice {captions.chosen(study)}. Cut off: responses that the "
        f"context or the token limit of the protocol ended."
    )
    if places:
        text += f" Paper: {places}, for its own model and data."
    text += "".join(f" {row.label}: {row.paper_note}." for row in notes.itertuples())
    return captions.with_note(text, settings)


def _gain(settings: Table, root: Path, arm: Arm, context: int) -> str:
    study = settings.study
    own, base = (results.correctness(root, study, part, context) for part in (arm, study.base))
    gain = stats.paired_difference(own, base)
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _with_interval(row: pd.Series) -> str:
    return f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _number(value: float, form: str = "") -> str:
    if np.isnan(value):
        return "–"
    return form.format(value) if form else f"{100 * value:.1f}"


def _short(context: int) -> str:
    return f"{context // 1024}K" if context % 1024 == 0 else f"{context} tokens"


def _study(settings: Table) -> Study:
    if settings.study is None:
        raise UserError(f"tables: {settings.title!r} needs an experiment; add `experiment:` to it")
    return settings.study
