"""What the paper claims, tested: statistics that claims rest on, and rules that turn an interval into a verdict.

A statistic is a function from the results folder and a piece of evidence to an `Effect`; every sign is such that a
positive value speaks for `first` (of one method: for the claim). A new one is one function here, one line in
`STATISTICS`, one in `claims_table.MEASURED`, and one in `slices.STATISTIC_READS`. The rules are fixed by the config
before the runs, so no verdict is chosen after the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from spo.analysis import results, stats
from spo.analysis.slices import Arm, Evidence
from spo.analysis.stats import Difference
from spo.errors import UserError

REPLICATES, FAILS, UNKNOWN = "replicates", "does not replicate", "cannot be told"

#: Part of a run's iterations, at each end, whose mean stands for the start and the end: single ones are too noisy.
EDGE = 0.1


class Effect(NamedTuple):
    """A difference in `unit`, positive where it speaks for the first; made of `n` `counted` and of `seeds` a method."""

    difference: Difference
    unit: str
    n: int
    counted: str
    seeds: int
    remark: str = ""


# ---- verdicts --------------------------------------------------------------------------------------------------------


def verdict(rule: str, difference: Difference, relevant: float) -> str:
    """What the 95 % interval of a difference says by a rule; `relevant` is in the unit of the difference.

    `above`: replicates if the whole interval lies above 0, does not if below `relevant` (if both, it replicates);
    `not_below`: replicates if above -`relevant`, does not if below 0 (if both, it replicates);
    `similar`: replicates if inside (-`relevant`, `relevant`), does not if outside. Otherwise it cannot be told; nor can
    it where the interval has no width, since a few problems with the same verdicts say nothing of others.

    >>> verdict("above", Difference(2.0, 0.5, 3.5, 0.01), relevant=3), verdict("above", Difference(0, -2, 2, 1), 3)
    ('replicates', 'does not replicate')
    >>> verdict("similar", Difference(0, -5, 5, 1), relevant=4), verdict("similar", Difference(0, 0, 0, 1), relevant=4)
    ('cannot be told', 'cannot be told')
    """
    low, high = difference.low, difference.high
    if low == high:
        return UNKNOWN
    holds, fails = {
        "above": (low > 0, high < relevant),
        "not_below": (low > -relevant, high < 0),
        "similar": (-relevant < low and high < relevant, low >= relevant or high <= -relevant),
    }[rule]
    return REPLICATES if holds else FAILS if fails else UNKNOWN


def whole(verdicts: Sequence[str]) -> str:
    """The verdict on a claim from those on its parts: one part that does not replicate decides.

    >>> whole([REPLICATES, REPLICATES]), whole([REPLICATES, UNKNOWN]), whole([UNKNOWN, FAILS])
    ('replicates', 'cannot be told', 'does not replicate')
    """
    return next((each for each in (FAILS, UNKNOWN) if each in verdicts), REPLICATES)


# ---- test accuracy ---------------------------------------------------------------------------------------------------


def accuracy(root: Path, evidence: Evidence) -> Effect:
    """Test accuracy at one context, points; `stats.paired_difference` over problems and seeds.

    With one seed a method the interval is for the choice of problems alone.
    """
    context = evidence.context or max(evidence.study.contexts)
    first, second = (results.correctness(root, evidence.study, arm, context) for arm in _arms(evidence))
    return _points(evidence, stats.paired_difference(first, second), first.shape[1], "problems")


def context_gain(root: Path, evidence: Evidence) -> Effect:
    """By how much the lead at the shortest context exceeds that at the longest, points.

    `stats.paired_difference` of what each problem loses from the longest to the shortest context: a difference of
    differences is a mean of problem differences too. Simulated with three seeds these intervals covered 96 to 99 %, a
    bootstrap over seeds and problems 93 to 99 %.
    """
    short, long = min(evidence.study.contexts), max(evidence.study.contexts)
    first, second = (
        results.correctness(root, evidence.study, arm, short) - results.correctness(root, evidence.study, arm, long)
        for arm in _arms(evidence)
    )
    return _points(evidence, stats.paired_difference(first, second), first.shape[1], "problems")


# ---- learning curves of `evidence.metric`: one number per run, Welch's t-test over seeds -----------------------------


def accuracy_at_equal_seconds(root: Path, evidence: Evidence) -> Effect:
    """Validation accuracy at the longest training time that every run of both reaches, points; Welch."""
    effect, place = _at_equal(root, evidence, "seconds")
    return effect._replace(remark=f"at {place:.0f} s")


def accuracy_at_equal_tokens(root: Path, evidence: Evidence) -> Effect:
    """Validation accuracy at the most generated tokens that every run of both reaches, points; Welch."""
    effect, place = _at_equal(root, evidence, "tokens")
    return effect._replace(remark=f"at {place / 1e6:.2g} million tokens")


def late_accuracy(root: Path, evidence: Evidence) -> Effect:
    """Mean accuracy of the last validations (`results.late`), points; Welch."""
    curves = results.metrics(root, evidence.study, (evidence.metric,))
    late = results.late(curves, evidence.metric)
    return _points(evidence, stats.difference_of_runs(*_by_arm(evidence, late)), _problems(curves), "problems")


def _at_equal(root: Path, evidence: Evidence, column: str) -> tuple[Effect, float]:
    metric = evidence.metric
    curves = results.curves(root, evidence.study, (metric,)).dropna(subset=metric)
    place = float(curves.groupby("run")[column].max().min())
    reached = curves.sort_values("iteration").groupby("run")[[column, metric]]
    values = reached.apply(lambda run: np.interp(place, run[column], run[metric]))
    difference = stats.difference_of_runs(*_by_arm(evidence, values))
    return _points(evidence, difference, _problems(curves), "problems"), place


# ---- costs: what the first saves, in per cent of the second; Welch on logarithms -------------------------------------


def points_per_trajectory(root: Path, evidence: Evidence) -> Effect:
    """States whose value is estimated, a trajectory, over the whole run: by how much per cent the first needs fewer."""
    rows = results.metrics(root, evidence.study, ("mc_points", "trajectories"))
    sums = rows.groupby("run")[["mc_points", "trajectories"]].sum()
    return _saving(evidence, sums["mc_points"] / sums["trajectories"], rows["iteration"].nunique())


def generation_seconds(root: Path, evidence: Evidence) -> Effect:
    """Seconds of sampling and scoring an iteration, mean over the run: by how much per cent the first needs fewer."""
    rows = results.generation_seconds(root, evidence.study)
    return _saving(evidence, rows.groupby("run")["value"].mean(), rows["iteration"].nunique())


def _saving(evidence: Evidence, costs: pd.Series, iterations: int) -> Effect:
    """100 (1 - first / second) of geometric means over seeds: costs differ by ratios, so logarithms are compared."""
    if costs.min() <= 0:
        raise UserError(
            f"claims: {evidence.statistic}: run {costs.idxmin()} has none; leave its method out of the claim"
        )
    first, second = _by_arm(evidence, np.log(costs))
    logs = stats.difference_of_runs(second, first)
    saved = [100 * (1 - float(np.exp(-part))) for part in logs[:3]]
    return Effect(Difference(*saved, logs.p_value), "%", iterations, "iterations", _seeds(evidence))


# ---- overfitting: one method, Student's t over seeds -----------------------------------------------------------------


def training_rise(root: Path, evidence: Evidence) -> Effect:
    """Accuracy of sampled training responses, mean of the last tenth of iterations minus that of the first, points."""
    return _rise(root, evidence, "accuracy", 1)


def distinct_fall(root: Path, evidence: Evidence) -> Effect:
    """Share of distinct responses to a problem, mean of the first tenth of iterations minus the last, points."""
    return _rise(root, evidence, "distinct_responses", -1)


def validation_fall(root: Path, evidence: Evidence) -> Effect:
    """Validation accuracy at its best minus the last, points.

    Deviation: when it is best, the other seeds say, because the best of a run's own validations is too high by chance:
    simulated with three seeds of 18 flat, noisy validations, that fall is above 0 in 33 of 100 studies, this one in 4.
    Of a single run it is its own best, without interval.
    """
    curves = results.metrics(root, evidence.study, (evidence.metric,))
    runs = curves.pivot(index="run", columns="iteration", values=evidence.metric).to_numpy()
    falls = []
    for place, own in enumerate(runs):
        others = np.delete(runs, place, axis=0) if len(runs) > 1 else runs
        falls.append(own[:-1][others[:, :-1].mean(axis=0).argmax()] - own[-1] if own.size > 1 else 0.0)
    return _points(evidence, stats.difference_of_runs(np.array(falls)), _problems(curves), "problems")


def _rise(root: Path, evidence: Evidence, column: str, sign: int) -> Effect:
    rows = results.metrics(root, evidence.study, (column,)).sort_values("iteration")

    def rise(values: pd.Series) -> float:
        edge = max(1, round(EDGE * len(values)))
        return values.iloc[-edge:].mean() - values.iloc[:edge].mean()

    values = sign * rows.groupby("run")[column].apply(rise).to_numpy()
    return _points(evidence, stats.difference_of_runs(values), rows["iteration"].nunique(), "iterations")


# ---- audits ----------------------------------------------------------------------------------------------------------


def credit_error(root: Path, evidence: Evidence) -> Effect:
    """Squared error of the second's advantages minus that of the first's, on the same tokens of an audit.

    The truth's own sampling variance is in both errors and cancels. Tokens of a problem share a trajectory, problems of
    a seed a policy: `stats.paired_difference` of means over tokens, so problems and seeds are drawn, not tokens.
    Problems that were not measured with every seed are left out. The remark says what both cost: tokens generated for
    the estimates, a token trained on.
    """
    labels = (evidence.first, evidence.second)
    rows = results.audit(root, evidence.files, labels)
    errors = [(rows[f"estimate {label}"] - rows["truth"]) ** 2 for label in labels]
    gaps = rows.assign(gap=errors[1] - errors[0]).pivot_table(index="seed", columns="problem_id", values="gap")
    gaps = gaps.dropna(axis=1)
    matrix, rows = gaps.to_numpy(), rows[rows["problem_id"].isin(gaps.columns)]
    if matrix.shape[1] < 2:
        raise UserError(f"{evidence.files[0]}: fewer than two problems in the audits of all seeds; audit more problems")
    difference = stats.paired_difference(matrix, np.zeros((1, matrix.shape[1])))
    first, second = (rows[f"tokens {label}"].mean() for label in labels)
    remark = f"cost {evidence.first} {first:.1f}, {evidence.second} {second:.1f}"
    return Effect(difference, "squared error", len(rows), "tokens", len(matrix), remark)


#: Name (`statistic:` in the config) -> function from the results folder and the evidence to an effect.
STATISTICS: dict[str, Callable[[Path, Evidence], Effect]] = {
    "accuracy": accuracy,
    "context_gain": context_gain,
    "accuracy_at_equal_seconds": accuracy_at_equal_seconds,
    "accuracy_at_equal_tokens": accuracy_at_equal_tokens,
    "late_accuracy": late_accuracy,
    "points_per_trajectory": points_per_trajectory,
    "generation_seconds": generation_seconds,
    "training_rise": training_rise,
    "distinct_fall": distinct_fall,
    "validation_fall": validation_fall,
    "credit_error": credit_error,
}


def _arms(evidence: Evidence) -> tuple[Arm, Arm]:
    named = {arm.method: arm for arm in results.arms(evidence.study)}
    return named[evidence.first], named[evidence.second]


def _by_arm(evidence: Evidence, values: pd.Series) -> list[np.ndarray]:
    """Values of the runs of each method compared, from a series by run."""
    return [values[[run.run for run in arm.runs]].to_numpy(float) for arm in _arms(evidence)]


def _points(evidence: Evidence, difference: Difference, n: int, counted: str) -> Effect:
    """A difference of fractions as percentage points."""
    inside = [100 * part for part in difference[:3]]
    return Effect(Difference(*inside, difference.p_value), "points", n, counted, _seeds(evidence))


def _problems(curves: pd.DataFrame) -> int:
    return int(curves["validation_n"].max())


def _seeds(evidence: Evidence) -> int:
    return min(len(arm.runs) for arm in evidence.study.arms)
