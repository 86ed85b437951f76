"""Rehearsal of figures, tables and report on made-up results with the study's own settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spo import config
from spo.analysis import figures, letters, miniature, rehearsal
from spo.analysis.slices import Figure, PaperNumber, Rehearsal, Report, Table
from spo.errors import UserError
from spo.settings import Trace
from tests.finished_study import make_study

CONFIG = Path(__file__).parents[3] / "config"


@pytest.mark.parametrize("overlays", [[], ["paper.yaml"]], ids=["laptop", "paper"])
def test_run_draws_everything_of_a_shipped_study(overlays, monkeypatch):
    study = config.load([CONFIG / "config.yaml", *(CONFIG / name for name in overlays)])
    drawn = []
    draw = figures.draw
    monkeypatch.setattr(figures, "draw", lambda name, *rest: (drawn.append(name), draw(name, *rest))[1])
    assert rehearsal.run(config.jobs.Jobs(study).part("rehearse")) == []
    assert drawn == sorted(study.figures)


def plan(*, labels: tuple[str, str] = ("GRPO", "SPO-chain"), title: str = "Bars", **changes) -> Rehearsal:
    """A figure, a table and a report of two methods."""
    study = make_study(("grpo", "spo_chain"), seeds=5)
    arms = tuple(dataclasses.replace(arm, label=label) for arm, label in zip(study.arms, labels, strict=True))
    study = dataclasses.replace(study, arms=arms)
    bars = Figure(draw="accuracy_bars", title=title, study=study)
    known = {
        "figures": {"bars": bars},
        "tables": {"acc": Table(make="accuracy_table", title="Accuracy", study=study)},
        "report": Report(title="T", figures=("bars",), tables=("acc",), experiments=(study,)),
    }
    return Rehearsal(**(known | changes))


def test_run_has_the_studys_labels_and_two_of_its_seeds(monkeypatch):
    seen = []
    draw = figures.draw
    monkeypatch.setattr(
        figures, "draw", lambda name, settings, *rest: (seen.append(settings), draw(name, settings, *rest))[1]
    )
    assert rehearsal.run(plan(labels=("a$b_{c$d", "x | y"))) == []
    assert [arm.label for arm in seen[0].study.arms] == ["a$b_{c$d", "x | y"]
    assert [len(arm.runs) for arm in seen[0].study.arms] == [2, 2]


def test_run_names_a_figure_whose_labels_leave_no_room():
    with pytest.raises(UserError, match=r"^figures\.bars: its labels leave no room to draw in; shorten the longest$"):
        rehearsal.run(plan(title="Bars " * 400))


def test_run_names_letters_that_no_font_has(monkeypatch):
    monkeypatch.setattr(letters, "_is_text", lambda font: False)
    (remark,) = rehearsal.run(plan(labels=("GRPO", "SPO 线")))
    assert remark.startswith("figures.bars: Drawn as boxes") and "线 (U+7EBF)" in remark


def traced(**options) -> Rehearsal:
    figure = Figure(draw="segments", title="Segments", files=("traces/t.json",), options=options)
    return plan(
        figures={"fig12": figure}, tables={}, report=Report(title="T"), traces={"traces/t.json": Trace(problems=2)}
    )


def audited(**options) -> Rehearsal:
    figure = Figure(draw="credit_error", title="Credit", files=("audits/c/s1.jsonl",), options=options)
    estimators = {"audits/c/s1.jsonl": ("SPO-chain N=1", "SPO-chain N=5", "GRPO")}
    return plan(figures={"credit": figure}, tables={}, report=Report(title="T"), estimators=estimators)


def test_run_knows_how_many_problems_a_trace_will_have():
    assert rehearsal.run(traced(problem=1)) == []
    with pytest.raises(
        UserError, match=r"^figures\.fig12: Segments: options\.problem is 2, but the trace has problems"
    ):
        rehearsal.run(traced(problem=2))


def test_run_turns_what_a_library_raises_into_one_line_with_the_key():
    assert rehearsal.run(audited(colours={"GRPO": "#123456"})) == []
    with pytest.raises(UserError, match=r"^figures\.credit: cannot be drawn \(\w+: .*bluish.*\); change its settings$"):
        rehearsal.run(audited(colours={"GRPO": "bluish"}))


def test_run_names_a_table_and_the_report(monkeypatch):
    wrong = dataclasses.replace(make_study(), paper_contexts=(2048,))
    number = PaperNumber(method="grpo", value=1.0, where="Table 1", context=2048)
    table = Table(make="context_table", title="Contexts", study=wrong, paper=(number,))
    with pytest.raises(UserError, match=r"^tables\.t1: experiments\.short_cot\.paper_contexts: needs one entry"):
        rehearsal.run(plan(tables={"t1": table}))
    with pytest.raises(UserError, match=r"^report: figures/nowhere\.csv|^report: pictures/nowhere\.png: missing"):
        rehearsal.run(plan(report=Report(title="T", figures=("nowhere",))))


def test_run_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rehearsal.run(plan())
    assert list(tmp_path.iterdir()) == []


def test_studies_of_claims_are_in_the_miniature_too(tmp_path):
    study = config.load([CONFIG / "config.yaml"])
    everything = config.jobs.Jobs(study).part("rehearse")
    miniature.write(tmp_path, everything)
    names = {run.run for each in miniature.studies(everything) for arm in each.arms for run in arm.runs if arm.trained}
    assert {path.parent.name for path in tmp_path.glob("runs/*/metrics.jsonl")} == names == set(config.runs(study))
