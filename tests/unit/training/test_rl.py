"""The trainer on a real, tiny task: it learns, repeats itself, and refuses what it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spo.errors import RunFailure, UserError
from spo.settings import Optimizer
from spo.store import read_jsonl
from spo.training import rl
from spo.training.optimize import schedule
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("method", tiny.METHODS)
def test_each_method_reports_every_iteration(method, folder, tmp_path):
    tiny.train(tiny.METHODS[method], folder, tmp_path)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["iteration"] for row in rows if "validation_accuracy" in row] == [0, 2, 4]
    assert sum(row.get("episodes", 0) for row in rows) > 0
    for row in rows[1:]:
        assert row["problems"] == 4 and 0 <= row["truncated"] <= 1 and 0 < row["distinct_responses"] <= 1
        assert row["mismatch_kl"] < 1e-8
        assert row["mean_ratio"] == pytest.approx(1.0, abs=0.2) if row["episodes"] else True
    assert rows[-1]["sampled_tokens_total"] == sum(row.get("sampled_tokens", 0) for row in rows)
    timing = read_jsonl(tmp_path / "timing.jsonl")
    assert [row["iteration"] for row in timing] == [0, 1, 2, 3, 4]
    assert timing[-1]["seconds_total"] == pytest.approx(
        sum(s for row in timing for phase, s in row["seconds"].items() if phase not in ("validate", "save")), abs=1e-2
    )


def test_the_first_step_of_an_iteration_has_ratio_one_and_no_divergence(folder, tmp_path):
    settings = replace(tiny.BASE, iterations=1, batch_episodes=64)
    tiny.train(settings, folder, tmp_path)
    row = read_jsonl(tmp_path / "metrics.jsonl")[1]
    assert row["steps"] == 1 and row["clip_fraction"] == 0
    assert row["mean_ratio"] == pytest.approx(1, abs=1e-5) and row["kl"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", tiny.METHODS)
def test_the_same_run_gives_the_same_bytes_and_another_seed_does_not(method, folder, tmp_path):
    outcomes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        policy = tiny.train(replace(tiny.METHODS[method], seed=seed), folder, tmp_path / name)
        outcomes.append(
            ((tmp_path / name / "metrics.jsonl").read_bytes(), {k: w.detach() for k, w in policy.weights().items()})
        )
    assert outcomes[0][0] == outcomes[1][0] != outcomes[2][0]
    assert all(torch.equal(outcomes[0][1][k], outcomes[1][1][k]) for k in outcomes[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_method_learns(method, seed, folder, tmp_path):
    """From chance, that a few random tokens name the right digit, to well above it."""
    settings = replace(tiny.METHODS[method], iterations=60, problems_per_iteration=16, validate_every=60, seed=seed)
    settings = replace(settings, optimizer=Optimizer(lr=3e-3), checkpoint_every=60)
    if method == "tree":
        settings = replace(settings, credit=replace(tiny.TREE, branches=(3, 3, 3), episodes_per_iteration=128))
    tiny.train(settings, folder, tmp_path)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert rows[1]["reward"] < 0.5
    assert sum(row["reward"] for row in rows[-5:]) / 5 > 0.8


def test_micro_batches_do_not_change_the_result(folder, tmp_path):
    ends = []
    for name, tokens in (("one", 4096), ("many", 32)):
        settings = replace(tiny.BASE, iterations=2, optimizer=Optimizer(lr=1e-3, micro_batch_tokens=tokens))
        ends.append(tiny.train(settings, folder, tmp_path / name).weights())
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], atol=2e-5, rtol=0)


def test_problems_of_an_iteration_are_a_function_of_seed_and_iteration():
    problems = tiny.problems()
    draw = [
        rl.draw_problems(problems, replace(tiny.BASE, seed=seed), i) for seed, i in ((1, 1), (1, 1), (1, 2), (2, 1))
    ]
    assert draw[0] == draw[1] and draw[0] != draw[2] and draw[0] != draw[3]
    assert len({problem.id for problem in draw[0]}) == 4


def test_a_state_folder_of_other_settings_is_refused_and_kept(folder, tmp_path):
    tiny.train(tiny.BASE, folder, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"lr \(was 0.001, now 0.002\); remove the folder") as caught:
        tiny.train(replace(tiny.BASE, optimizer=Optimizer(lr=2e-3)), folder, tmp_path)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_finished_run_is_exported_again_without_training(folder, tmp_path):
    first = {name: w.detach().clone() for name, w in tiny.train(tiny.BASE, folder, tmp_path).weights().items()}
    timing = (tmp_path / "timing.jsonl").read_bytes()
    again = tiny.train(tiny.BASE, folder, tmp_path).weights()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert timing == (tmp_path / "timing.jsonl").read_bytes()


def test_a_gradient_that_is_not_finite_stops_before_the_update(folder, tmp_path):
    with pytest.raises(RunFailure, match="nothing was updated"):
        tiny.train(
            replace(tiny.BASE, iterations=50, optimizer=Optimizer(lr=1e30, max_grad_norm=1e30)), folder, tmp_path
        )


def test_schedules():
    log = Optimizer(schedule="log_warmup_linear", warmup_share=0.1)
    factors = [schedule(log, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.30103, abs=1e-5) and factors[8] == 1.0 and factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5) and factors[99] == pytest.approx(1 / 90)
    cosine = Optimizer(schedule="cosine", warmup_share=0.0)
    assert [round(schedule(cosine, step, 4), 4) for step in range(4)] == [1.0, 0.8536, 0.5, 0.1464]
    assert {schedule(Optimizer(warmup_share=0), step, 9) for step in range(9)} == {1.0}
