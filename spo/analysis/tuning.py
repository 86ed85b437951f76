"""The table of a search for settings: every method gets the same number of tries, and the best try is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spo.analysis import captions, results
from spo.analysis.slices import Arm, Metric, Table
from spo.analysis.typeset import Made
from spo.errors import UserError

RATE = "optimizer.lr"


def tuning_table(settings: Table, root: Path) -> Made:
    """Validation accuracy of every variant of every method, the best one of each method in bold.

    Best is the mean of the last two validations (`results.late`); of equal ones the smaller learning rate.
    """
    study = settings.study
    if study is None:
        raise UserError(f"tables: {settings.title!r} needs an experiment; add `experiment:` to it")
    curves = results.curves(root, study).dropna(subset=settings.metric)
    late = results.late(curves, settings.metric)
    numbers = pd.DataFrame(
        [_numbers(arm, curves[curves["method"] == arm.method], late, settings.metric) for arm in study.arms]
    )
    numbers["best"] = _best(numbers)
    cells = pd.DataFrame(
        {
            "method": numbers["of"].where(~numbers["of"].duplicated(), ""),
            "changes": numbers["changes"],
            "last two validations, %": _percent(numbers["late"]),
            "last, %": _percent(numbers["last"]),
            "whole curve, %": _percent(numbers["curve"]),
            "seconds": numbers["seconds"].map("{:.0f}".format),
        }
    )
    n = int(curves["validation_n"].max())
    validated = captions.validated(settings)
    validated = validated[0].lower() + validated[1:]
    caption = (
        f"A search in which every method has the same tries: {validated} in per cent on {n} validation problems of "
        f"{study.dataset}, {captions.seeds(study)} a try. Bold: the best of its method by the mean of the last two "
        f"validations, of equal ones the smaller learning rate. Whole curve: mean over training. Seconds: of one run."
    )
    noted = f"{caption} {settings.note}" if settings.note else caption
    return Made(numbers, cells, noted, ("changes",), frozenset(np.flatnonzero(numbers["best"])))


def _numbers(arm: Arm, own: pd.DataFrame, late: pd.Series, metric: Metric) -> dict[str, object]:
    """Means over the seeds of one variant; accuracies are fractions."""
    runs = [group.sort_values("iteration") for _, group in own.groupby("run")]
    rate = dict(arm.changes).get(RATE)
    return {
        "method": arm.method,
        "of": arm.variant_of or arm.label,
        "changes": ", ".join(f"{key} {value}" for key, value in arm.changes) or "none",
        "lr": float(rate) if rate else np.nan,
        "late": float(late[[run.run for run in arm.runs]].mean()),
        "last": float(np.mean([run[metric].iloc[-1] for run in runs])),
        "curve": float(np.mean([_mean_height(run["iteration"], run[metric]) for run in runs])),
        "seconds": float(np.mean([run["seconds"].iloc[-1] for run in runs])),
        "n": int(own["validation_n"].max()),
        "seeds": len(runs),
    }


def _mean_height(iterations: pd.Series, accuracy: pd.Series) -> float:
    """Area under straight lines between validations, divided by the width."""
    width = iterations.iloc[-1] - iterations.iloc[0]
    return float(np.trapezoid(accuracy, iterations) / width) if width else float(accuracy.iloc[-1])


def _best(numbers: pd.DataFrame) -> pd.Series:
    """True for one row of each method."""
    order = numbers.sort_values(["late", "lr"], ascending=[False, True], kind="stable")
    return pd.Series(numbers.index.isin(order.drop_duplicates("of").index), index=numbers.index)


def _percent(values: pd.Series) -> pd.Series:
    return (100 * values).map("{:.1f}".format)
