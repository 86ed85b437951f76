from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spo.analysis import examples, figures, report, statements, stats, tables, typeset
from spo.analysis.slices import Figure, Report, Table
from spo.analysis.typeset import Made
from spo.errors import UserError
from tests.finished_study import fill, make_study, paper_numbers, write_evaluation, write_jsonl


class Tags(HTMLParser):
    """Checks that tags close in order, and remembers what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in {"src", "href"} and value]
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(filled, tmp_path_factory) -> tuple[str, Tags]:
    root, study = filled
    folder = tmp_path_factory.mktemp("page")
    bars = Figure(draw="accuracy_bars", title="Bars <1>", study=study, paper=paper_numbers())
    figures.draw("fig3a", bars, root, folder / "figures" / "fig3a", root / "figures" / "fig3a.csv")
    tables.write("acc", Table(make="accuracy_table", title="Accuracy", study=study), root, root / "tables" / "acc")
    settings = Report(
        title="A laptop's study & more",
        study="laptop",
        figures=("fig3a",),
        tables=("acc",),
        experiments=(study,),
        config_digest="0123456789abcdef",
    )
    report.write(settings, root, folder / "figures", folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    return text, tags


def test_the_page_is_well_formed_and_fetches_nothing(page):
    text, tags = page
    assert tags.open == []
    assert tags.fetched
    assert all(link.startswith(("data:", "#")) for link in tags.fetched)
    assert {link[1:] for link in tags.fetched if link.startswith("#")} <= set(tags.ids)
    assert "<script" not in text
    assert "url(" not in text
    assert "A laptop&#x27;s study &amp; more" in text
    assert "Bars &lt;1&gt;" in text


def test_the_page_says_how_it_was_made_and_shows_problems(page):
    text, _ = page
    assert "0123456789abcdef" in text
    assert re.search(r"numpy \d+\.\d+", text)
    assert "logical cores" in text
    assert "2 jobs, 3.6 minutes when added up" in text
    assert "graded wrong" in text
    assert "graded right" in text
    assert "Bo has 2 apples and eats 1." in text
    assert "prefers-color-scheme: dark" in text


def _entries(text: str) -> list[str]:
    """Links of the list of contents, in order."""
    return re.findall(r'<a href="([^"]+)">', text[text.index("<nav>") : text.index("</nav>")])


def test_contents_list_experiments_with_what_they_show(filled, tmp_path):
    root, study = filled
    other = dataclasses.replace(study, name="again", title="once more")
    for name in ("bars1", "bars2", "whole"):
        bars = Figure(draw="accuracy_bars", title=f"Title of {name}", study=study)
        figures.draw(name, bars, root, tmp_path / name, root / "figures" / f"{name}.csv")
    tables.write("t1", Table(make="accuracy_table", title="Table", study=study), root, root / "tables" / "t1")
    shown = {"figures": ("whole", "bars1", "bars2"), "tables": ("t1",), "experiments": (study, other)}
    settings = Report(title="T", **shown, experiment_of={"t1": "short_cot", "bars1": "short_cot", "bars2": "again"})
    report.write(settings, root, tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    first, second = "#short_cot-stories-greedy", "#again-stories-greedy"
    expected = ["#all-experiments", "#whole", first, "#t1", "#bars1", second, "#bars2", "#problems", "#how"]
    assert _entries(text) == expected
    assert ">Title of bars2</a>" in text
    assert "<h2>Once more</h2>" in text
    assert text.count("among twenty comparisons") == 1
    (tmp_path / "trajectories.html").write_text("")
    report.write(settings, root, tmp_path, tmp_path / "report.html")
    assert _entries((tmp_path / "report.html").read_text(encoding="utf-8")) == [*expected, "trajectories.html"]


def test_columns_of_words_stand_to_the_left_and_bold_stays_bold(tmp_path):
    cells = pd.DataFrame({"a": ["x < y", "**"], "b": ["1", "2"], "c": ["", "|"]})
    typeset.write("t", "T", Made(cells, cells, "C.", ("c",), frozenset({0})), tmp_path / "tables" / "t")
    report.write(Report(title="T", tables=("t",)), tmp_path, tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<tr><td class="left"><b>x &lt; y</b></td><td><b>1</b></td><td class="left"></td></tr>' in text
    assert '<tr><td class="left">**</td><td>2</td><td class="left">|</td></tr>' in text


def test_a_missing_figure_is_one_line(filled, tmp_path):
    settings = Report(title="T", figures=("fig7",))
    with pytest.raises(UserError, match=r"fig7\.png: missing; run `snakemake --cores all fig7`"):
        report.write(settings, filled[0], tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def _two_arms(root: Path, first: np.ndarray, second: np.ndarray, pairs=()):
    study = make_study(("grpo", "spo_chain"), seeds=len(first), contexts=(256,), pairs=pairs)
    fill(root, study, problems=first.shape[1], iterations=10)
    for arm, matrix in zip(study.arms, (first, second), strict=True):
        for run, row in zip(arm.runs, matrix, strict=True):
            write_evaluation(root, study, run.run, {256: row})
    return study


def test_statements_follow_the_numbers(tmp_path):
    low, high = np.tile(np.arange(100) < 40, (3, 1)), np.tile(np.arange(100) < 70, (3, 1))
    apart = statements.statements(tmp_path / "a", _two_arms(tmp_path / "a", low, high, (("spo_chain", "grpo"),)))
    assert any(line.startswith("SPO-chain is ahead of GRPO: 30.0 points [") for line in apart.differences)
    swapped = statements.statements(tmp_path / "b", _two_arms(tmp_path / "b", high, low, (("spo_chain", "grpo"),)))
    assert any(line.startswith("GRPO is ahead of SPO-chain: 30.0 points [") for line in swapped.differences)
    near = np.tile((np.arange(100) + 1) % 100 < 40, (3, 1))
    same = statements.statements(tmp_path / "c", _two_arms(tmp_path / "c", low, near, (("spo_chain", "grpo"),)))
    words = "SPO-chain and GRPO cannot be told apart (SPO-chain minus GRPO): +0.0 points"
    assert [words in line for line in same.differences] == [True]


def test_statements_cover_every_pair_unless_told_which(filled):
    root, study = filled
    said = statements.statements(root, study)
    assert ["ahead of" in line or "told apart" in line for line in said.differences] == [True] * 6
    assert len(said.accuracies) == 4
    assert "One training run cost" in said.cost
    with pytest.raises(UserError, match=r"experiments\.short_cot\.pairs: 'ppo' is not one of base, grpo"):
        statements.statements(root, dataclasses.replace(study, pairs=(("ppo", "grpo"),)))


def test_a_difference_is_told_apart_only_if_its_interval_excludes_zero():
    assert not stats.Difference(0.1, 0.0, 0.2, 0.05).told_apart
    assert stats.Difference(0.1, 0.01, 0.2, 0.03).told_apart
    assert stats.Difference(-0.1, -0.2, -0.01, 0.03).told_apart


def test_examples_prefer_a_problem_that_training_put_right(tmp_path):
    study = make_study(("grpo",), seeds=1, contexts=(256,))
    fill(tmp_path, study, problems=4, iterations=10)
    write_evaluation(tmp_path, study, "pupil", {256: np.array([1, 1, 0, 0])})
    write_evaluation(tmp_path, study, "pupil-stories-grpo-s1", {256: np.array([1, 0, 0, 1])})
    taught, contrast = examples.examples(tmp_path, study)
    assert taught.shown[0].correct is None
    assert contrast.question.startswith("Ana has 3 pens and gets 3")
    assert [(part.who, part.correct) for part in contrast.shown] == [("SFT base", False), ("GRPO", True)]


def test_examples_without_demonstrations_or_texts(tmp_path):
    study = make_study(("grpo",), seeds=1, contexts=(256,))
    fill(tmp_path, study, problems=3, iterations=10)
    (tmp_path / "data/stories/demonstrations.jsonl").write_text("")
    assert len(examples.examples(tmp_path, study)) == 1
    row = {"problem_id": "p000", "sample": 0, "context": 256, "correct": True, "response": ""}
    write_jsonl(tmp_path / "evals/pupil/stories/greedy/graded.jsonl", [row])
    assert examples.examples(tmp_path, study) == []
