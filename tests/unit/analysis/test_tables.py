from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from spo.analysis import results, stats, tables
from spo.analysis.slices import TABLE_READS, PaperNumber, SettingsColumn, Table
from spo.errors import UserError
from tests.finished_study import make_study, paper_numbers

TABLE_1 = tuple(
    PaperNumber(method=method, context=context, value=value, where="Table 1")
    for method, values in {"base": (56.6, 74.0), "grpo": (62.0, 75.2), "spo_tree": (73.6, 82.8)}.items()
    for context, value in zip((2048, 4096), values, strict=True)
)


def test_context_table_has_methods_as_rows_and_contexts_as_columns(filled):
    root, study = filled
    study = dataclasses.replace(study, paper_contexts=(2048, 4096))
    made = tables.context_table(Table(make="context_table", title="Contexts", study=study, paper=TABLE_1), root)
    assert made.cells.columns.tolist() == [
        *("method", "128 tokens, %", "cut off at 128, %", "paper 2K, %"),
        *("256 tokens, %", "cut off at 256, %", "paper 4K, %"),
    ]
    assert made.cells["method"].tolist() == ["SFT base", "GRPO", "SPO-chain", "SPO-tree"]
    assert made.cells["paper 4K, %"].tolist() == ["74.0", "75.2", "–", "82.8"]
    assert made.cells["cut off at 128, %"].tolist() == ["50.0"] * 4
    mean = stats.mean_over_seeds(results.correctness(root, study, study.arms[0], 128))
    shown = f"{100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
    assert made.cells.loc[1, "128 tokens, %"] == shown
    assert "200 test problems of stories" in made.caption
    assert "3 seeds a method" in made.caption


def test_accuracy_table_states_the_paired_gain_over_the_base(filled):
    root, study = filled
    made = tables.accuracy_table(Table(make="accuracy_table", title="A", study=study, paper=paper_numbers()), root)
    arms = (study.arms[1], study.base)
    gain = stats.paired_difference(*(results.correctness(root, study, arm, 256) for arm in arms))
    expected = f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    assert made.cells.loc[2, "above base, points"] == expected
    assert made.cells.loc[0, "above base, points"] == "–"
    assert made.cells.loc[2, "paper, %"] == "56.7"


def test_cost_table_adds_up_by_rule(tmp_path):
    for place, seconds, memory in (("train/a", 10, 100), ("train/b", 30, 300), ("grade/a", 2, "NA")):
        path = tmp_path / "benchmarks" / f"{place}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0\t{memory}\n")
    made = tables.cost_table(Table(make="cost_table", title="Cost"), tmp_path)
    assert made.cells.values.tolist() == [
        ["train", "2", "40", "20.0", "30.0", "300"],
        ["grade", "1", "2", "2.0", "2.0", "–"],
    ]
    assert "3 jobs, 0.7 minutes" in made.caption


def test_write_gives_markdown_csv_and_latex(filled, tmp_path):
    root, study = filled
    settings = Table(make="accuracy_table", title="Accuracy & more", study=study, context=128, note="A remark.")
    tables.write("acc", settings, root, tmp_path / "tables" / "acc")
    markdown = (tmp_path / "tables" / "acc.md").read_text()
    lines = markdown.splitlines()
    assert lines[0] == "**Accuracy & more**"
    assert lines[2].startswith("| method | ours, % |")
    assert len({line.count("|") for line in lines[2:8]}) == 1
    assert lines[-1].endswith("A remark.")
    numbers = pd.read_csv(tmp_path / "tables" / "acc.csv")
    assert numbers["context"].tolist() == [128] * 4
    assert numbers["accuracy"].between(0, 1).all()
    latex = (tmp_path / "tables" / "acc.tex").read_text()
    assert r"Accuracy \& more" in latex
    assert r"ours, \%" in latex
    assert latex.count(r"\\") == 5
    assert latex.count("{") == latex.count("}")


def test_misuse_is_one_line(filled, tmp_path):
    root, study = filled
    with pytest.raises(UserError, match=r"tables\.t\.make: no kind of table is 'x'; choose context_table"):
        tables.write("t", Table(make="x", title="T"), root, tmp_path / "t")
    with pytest.raises(UserError, match="needs an experiment"):
        tables.write("t", Table(make="context_table", title="T"), root, tmp_path / "t")
    missing = make_study(("ppo",))
    with pytest.raises(UserError, match=r"pupil-stories-ppo-s1/.*missing; run `snakemake"):
        tables.write("t", Table(make="context_table", title="T", study=missing), root, tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_every_kind_says_what_it_reads():
    assert set(TABLE_READS) == set(tables.TABLES)


def test_settings_table_has_a_column_for_each_method_and_no_empty_row(tmp_path):
    columns = tuple(
        SettingsColumn(method=method, experiment="one", label=label, texts=texts)
        for method, label, texts in (
            ("grpo", "GRPO", (("learning rate", "1e-6"), ("MC samples", ""), ("penalty", ""))),
            ("chain", "Chain", (("learning rate", "2e-6"), ("MC samples", "9"), ("penalty", ""))),
        )
    )
    table = Table(make="settings_table", title="Settings", columns=columns, note="As run.")
    tables.write("s", table, tmp_path, tmp_path / "s")
    lines = (tmp_path / "s.md").read_text(encoding="utf-8").splitlines()
    assert lines[2:6] == [
        "| setting | GRPO | Chain |",
        "| --- | ---: | ---: |",
        "| learning rate | 1e-6 | 2e-6 |",
        "| MC samples | – | 9 |",
    ]
    assert lines[-1].endswith("As run.")
    assert (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()[1:] == [
        "learning rate,1e-6,2e-6",
        "MC samples,,9",
    ]
    with pytest.raises(UserError, match="'Settings' has no columns"):
        tables.write("s", dataclasses.replace(table, columns=()), tmp_path, tmp_path / "s")
