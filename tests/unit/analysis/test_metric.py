"""Every picture and statistic of validation reads the accuracy that it is told to: the greedy or the sampled one."""

from __future__ import annotations

from pathlib import Path

import pytest

from spo.analysis import claims, claims_table, curves, overfitting, results, style, tuning
from spo.analysis.slices import OF_VALIDATION, Arm, Evidence, Figure, Run, Study, Table
from spo.errors import UserError
from tests.finished_study import write_jsonl

SAMPLED = "validation_sampled_accuracy"
#: Greedy and sampled accuracy at iterations 0, 2 and 4, of runs a and b.
FOUND = {"a": ((0.1, 0.9, 0.9), (0.2, 0.5, 0.3)), "b": ((0.1, 0.1, 0.1), (0.2, 0.3, 0.2))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, (greedy, sampled) in FOUND.items():
        rows = [{"iteration": i, "sampled_tokens_total": i} for i in range(5)]
        for i in range(1, 5):
            rows[i] |= {"accuracy": 0.5, "distinct_responses": 0.5}
        for i, g, s in zip((0, 2, 4), greedy, sampled, strict=True):
            rows[i] |= {"validation_accuracy": g, SAMPLED: s, "validation_n": 8}
        write_jsonl(tmp_path / "runs" / name / "metrics.jsonl", rows)
        timing = [{"iteration": i, "seconds": {}, "seconds_total": 1.0 * i} for i in range(5)]
        write_jsonl(tmp_path / "runs" / name / "timing.jsonl", timing)
    return tmp_path


def study(*names: str) -> Study:
    arms = tuple(Arm(method=n, label=n.upper(), colour="#000000", runs=(Run(run=n, seed=1),)) for n in names)
    return Study(name="s", dataset="d", protocol="p", contexts=(64,), arms=arms)


def means(root: Path, **metric) -> list[float]:
    shown = Figure(draw="learning_curves", title="T", study=study("a"), x=("iterations",), **metric)
    with style.styled():
        table = curves.learning_curves(shown, root).table
    return table[table["kind"] == "mean"]["accuracy"].tolist()


def test_learning_curves_shows_the_accuracy_asked_for(root: Path) -> None:
    assert means(root) == list(FOUND["a"][0])
    assert means(root, metric=SAMPLED) == list(FOUND["a"][1])


def test_captions_say_how_responses_were_drawn(root: Path) -> None:
    words = {"metric": SAMPLED, "sampled": "16 samples per problem at temperature 0.35"}
    shown = {"title": "T", "study": study("a"), **words}
    with style.styled():
        curve = curves.learning_curves(Figure(draw="learning_curves", **shown), root).caption
        panels = overfitting.overfitting(Figure(draw="overfitting", **shown), root)
    assert "Sampled accuracy (16 samples per problem at temperature 0.35) on 8 validation problems" in curve
    assert "sampled accuracy (16 samples per problem at temperature 0.35) on validation problems" in panels.caption
    assert panels.canvas.axes[1].get_title(loc="left") == "validation problems, sampled"
    assert panels.table[panels.table["field"] == SAMPLED]["value"].tolist()[:3] == list(FOUND["a"][1])


def test_tuning_table_ranks_by_the_accuracy_asked_for(root: Path) -> None:
    numbers = tuning.tuning_table(Table(make="tuning_table", title="T", study=study("a"), metric=SAMPLED), root).numbers
    assert numbers[["late", "last"]].iloc[0].tolist() == pytest.approx([0.4, 0.3])


@pytest.mark.parametrize(
    ("statistic", "greedy", "sampled"),
    [
        ("accuracy_at_equal_seconds", 80, 10),
        ("accuracy_at_equal_tokens", 80, 10),
        ("late_accuracy", 80, 15),
        ("validation_fall", 0, 20),
    ],
)
def test_statistics_compare_the_accuracy_asked_for(root: Path, statistic: str, greedy: float, sampled: float) -> None:
    names = ("a",) if statistic == "validation_fall" else ("a", "b")
    part = {"statistic": statistic, "study": study(*names), "first": "a", "rule": "above", "relevant": 3.0}
    part |= {"second": "b"} if len(names) > 1 else {}
    parts = Evidence(**part), Evidence(**part, metric=SAMPLED)
    values = [claims.STATISTICS[statistic](root, each).difference.value for each in parts]
    assert values == pytest.approx([greedy, sampled])
    assert ["sampled" in claims_table._measured(each) for each in parts] == [False, True]


def test_every_reader_of_validation_is_tried_here() -> None:
    known = {
        "learning_curves", "overfitting", "tuning_table", "accuracy_at_equal_seconds", "accuracy_at_equal_tokens",
        "late_accuracy", "validation_fall",
    }  # fmt: skip
    assert known == OF_VALIDATION


def test_late_means_the_last_two_of_the_metric(root: Path) -> None:
    frame = results.metrics(root, study("a"))
    assert results.late(frame, SAMPLED)["a"] == pytest.approx(0.4)
    assert results.late(frame)["a"] == pytest.approx(0.9)


def test_a_run_without_samples_is_named(root: Path) -> None:
    write_jsonl(root / "runs/a/metrics.jsonl", [{"iteration": 0, "validation_accuracy": 0.1, "validation_n": 8}])
    with pytest.raises(UserError, match=r"runs/a/metrics\.jsonl: no field 'validation_sampled_accuracy' in any row"):
        means(root, metric=SAMPLED)
