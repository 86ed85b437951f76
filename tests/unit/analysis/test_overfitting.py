from __future__ import annotations

from spo.analysis import overfitting, style
from spo.analysis.slices import Figure
from tests.finished_study import fill, make_study


def test_training_and_validation_share_bounds_and_the_last_panel_names_methods(tmp_path):
    study = make_study(("grpo", "spo_chain"))
    fill(tmp_path, study, problems=8, iterations=40)
    with style.styled():
        drawn = overfitting.overfitting(Figure(draw="overfitting", title="T", study=study), tmp_path)
    training, validation, distinct = drawn.canvas.axes
    assert training.get_ylim() == validation.get_ylim() != distinct.get_ylim()
    ends = drawn.table[(drawn.table["kind"] == "mean") & (drawn.table["method"] == "grpo")].groupby("field").last()
    said = {axes: [text.get_text() for text in axes.texts] for axes in drawn.canvas.axes}
    assert f"{100 * ends.loc['accuracy', 'value']:.0f} %" in said[training]
    assert f"GRPO: {100 * ends.loc['distinct_responses', 'value']:.0f} %" in said[distinct]
    assert "n = 300 validation problems" in drawn.caption


def test_validation_is_not_smoothed_and_training_is(tmp_path):
    study = make_study(("grpo",), seeds=1)
    fill(tmp_path, study, problems=8, iterations=40)
    with style.styled():
        table = overfitting.overfitting(Figure(draw="overfitting", title="T", study=study), tmp_path).table
    points = {
        (field, kind): rows["value"].tolist() for (field, kind), rows in table.groupby(["field", "kind"], sort=False)
    }
    assert points["validation_accuracy", "mean"] == points["validation_accuracy", "seed"]
    raw, smooth = points["accuracy", "seed"], points["accuracy", "mean"]
    # The tenth of forty iterations is the mean of the sixth to the fourteenth.
    assert abs(smooth[9] - sum(raw[5:14]) / 9) < 1e-12
