from __future__ import annotations

from pathlib import Path

import pytest

from spo.analysis import figures, sampling, style
from spo.analysis.slices import Figure
from spo.errors import UserError
from tests.finished_study import make_study, write_jsonl


def _run(root: Path, run: str, metrics: list[dict], seconds: list[dict]) -> None:
    write_jsonl(root / "runs" / run / "metrics.jsonl", [{"iteration": i, **row} for i, row in enumerate(metrics)])
    timing = [{"iteration": i, "seconds": row, "seconds_total": 0.0} for i, row in enumerate(seconds)]
    write_jsonl(root / "runs" / run / "timing.jsonl", timing)


def _figure(draw: str, *methods: str, seeds: int = 1) -> Figure:
    return Figure(draw=draw, title="T", study=make_study(methods, seeds=seeds))


def test_generation_is_sampling_and_scoring_without_iteration_zero(tmp_path):
    seconds = [{"validate": 9.0}, {"sample": 2.0, "score": 0.5, "train": 7.0}, {"sample": 3.0, "train": 7.0}]
    _run(tmp_path, "pupil-stories-grpo-s1", [{}], seconds)
    with style.styled():
        drawn = sampling.generation_time(_figure("generation_time", "grpo"), tmp_path)
    points = drawn.table[drawn.table["kind"] == "seed"]
    assert points[["iteration", "value"]].to_numpy().tolist() == [[1, 2.5], [2, 3.0]]
    assert "Mean over all iterations and seeds: GRPO 2.75\u00a0s." in drawn.caption
    assert drawn.canvas.axes[0].get_ylabel() == "seconds an iteration"
    assert "  mean 2.75\u00a0s" in [text.get_text() for text in drawn.canvas.axes[0].texts]


def test_sampling_points_are_states_a_trajectory(tmp_path):
    for seed, points in ((1, 96), (2, 160)):
        metrics = [{}, {"mc_points": points, "trajectories": 32}]
        _run(tmp_path, f"pupil-stories-vineppo-s{seed}", metrics, [{}])
    with style.styled():
        drawn = sampling.sampling_points(_figure("sampling_points", "vineppo", seeds=2), tmp_path)
    # 3 and 5 states: mean 4, standard error 1, t(0.975, 1) = 12.7.
    assert "VinePPO 4 [-8.71, 16.7]" in drawn.caption
    assert drawn.table[drawn.table["kind"] == "mean"]["value"].tolist() == [4.0]


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        ("sampling_points", r"restem-s1/metrics\.jsonl: no field 'mc_points' in any row; leave restem out"),
        ("overfitting", r"restem-s1/metrics\.jsonl: no field 'validation_accuracy' in any row; leave restem out"),
        ("generation_time", r"restem-s1/timing\.jsonl: no seconds of phase 'sample'; leave restem out"),
    ],
)
def test_a_run_without_the_field_is_one_line(draw, says, tmp_path):
    metrics = [{"iteration": 0}, {"trajectories": 32, "accuracy": 0.5, "distinct_responses": 0.5}]
    _run(tmp_path, "pupil-stories-restem-s1", metrics, [{"train": 1.0}])
    with pytest.raises(UserError, match=says):
        figures.draw("fig", _figure(draw, "restem"), tmp_path, tmp_path / "fig", tmp_path / "fig.csv")
