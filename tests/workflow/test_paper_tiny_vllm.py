"""The paper's study in miniature with vLLM as its sampler, as far as one figure and one table go: every kind of method,
both architectures, a second stage. Runs in the environment that `make test-vllm` makes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from spo import config
from spo.store import read_jsonl
from tests.workflow.conftest import ROOT, Checkout, copy_to

pytestmark = pytest.mark.slow

FILES = ("config/paper.yaml", "config/paper_tiny.yaml", "config/paper_tiny_vllm.yaml")
STUDY = config.load([ROOT / name for name in ("config/config.yaml", *FILES)])
#: Made of eight methods that start from Rho, and of those for long chain of thought, whose 4K runs start from others.
TARGETS = ("fig3a", "table1_aime24")


@pytest.fixture(scope="module")
def done(needs_vllm: None, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy in which the targets were made. Read only."""
    study = copy_to(tmp_path_factory.mktemp("paper") / "checkout")
    ended = study.snakemake("--cores", "2", *TARGETS, "--configfile", *FILES)
    assert ended.code == 0, ended.text
    return study


def test_vllm_samples_for_every_kind_of_method(done: Checkout) -> None:
    runs, kinds, steps = config.runs(STUDY), set(), 0.0
    folders = list((done.folder / STUDY.results / "runs").iterdir())
    for folder in folders:
        run, metrics = runs[folder.name], read_jsonl(folder / "metrics.jsonl")
        iterations = list(range(run.train.last_iteration + 1))
        assert run.train.backend == "vllm" and [row["iteration"] for row in metrics] == iterations
        kinds.add(run.train.credit.kind)
        for row in metrics[1:]:
            assert row["sampled_tokens"] > 0
            # What vLLM says of its samples, and what the model that trains says of them.
            assert 0 <= row["mismatch_kl"] < 0.05 and math.isfinite(row.get("loss", 0.0)), folder.name
            steps += row["steps"]
    assert kinds == {"group", "chain", "tree", "critic", "accepted", "pairs"} and steps > 0
    assert {runs[folder.name].method for folder in folders} >= {"grpo.4k", "spo_tree.4k"}


def test_vllm_predicts_what_is_shown(done: Checkout) -> None:
    results = done.folder / STUDY.results
    assert (done.folder / STUDY.pictures / "fig3a.png").stat().st_size > 1000
    assert (results / "tables/table1_aime24.md").read_text(encoding="utf-8").count("\n|") > 3
    scores = list((results / "evals").rglob("score.json"))
    assert len(scores) == 9 + 3
    for path in scores:
        score = json.loads(path.read_text(encoding="utf-8"))
        assert score["problems"] == STUDY.datasets[score["dataset"]].test
        assert any(row["response_ids"] for row in read_jsonl(path.parent / "predictions.jsonl"))
