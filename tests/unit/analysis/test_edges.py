"""Figures and tables at the edges of their range: two seeds, few iterations, equal values, variants of one colour."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from spo import config
from spo.analysis import figures, style
from spo.analysis.claims import Effect
from spo.analysis.claims_table import _interval, _unsaid
from spo.analysis.plotting import Canvas
from spo.analysis.slices import Figure
from spo.analysis.stats import Difference
from tests.finished_study import fill, make_study

CONFIG = Path(__file__).parents[3] / "config"
OVER_ITERATIONS = ("learning_curves", "overfitting", "generation_time", "sampling_points")


def drawn(kind: str, root: Path, seeds: int, iterations: int):
    study = make_study(("grpo", "spo_chain"), seeds=seeds)
    fill(root, study, problems=8, iterations=iterations)
    with style.styled():
        found = figures.FIGURES[kind](Figure(draw=kind, title="T", study=study), root)
        found.canvas.draw_without_rendering()
    return found


@pytest.mark.parametrize("kind", OVER_ITERATIONS)
def test_iterations_have_whole_numbers_and_no_number_twice(kind, tmp_path):
    for axes in drawn(kind, tmp_path, seeds=2, iterations=5).canvas.axes:
        if axes.get_xlabel() == "iterations":
            low, high = axes.get_xlim()
            said = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
            assert said == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("low", "high"), [(99.2, 100.9), (0.0, 1.2), (0.0, 0.3), (0, 100)])
def test_percent_axis_says_no_number_twice(low, high):
    with style.styled():
        axes = Canvas().subplots()
        axes.set_ylim(low, high)
        style.percent_axis(axes.yaxis)
        said = [axes.yaxis.get_major_formatter()(tick) for tick in axes.get_yticks()]
    assert said and len(set(said)) == len(said)
    assert all(float(text) == tick for text, tick in zip(said, axes.get_yticks(), strict=True))


@pytest.mark.parametrize("kind", OVER_ITERATIONS)
@pytest.mark.parametrize(("seeds", "bands"), [(1, False), (2, False), (3, True)])
def test_two_seeds_have_no_band(kind, seeds, bands, tmp_path):
    found = drawn(kind, tmp_path, seeds=seeds, iterations=6)
    filled = [part for axes in found.canvas.axes for part in axes.collections if isinstance(part, PolyCollection)]
    assert bool(filled) == bands
    assert ("bands: 95 %" in found.caption) == bands
    assert ("no bands: two seeds give no useful interval" in found.caption) == (seeds == 2)


def test_variants_without_a_colour_differ_from_their_method_and_from_each_other():
    methods = {
        f"spo_chain.mine{place}": {"base": "spo_chain", "label": f"mine {place}", "train": {"epochs": place + 2}}
        for place in range(3)
    }
    experiment = {"model": "pupil", "dataset": "stories", "methods": ["spo_chain", *methods], "seeds": [1]}
    changes = {
        "methods": methods,
        "experiments": {"mine": experiment | {"contexts": [128], "protocols": ["greedy"]}},
        "figures": {"mine": {"draw": "learning_curves", "title": "Mine", "experiment": "mine"}},
    }
    study = config.load([CONFIG / "config.yaml"], changes)
    arms = config.jobs.Jobs(study).part("rehearse").figures["mine"].study.arms
    assert arms[0].colour == study.style.colours["spo_chain"] and arms[0].line == "solid"
    assert len({arm.colour for arm in arms}) == len({(arm.line) for arm in arms}) == 4


def test_label_of_a_curve_keeps_its_number_apart(tmp_path):
    study = make_study(("spo_chain",), seeds=1)
    study = dataclasses.replace(study, arms=(dataclasses.replace(study.arms[0], label="interval 3"),))
    fill(tmp_path, study, problems=8, iterations=6)
    with style.styled():
        found = figures.FIGURES["learning_curves"](Figure(draw="learning_curves", title="T", study=study), tmp_path)
    said = [text.get_text() for axes in found.canvas.axes for text in axes.texts]
    assert any(text.startswith("interval 3: ") and text.endswith(" %") for text in said)


def test_interval_writes_the_unit_beside_its_number():
    one = Effect(Difference(-800.0, np.nan, np.nan, np.nan), "%", 4, "iterations", 1)
    assert _interval(one) == "−800 % (one seed)"
    assert _interval(one._replace(difference=Difference(3.0, 1.0, 5.0, 0.1), seeds=2)) == "+3 [+1, +5] %"
    assert _unsaid(one) == ""
    assert _unsaid(one._replace(difference=Difference(0.0, 0.0, 0.0, 1.0))) == ": no spread, all alike"
