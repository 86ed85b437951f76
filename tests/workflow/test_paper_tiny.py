"""The whole study of the paper for real, small, on the real data: `config/paper_tiny.yaml` through transformers."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spo import config
from spo.config import layers
from spo.config.plan import test_sets as sets_of_tests
from spo.store import read_jsonl as rows
from tests.paper_prompts import BEGINS, PROMPTS
from tests.workflow.conftest import ROOT, Checkout, copy_to

pytestmark = pytest.mark.slow

FILES = ("config/paper.yaml", "config/paper_tiny.yaml")
STUDY = config.load([ROOT / name for name in ("config/config.yaml", *FILES)])
RUNS, EVALUATIONS = config.runs(STUDY), config.evaluations(STUDY)


@pytest.fixture(scope="module")
def done(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy in which the command of the overlay ran to its end. Read only."""
    study = copy_to(tmp_path_factory.mktemp("paper") / "checkout")
    ended = study.snakemake("--cores", "2", "--configfile", *FILES)
    assert ended.code == 0, ended.text
    return study


@pytest.fixture(scope="module")
def results(done: Checkout) -> Path:
    return done.folder / STUDY.results


def test_every_figure_and_table_of_the_paper_is_there(done: Checkout, results: Path) -> None:
    for name in STUDY.figures:
        assert (done.folder / STUDY.pictures / f"{name}.png").stat().st_size > 1000, name
        assert (done.folder / STUDY.pictures / f"{name}.pdf").stat().st_size > 1000, name
        assert len((results / f"figures/{name}.csv").read_text(encoding="utf-8").splitlines()) > 1, name
    for name in STUDY.tables:
        assert (results / f"tables/{name}.md").read_text(encoding="utf-8").count("\n|") > 2, name
    assert "<html" in (results / "trajectories.html").read_text(encoding="utf-8").lower()


def test_every_grader_judged_real_responses(results: Path) -> None:
    judged: dict[str, list[dict]] = defaultdict(list)
    for policy, dataset, protocol in EVALUATIONS:
        folder = results / f"evals/{policy}/{dataset}/{protocol}"
        score = json.loads((folder / "score.json").read_text(encoding="utf-8"))
        assert score["grader"] == STUDY.datasets[dataset].grader
        assert score["problems"] == STUDY.datasets[dataset].test
        judged[score["grader"]] += [row for row in rows(folder / "graded.jsonl") if row["response_tokens"]]
    evaluated = {dataset for experiment in STUDY.experiments.values() for dataset in sets_of_tests(experiment)}
    assert judged.keys() == {STUDY.datasets[dataset].grader for dataset in evaluated}
    assert judged.keys() == {"gsm8k_official", "math_official", "math", "aime", "knights"}
    for grader, verdicts in judged.items():
        assert len({row["problem_id"] for row in verdicts}) >= 2, grader
        assert any(row.get("response") for row in verdicts), grader
    for grader in ("gsm8k_official", "math_official", "math"):
        assert any(row["extracted"] for row in judged[grader]), grader


def test_every_method_ran_all_its_iterations(results: Path) -> None:
    for name, run in RUNS.items():
        metrics = rows(results / f"runs/{name}/metrics.jsonl")
        assert [row["iteration"] for row in metrics] == list(range(run.train.last_iteration + 1)), name
        assert all("validation_accuracy" in row for row in metrics), name
        assert ("validation_sampled_accuracy" in metrics[0]) == (run.train.validation_samples > 0), name
    trained = {name for name, method in STUDY.methods.items() if method.policy is None}
    # Variants that the paper's figures have no experiment for.
    assert trained - {run.method for run in RUNS.values()} == {"spo_chain.authors", "vineppo.math"}


def moved(results: Path, name: str) -> bool:
    """Return whether a run's weights are others than those that it started from."""
    run = RUNS[name]
    start = f"runs/{run.start}/model" if run.start else f"models/{run.model}"
    before, after = (load_file(results / folder / "model.safetensors") for folder in (start, f"runs/{name}/model"))
    return any(not torch.equal(after[key], before[key].to(after[key].dtype)) for key in after)


def test_every_kind_of_method_learnt_from_responses_that_differ(results: Path) -> None:
    """Responses learnt by heart are right at times, so that every kind has something to learn from in some run."""
    learnt: dict[str, list[str]] = {kind: [] for kind in ("group", "chain", "tree", "critic", "accepted", "pairs")}
    for name, run in RUNS.items():
        metrics = rows(results / f"runs/{name}/metrics.jsonl")[1:]
        stepped = [row for row in metrics if row["steps"] > 0 and row["grad_norm"] > 1e-6]
        if stepped and any(0 < row["accuracy"] < 1 for row in metrics):
            learnt[run.train.credit.kind].append(name)
        if run.train.credit.kind == "accepted":  # the last iteration begins at the start, and may keep the start
            assert moved(results, name) == (metrics[-1].get("kept_step", 0) > 0), name
        else:
            assert moved(results, name) == bool(stepped), name
    assert all(learnt.values()), learnt


def test_stages_begin_where_the_first_ones_ended(results: Path) -> None:
    for name in ("grpo.4k", "spo_tree.4k"):
        first = name.removesuffix(".4k")
        log = (results / f"logs/train/r1_distill-math-{name}-s42.log").read_text(encoding="utf-8")
        assert "Error" not in log
        folders = [results / f"runs/r1_distill-math-{part}-s42/model" for part in (first, name)]
        for file in ("tokenizer.json", "tokenizer_config.json"):
            one, other, origin = ((folder / file).read_bytes() for folder in (*folders, results / "models/r1_distill"))
            assert one == other == origin


def test_the_report_has_the_papers_numbers(done: Checkout, results: Path) -> None:
    report = (results / "report.html").read_text(encoding="utf-8")
    numbers = layers.read(ROOT / "config/paper_numbers.yaml").tree
    assert all(f'id="{name}"' in report for name in (*STUDY.figures, *STUDY.tables))
    for name in ("table1_math500", "table1_aime24"):
        table = re.search(rf'id="{name}">.*?</table>', report, flags=re.DOTALL)[0]
        shown = [row for row in numbers[name]["numbers"] if row["method"] in ("base", "grpo", "spo_tree")]
        assert shown and all(f">{row['value']:.1f}<" in table for row in shown)
    for name, figure in STUDY.figures.items():
        if figure.draw == "accuracy_bars" and figure.paper is not None:
            csv = (results / f"figures/{name}.csv").read_text(encoding="utf-8")
            theirs = {row["method"] for row in numbers[figure.paper].get("numbers", ())}
            ours = {*STUDY.experiments[figure.experiment].methods, "base"}
            assert csv.count(",paper,") == len(theirs & ours), name


def first_prompt(text: str) -> dict:
    """The line of JSON in a log or a model card."""
    return json.loads(re.search(r'^(?:first prompt: )?(\{"prompt": .*\})$', text, flags=re.MULTILINE)[1])


def check_prompt(found: dict, dataset: str, model: str, split: str, results: Path) -> None:
    """The text is the paper's, about the first problem of the split, and begins as the model's sequences do, once."""
    question = rows(results / f"data/{dataset}/{split}.jsonl")[0]["question"]
    template = PROMPTS.get(dataset, STUDY.datasets[dataset].prompt)
    assert found["prompt"] == template.replace("{question}", question)
    vocabulary = json.loads((results / f"models/{model}/tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    special = {token["content"]: token["id"] for token in vocabulary}
    if model in BEGINS:
        begin = special[BEGINS[model]]
        assert found["ids"][0] == begin and found["ids"].count(begin) == 1
    written = [token for token in STUDY.models[model].tokenizer.special_tokens if token in template]
    assert all(found["ids"].count(special[token]) == template.count(token) for token in written)


def test_the_first_prompt_of_every_run_is_the_papers(results: Path) -> None:
    for name, run in RUNS.items():
        for file in (f"runs/{name}/model/README.md", f"logs/train/{name}.log"):
            found = first_prompt((results / file).read_text(encoding="utf-8"))
            check_prompt(found, run.dataset, run.model, "train", results)


def test_the_first_prompt_of_every_evaluation_is_the_papers(results: Path) -> None:
    for policy, dataset, protocol in EVALUATIONS:
        model = RUNS[policy].model if policy in RUNS else policy
        log = (results / f"logs/generate/{policy}/{dataset}/{protocol}.log").read_text(encoding="utf-8")
        check_prompt(first_prompt(log), dataset, model, "test", results)
