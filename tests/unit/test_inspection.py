"""The commands `audit`, `trace` and `trajectories` on a real tiny model, from the command line to their files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spo import store
from spo.__main__ import main
from spo.policy import CRITICS
from spo.policy.engine import Engine
from spo.policy.hf import HfPolicy
from spo.settings import Audit, Critic, Group, Trace, Train, changed
from tests import tiny

TRAIN = replace(tiny.BASE, seed=3)
RUN = "tiny-digits-m-s3"
TRACE = Trace(problems=2, chain=replace(tiny.CHAIN, rollouts_per_cut=2), tree=tiny.TREE)
ESTIMATORS = {"GRPO": Group(samples_per_problem=2), "chain": tiny.CHAIN, "tree": tiny.TREE, "critic": Critic()}
AUDIT = Audit(problems=3, tokens_per_trajectory=2, truth_rollouts=4, estimators=ESTIMATORS)
GROUPS = replace(AUDIT, estimators={"GRPO": Group(samples_per_problem=2)})
AUDITED, TRACED = "results/audits/x/s3.jsonl", "results/traces/x.json"
NAMES = {"audit": "x/s3", "trace": "x"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a run's model, its critic, and validation problems, one of which fills the context."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/runs" / RUN
    tiny.model(folder / "model")
    CRITICS["engine"](folder / "model", 0).save(folder / "critic")
    problems = tiny.problems(5)
    problems[1] = replace(problems[1], question="Digits: " + "1 " * 20)
    store.write_jsonl(tmp_path / "results/data/digits/validation.jsonl", problems)
    return tmp_path


def run(place, command: str, settings: Audit | Trace, train: Train = TRAIN) -> int:
    """Run the audit or the trace `x`."""
    plain = changed(settings)
    part = {f"{command}s": {"x": {"experiment": "e", "method": "m", command: plain}}}
    critic = {"methods": {"m": {"label": "M", "train": {"credit": {"kind": "critic"}}}}} if settings is AUDIT else {}
    return main([command, NAMES[command], "--config", str(tiny.study(place, train, **part, **critic))])


def test_an_audit_is_rows_of_the_first_problems_that_fit(place):
    assert run(place, "audit", AUDIT) == 0
    rows = store.read_jsonl(place / AUDITED)
    assert list(dict.fromkeys(row["problem_id"] for row in rows)) == ["t0", "t2", "t3"]
    assert all(list(row["estimates"]) == sorted(ESTIMATORS) for row in rows)
    first = (place / AUDITED).read_bytes()
    assert run(place, "audit", AUDIT) == 0
    assert (place / AUDITED).read_bytes() == first


@pytest.mark.parametrize(("verb", "settings"), [("audit", GROUPS), ("trace", TRACE)])
@pytest.mark.parametrize(
    ("opened", "backend", "remedy"),
    [
        (Engine, "engine", "lower optimizer.micro_batch_tokens (now 16384)"),
        (HfPolicy, "hf", "lower memory.head_chunk_tokens (now 1024)"),
    ],
)
def test_memory_that_runs_out_names_the_key(place, capsys, monkeypatch, verb, settings, opened, backend, remedy):
    """The error is raised where PyTorch raises it, while responses are scored."""

    def too_large(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    monkeypatch.setattr(opened, "token_logprobs", too_large)
    assert run(place, verb, settings, replace(TRAIN, backend=backend)) == 1
    assert capsys.readouterr().err == f"spo: out of memory (2.00 GiB more were asked for): {remedy}\n"
    assert not (place / AUDITED).exists() and not (place / TRACED).exists()


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (5, "x: no validation problem has a prompt that leaves room for a response in 5 tokens; raise context_tokens"),
        (65, "context_tokens: 65, but "),
    ],
)
def test_contexts_that_are_too_short_or_too_long_are_one_line(place, capsys, tokens, said):
    assert run(place, "trace", TRACE, replace(TRAIN, context_tokens=tokens)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"spo: {said}") and error.count("\n") == 1
    assert not (place / TRACED).exists()


def test_a_trace_becomes_a_page(place):
    assert run(place, "trace", TRACE) == 0
    traced = json.loads((place / TRACED).read_text(encoding="utf-8"))
    assert traced["settings"]["chain"]["rollouts_per_cut"] == 2
    assert [problem["id"] for problem in traced["problems"]] == ["t0", "t2"]
    assert main(["trajectories", "--config", str(place / "study.yaml")]) == 0
    assert (place / "results/trajectories.html").read_text(encoding="utf-8").count("<article") == 2
