"""The whole workflow for real, in miniature: every rule, twice the same bytes, through kills too."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from spo import store
from tests.workflow.conftest import SMOKE, Checkout, environment

pytestmark = pytest.mark.slow

#: What must be the same bytes in every run: everything but clocks, logs and what shows seconds.
SAME = (
    "results/smoke/data/**/*",
    "results/smoke/models/**/*.safetensors",
    "results/smoke/models/**/*.json",
    "results/smoke/models/*/metrics.jsonl",
    "results/smoke/runs/*/model/*.safetensors",
    "results/smoke/runs/*/model/*.json",
    "results/smoke/runs/*/critic/*",
    "results/smoke/runs/*/metrics.jsonl",
    "results/smoke/evals/**/*",
    "results/smoke/audits/**/*",
    "results/smoke/traces/*",
    "results/smoke/trajectories.html",
    "results/smoke/figures/fig3a.csv",
    "results/smoke/figures/fig12.csv",
    "results/smoke/figures/fig_credit.csv",
    "results/smoke/tables/table1.*",
)


def test_every_rule_runs_and_leaves_log_and_benchmark(smoked: Checkout) -> None:
    results = smoked.folder / "results/smoke"
    rules = ("prepare", "sft", "train", "generate", "grade", "score", "audit", "trace", "trajectories")
    for rule in (*rules, "figure", "table", "report"):
        assert list((results / "logs" / rule).rglob("*.log")), rule
        assert list((results / "benchmarks" / rule).rglob("*.tsv")), rule
    for name in ("fig3a", "fig3c", "fig5a", "fig12", "fig_credit"):
        for suffix in ("png", "pdf", "csv"):
            assert (results / "figures" / f"{name}.{suffix}").stat().st_size > 100
    assert (results / "tables/table1.md").read_text(encoding="utf-8").count("|") > 20
    for page in ("report", "trajectories"):
        assert "<html" in (results / f"{page}.html").read_text(encoding="utf-8").lower()


def test_every_run_learns_something(smoked: Checkout) -> None:
    """Otherwise equal bytes of models, here and after kills, would be those of models that never moved."""
    results = smoked.folder / "results/smoke"
    runs = sorted((results / "runs").iterdir())
    assert len(runs) == 25
    for run in runs:
        rows = store.read_jsonl(run / "metrics.jsonl")
        assert any(0 < row["reward"] < 1 for row in rows if "reward" in row), f"{run.name}: rewards do not differ"
        assert sum(row.get("steps", 0) for row in rows) > 0, f"{run.name}: no optimizer steps"
        assert max(row.get("grad_norm", 0) for row in rows) > 1e-6, f"{run.name}: gradients are 0"
        base = results / "models" / run.name.split("-")[0] / "model.safetensors"
        assert (run / "model/model.safetensors").read_bytes() != base.read_bytes(), (
            f"{run.name}: weights are the base's"
        )
    for model, dataset in (("pupil", "stories"), ("sleuth", "knights")):
        score = json.loads((results / f"evals/{model}/{dataset}/greedy/score.json").read_text(encoding="utf-8"))
        assert all(0.1 <= row["accuracy"] <= 0.6 for row in score["contexts"].values()), f"{model}: nothing to learn"


def test_a_policy_of_others_is_shown_like_the_base(checkout: Checkout) -> None:
    """Here the others are a second model trained from nothing; nothing but it and the base is made or evaluated."""
    freshman = {"architecture": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64}}
    freshman["sft"] = {"dataset": "stories", "steps": 4, "batch_examples": 8, "seed": 5}
    experiment = {"model": "pupil", "dataset": "stories", "methods": ["freshman"], "seeds": [1, 2]}
    experiment |= {"contexts": [128, 256], "protocols": ["greedy"]}
    content = {
        "replace": ["experiments", "figures", "tables", "audits", "traces", "claims", "style"],
        "models": {"freshman": freshman},
        "methods": {"freshman": {"label": "Freshman", "policy": "freshman"}},
        "experiments": {"others": experiment},
        "figures": {"bars": {"draw": "accuracy_bars", "title": "Bars", "experiment": "others"}},
        "tables": {"accuracy": {"make": "accuracy_table", "title": "Accuracy", "experiment": "others"}},
    }
    _, overlay = checkout.overlay("mine.yaml", content)
    ended = checkout.snakemake("--cores", "2", *SMOKE, overlay)
    assert ended.code == 0, ended.text
    results = checkout.folder / "results/smoke"
    assert sorted(path.name for path in (results / "evals").iterdir()) == ["freshman", "pupil"]
    assert not (results / "runs").exists()
    table = (results / "tables/accuracy.md").read_text(encoding="utf-8")
    assert "| Freshman |" in table and "1 seed a method" in table
    assert "Freshman" in (results / "report.html").read_text(encoding="utf-8")


def test_the_log_has_a_line_an_iteration(smoked: Checkout) -> None:
    for run in (smoked.folder / "results/smoke/runs").iterdir():
        log = (smoked.folder / f"results/smoke/logs/train/{run.name}.log").read_text(encoding="utf-8")
        rows = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert len([line for line in log.splitlines() if line.startswith(run.name)]) == len(rows) >= 2
        assert "\r" not in log  # no progress bar where nobody looks


def test_once_done_there_is_nothing_to_do(smoked: Checkout) -> None:
    assert "Nothing to be done" in smoked.snakemake("-n", *SMOKE).text


def test_models_are_what_transformers_expects(smoked: Checkout) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for folder in ("models/pupil", "runs/sleuth-knights-spo_tree-s1/model"):
        model = AutoModelForCausalLM.from_pretrained(smoked.folder / "results/smoke" / folder)
        tokenizer = AutoTokenizer.from_pretrained(smoked.folder / "results/smoke" / folder)
        assert model.config.eos_token_id == tokenizer.eos_token_id
        assert model.get_input_embeddings().num_embeddings >= len(tokenizer)


def test_snakemakes_own_report_has_figures_and_captions(smoked: Checkout) -> None:
    ended = smoked.snakemake(*SMOKE, "--report", "report.html")
    assert ended.code == 0, ended.text
    page = (smoked.folder / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("fig3a.png", "fig5a.png", "table1"))


def test_kills_change_nothing(smoked: Checkout, checkout: Checkout) -> None:
    """kill -9 of Snakemake or of a job, again and again; the same command every time; in the end the same bytes."""
    dice = random.Random(0)
    kills = {"snakemake": 0, "job": 0}
    for _ in range(30):
        if run_with_kills(checkout, dice, kills) == 0:
            break
    assert kills["snakemake"] >= 3 and kills["job"] >= 3
    expected, found = smoked.files(*SAME), checkout.files(*SAME)
    assert len(expected) > 100 and list(found) == list(expected)
    assert not [name for name in expected if found[name] != expected[name]]


def run_with_kills(checkout: Checkout, dice: random.Random, kills: dict[str, int]) -> int:
    """Exit code of Snakemake, which is killed, or sees its jobs killed, at random moments, ten times in all."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *SMOKE]
    with (checkout.folder / "last.log").open("w") as log:
        process = subprocess.Popen(command, cwd=checkout.folder, env=environment(), stdout=log, stderr=log)
        while True:
            try:
                return process.wait(timeout=dice.uniform(2, 7) if sum(kills.values()) < 10 else 600)
            except subprocess.TimeoutExpired:
                kill(process, dice, kills)


def kill(process: subprocess.Popen, dice: random.Random, kills: dict[str, int]) -> None:
    """In turn one of the jobs that run now, and Snakemake alone (its jobs live on)."""
    snakemake = psutil.Process(process.pid)
    if kills["job"] > kills["snakemake"]:
        snakemake.send_signal(signal.SIGKILL)
        kills["snakemake"] += 1
        return
    # A job may end while it is looked at; then the next moment will do.
    with contextlib.suppress(psutil.NoSuchProcess):
        jobs = [child for child in snakemake.children(recursive=True) if "spo" in child.cmdline()]
        if jobs:
            dice.choice(jobs).send_signal(signal.SIGKILL)
            kills["job"] += 1


def test_the_same_workflow_on_real_problems(
    checkout: Checkout, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GSM8K itself, every rule of `config/gsm8k_tiny.yaml`, with little training and few test problems."""
    monkeypatch.setenv("SPO_DATA", str(data_folder))
    cut = {
        "datasets": {"gsm8k": {"test": 40, "demonstrations": 500, "validation": 40}},
        "models": {"freshman": {"sft": {"steps": 20, "log_every_steps": 10}}},
        "training": {"iterations": 1, "validate_every": 1, "validation_problems": 8, "max_response_tokens": 96},
        "experiments": {"gsm8k": {"seeds": [1], "contexts": [128, 192, 256]}},
    }
    checkout.overlay("cut.yaml", cut)
    ended = checkout.snakemake("--cores", "2", "--configfile", "config/gsm8k_tiny.yaml", "cut.yaml")
    assert ended.code == 0, ended.text
    results = checkout.folder / "results/gsm8k_tiny"
    for policy in ("freshman", *(f"freshman-gsm8k-{method}-s1" for method in ("grpo", "spo_chain", "spo_tree"))):
        score = json.loads((results / f"evals/{policy}/gsm8k/greedy/score.json").read_text(encoding="utf-8"))
        assert score["problems"] == 40 and list(score["contexts"]) == ["128", "192", "256"]
        assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in score["contexts"].values())
    assert (results / "figures/gsm8k_bars.png").stat().st_size > 1000
