from __future__ import annotations

import pytest

from spo.analysis import budget, style
from spo.analysis.slices import Figure
from tests.finished_study import fill, make_study, write_jsonl


def test_budgets_are_shares_an_iteration_averaged_over_iterations_then_seeds(tmp_path):
    study = make_study(("spo_chain",), seeds=2)
    for seed, points in ((1, (40, 80)), (2, (20, 20))):
        rows = [
            {"iteration": i, "mc_points": point, "sampled_tokens": 100 * point, "trajectories": 10 * i}
            for i, point in enumerate(points, start=1)
        ]
        write_jsonl(tmp_path / f"runs/pupil-stories-spo_chain-s{seed}/metrics.jsonl", [{"iteration": 0}, *rows])
    table = budget.budget_table(Figure(draw="budget_bars", title="T", study=study), tmp_path).set_index("kind")
    # Seed 1 has 40/10 and 80/20 states a trajectory, seed 2 has 20/10 and 20/20.
    assert table.loc["seed", "states_a_trajectory"].tolist() == [4.0, 1.5]
    assert table.loc["mean", "states_a_trajectory"] == pytest.approx(2.75)
    assert table.loc["mean", "tokens_a_trajectory"] == pytest.approx(275.0)


def test_budgets_stand_beside_the_accuracies_of_the_same_rows(tmp_path):
    study = make_study(("spo_chain.fixed_count", "spo_chain.lines", "spo_chain"))
    fill(tmp_path, study, problems=40, iterations=10)
    with style.styled():
        drawn = budget.budget_bars(Figure(draw="budget_bars", title="T", study=study), tmp_path)
    accuracy, states, tokens = drawn.canvas.axes
    assert accuracy.get_ylim() == states.get_ylim() == tokens.get_ylim()
    lines = drawn.table[(drawn.table["kind"] == "mean") & (drawn.table["method"] == "spo_chain.lines")].iloc[0]
    assert f"{lines['states_a_trajectory']:.1f}" in [text.get_text() for text in states.texts]
    assert f"{lines['tokens_a_trajectory']:.0f}" in [text.get_text() for text in tokens.texts]
    base = drawn.table[drawn.table["method"] == "base"]
    assert base["states_a_trajectory"].isna().all()
    assert states.texts[0].get_text() == "–"
