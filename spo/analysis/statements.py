"""Sentences about an experiment, each made from its numbers: nothing here knows what the paper found."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spo.analysis import captions, results, stats
from spo.analysis.slices import Arm, Study
from spo.errors import UserError


class Said(NamedTuple):
    """What an experiment says, in sentences: how it was measured, differences of pairs, accuracies of arms, costs."""

    measured: str
    differences: list[str]
    accuracies: list[str]
    cost: str


def statements(root: Path, study: Study) -> Said:
    """What an experiment says: accuracy of each arm, differences of pairs with intervals, and what a run cost."""
    matrices = {
        (arm.method, context): results.correctness(root, study, arm, context)
        for arm in results.arms(study)
        for context in study.contexts
    }
    problems = next(iter(matrices.values())).shape[1]
    measured = (
        f"On {problems} test problems of {study.dataset} (protocol {study.protocol}), with {captions.seeds(study)} a "
        f"method, in per cent with 95 % intervals for the choice {captions.chosen(study)}:"
    )
    accuracies = [f"{arm.label}: {_accuracies(matrices, arm, study.contexts)}." for arm in results.arms(study)]
    differences = [_difference(matrices, study, *pair) for pair in _pairs(study)]
    return Said(measured, differences, accuracies, _cost(root, study))


def verdict(difference: stats.Difference, first: str, second: str) -> tuple[str, str]:
    """What a difference, first minus second, allows one to say, and by how much.

    >>> verdict(stats.Difference(0.05, -0.01, 0.11, 0.1), "A", "B")
    ('A and B cannot be told apart (A minus B)', '+5.0 points [−1.0, +11.0]')
    >>> verdict(stats.Difference(-0.05, -0.09, -0.01, 0.02), "A", "B")
    ('B is ahead of A', '5.0 points [1.0, 9.0]')
    """
    value, low, high = (100 * part for part in difference[:3])
    if not difference.told_apart:
        gap = f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]".replace("-", "−")
        return f"{first} and {second} cannot be told apart ({first} minus {second})", gap
    if value < 0:
        first, second, value, low, high = second, first, -value, -high, -low
    return f"{first} is ahead of {second}", f"{value:.1f} points [{low:.1f}, {high:.1f}]"


def _accuracies(matrices: dict[tuple[str, int], np.ndarray], arm: Arm, contexts: tuple[int, ...]) -> str:
    parts = []
    for context in contexts:
        mean = stats.mean_over_seeds(matrices[arm.method, context])
        where = f"at {context} tokens" if context == contexts[0] else f"at {context}"
        parts.append(f"{100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}] {where}")
    return ", ".join(parts)


def _difference(matrices: dict[tuple[str, int], np.ndarray], study: Study, first: Arm, second: Arm) -> str:
    said: dict[str, list[str]] = {}
    for context in study.contexts:
        gap = stats.paired_difference(matrices[first.method, context], matrices[second.method, context])
        words, size = verdict(gap, first.label, second.label)
        said.setdefault(words, []).append(f"{size} at {context} tokens")
    return "; ".join(f"{words}: {', '.join(sizes)}" for words, sizes in said.items()) + "."


def _pairs(study: Study) -> list[tuple[Arm, Arm]]:
    named = {arm.method: arm for arm in results.arms(study)}
    unknown = sorted({method for pair in study.pairs for method in pair} - set(named))
    if unknown:
        raise UserError(f"experiments.{study.name}.pairs: {unknown[0]!r} is not one of {', '.join(named)}")
    if study.pairs:
        return [(named[first], named[second]) for first, second in study.pairs]
    return [(later, earlier) for earlier, later in combinations(results.arms(study), 2)]


def _cost(root: Path, study: Study) -> str:
    """What a run of each trained method cost; empty where others trained all."""
    study = replace(study, arms=tuple(arm for arm in study.arms if arm.trained))
    if not study.arms:
        return ""
    last = results.curves(root, study).sort_values("iteration").groupby(["method", "run"], sort=False).last()
    means = last.groupby("method")[["tokens", "seconds", "iteration"]].mean()
    costs = [
        f"{arm.label} {means.loc[arm.method, 'tokens'] / 1e6:.2f} million generated tokens and "
        f"{means.loc[arm.method, 'seconds']:.0f}\u00a0s in {means.loc[arm.method, 'iteration']:.0f} iterations"
        for arm in study.arms
    ]
    return f"One training run cost, on average over seeds: {'; '.join(costs)}."
