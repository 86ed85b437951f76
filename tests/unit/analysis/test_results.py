from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from spo import store
from spo.analysis import results
from spo.analysis.slices import Figure, PaperNumber
from spo.errors import UserError
from tests.finished_study import make_study, paper_numbers, write_evaluation, write_jsonl


def test_scores_have_a_row_for_each_run_and_context(filled):
    root, study = filled
    frame = results.scores(root, study)
    assert len(frame) == (1 + 3 * 3) * 2
    assert list(frame["method"].unique()) == ["base", "grpo", "spo_chain", "spo_tree"]
    row = frame[(frame["run"] == "pupil-stories-grpo-s2") & (frame["context"] == 256)].iloc[0]
    stored = json.loads((root / "evals/pupil-stories-grpo-s2/stories/greedy/score.json").read_text())
    assert row["accuracy"] == stored["contexts"]["256"]["accuracy"]
    assert row["seed"] == 2


def test_correctness_is_ordered_by_problem_and_averages_samples(tmp_path):
    study = make_study(("grpo",), seeds=1, contexts=(256,))
    folder = tmp_path / "evals" / "pupil-stories-grpo-s1" / "stories" / "greedy"
    verdicts = [("p2", 0, True), ("p1", 0, True), ("p1", 1, False), ("p2", 1, True)]
    rows = [{"problem_id": p, "sample": s, "context": 256, "correct": right} for p, s, right in verdicts]
    write_jsonl(folder / "graded.jsonl", [*rows, {"problem_id": "p1", "sample": 0, "context": 128, "correct": True}])
    assert results.correctness(tmp_path, study, study.arms[0], 256).tolist() == [[0.5, 1.0]]


def test_correctness_refuses_runs_graded_on_other_problems(tmp_path):
    study = make_study(("grpo",), seeds=2, contexts=(256,))
    write_evaluation(tmp_path, study, "pupil-stories-grpo-s1", {256: np.ones(3)})
    write_evaluation(tmp_path, study, "pupil-stories-grpo-s2", {256: np.ones(4)})
    with pytest.raises(UserError, match="graded on other problems than pupil-stories-grpo-s1"):
        results.correctness(tmp_path, study, study.arms[0], 256)


def test_curves_join_metrics_with_timing(filled):
    root, study = filled
    frame = results.curves(root, study)
    run = frame[frame["run"] == "pupil-stories-spo_chain-s1"].set_index("iteration")
    timing = [json.loads(line) for line in (root / "runs/pupil-stories-spo_chain-s1/timing.jsonl").open()]
    assert run.loc[0, "seconds"] == 0
    assert run.loc[60, "seconds"] == timing[60]["seconds_total"]
    assert run.loc[60, "tokens"] == 60 * run.loc[1, "sampled_tokens"]


def test_curves_start_at_zero_seconds_even_without_a_timing_row(tmp_path):
    study = make_study(("grpo",), seeds=1)
    folder = tmp_path / "runs" / "pupil-stories-grpo-s1"
    write_jsonl(folder / "metrics.jsonl", [{"iteration": i, "sampled_tokens_total": 5 * i} for i in range(3)])
    write_jsonl(folder / "timing.jsonl", [{"iteration": i, "seconds": {}, "seconds_total": 2.0 * i} for i in (1, 2)])
    assert results.curves(tmp_path, study)["seconds"].tolist() == [0.0, 2.0, 4.0]
    write_jsonl(folder / "timing.jsonl", [{"iteration": 1, "seconds": {}, "seconds_total": 2.0}])
    with pytest.raises(UserError, match="no row for iteration 2"):
        results.curves(tmp_path, study)


def test_benchmarks_read_rules_and_unmeasured_memory(tmp_path):
    for place, memory in (("train/a.tsv", "812.5"), ("train/b.tsv", "-"), ("report.tsv", "NA")):
        path = tmp_path / "benchmarks" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n3.5\t0:00:03\t{memory}\n")
    frame = results.benchmarks(tmp_path)
    assert frame["rule"].tolist() == ["report", "train", "train"]
    assert frame["seconds"].tolist() == [3.5] * 3
    assert frame["max_rss_mb"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        (
            "evals/pupil/stories/greedy/score.json",
            None,
            r"score\.json: missing; run `snakemake --cores all .*score\.json`",
        ),
        ("evals/pupil/stories/greedy/score.json", "{", r"score\.json: not valid JSON"),
        (
            "evals/pupil/stories/greedy/score.json",
            '{"contexts": {"64": {}}}',
            r"no context 128, only 64; delete it and run",
        ),
        ("evals/pupil/stories/greedy/graded.jsonl", None, r"graded\.jsonl: missing"),
        ("evals/pupil/stories/greedy/graded.jsonl", '{"context": 1}\n{"con', r"graded\.jsonl:2: not valid JSON"),
        ("evals/pupil/stories/greedy/graded.jsonl", '{"context": 1}\n', r"no rows at context 256"),
        ("runs/pupil-stories-grpo-s1/metrics.jsonl", None, r"metrics\.jsonl: missing"),
        ("runs/pupil-stories-grpo-s1/timing.jsonl", None, r"timing\.jsonl: missing"),
    ],
)
def test_a_missing_or_broken_file_is_one_line_with_the_remedy(finished, path, content, says):
    study = make_study(("grpo",), seeds=1)
    root = finished(study)
    if content is None:
        (root / path).unlink()
    else:
        (root / path).write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        results.scores(root, study)
        results.correctness(root, study, study.base, 256)
        results.curves(root, study)
    assert "\n" not in str(caught.value)
    assert "snakemake --cores all" in str(caught.value)


def test_read_rows_of_a_file_without_rows_does_not_advise_to_make_it_again(tmp_path):
    (tmp_path / "graded.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"graded\.jsonl: no rows; see the log of the job") as caught:
        results.read_rows(tmp_path / "graded.jsonl")
    assert "snakemake" not in str(caught.value)


def test_correctness_reads_responses_with_separators_of_lines(tmp_path):
    study = make_study(("grpo",), seeds=1, contexts=(256,))
    verdict = {"problem_id": "p", "sample": 0, "context": 256, "correct": True, "response": "a\u2028b\u0085c\x0cd"}
    store.write_jsonl(results.evaluation(tmp_path, study, "pupil-stories-grpo-s1") / "graded.jsonl", [verdict])
    assert results.correctness(tmp_path, study, study.arms[0], 256).tolist() == [[1.0]]


def test_missing_benchmarks_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no benchmark files"):
        results.benchmarks(tmp_path)


def test_paper_numbers_follow_the_context_they_stand_for():
    study = make_study(paper_contexts=(2048, 4096))
    numbers = (
        PaperNumber(method="grpo", context=2048, value=62.0, where="Table 1"),
        PaperNumber(method="grpo", context=4096, value=75.2, where="Table 1"),
    )
    figure = Figure(draw="accuracy_bars", title="", study=study, paper=numbers)
    assert results.paper_number(figure, "grpo", 128).value == 62.0
    assert results.paper_number(figure, "grpo", 256).value == 75.2
    assert results.paper_number(figure, "spo_tree", 256) is None
    everywhere = dataclasses.replace(figure, paper=paper_numbers())
    assert results.paper_number(everywhere, "grpo", 128).value == 44.6
    uneven = dataclasses.replace(figure, study=make_study(paper_contexts=(2048,)))
    with pytest.raises(UserError, match=r"experiments\.short_cot\.paper_contexts"):
        results.paper_number(uneven, "grpo", 128)


def test_the_context_shown_is_one_that_was_graded():
    figure = Figure(draw="accuracy_bars", title="Bars", study=make_study())
    assert results.shown_context(figure) == 256
    assert results.shown_context(dataclasses.replace(figure, context=128)) == 128
    with pytest.raises(
        UserError, match=r"Bars: context 64 is not one of experiments\.short_cot\.contexts \(128, 256\)"
    ):
        results.shown_context(dataclasses.replace(figure, context=64))
