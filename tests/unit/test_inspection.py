"""The verbs `audit`, `trace` and `trajectories` on a real tiny model, from the command line to their files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from spo.__main__ import main
from spo.config import slice_json
from spo.policy import CRITICS
from spo.policy.engine import Engine
from spo.policy.hf import HfPolicy
from spo.settings import Audit, Critic, Dataset, Group, Trace
from tests import tiny

TRAIN = slice_json(replace(tiny.BASE, seed=3))
DATASET = slice_json(Dataset(source="stories", grader="final_line"))
TRACE = Trace(problems=2, chain=replace(tiny.CHAIN, rollouts_per_cut=2), tree=tiny.TREE)
ESTIMATORS = {"GRPO": Group(samples_per_problem=2), "chain": tiny.CHAIN, "tree": tiny.TREE, "critic": Critic()}
AUDIT = Audit(problems=3, tokens_per_trajectory=2, truth_rollouts=4, estimators=ESTIMATORS)
GROUPS = replace(AUDIT, estimators={"GRPO": Group(samples_per_problem=2)})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, its critic, and validation problems, one of which fills the context."""
    root = tmp_path_factory.mktemp("inspected")
    tiny.model(root / "model")
    CRITICS["engine"](root / "model", 0).save(root / "critic")
    problems = tiny.problems(5)
    problems[1] = replace(problems[1], question="Digits: " + "1 " * 20)
    (root / "data").mkdir()
    lines = "".join(json.dumps(asdict(problem)) + "\n" for problem in problems)
    (root / "data/validation.jsonl").write_text(lines, encoding="utf-8")
    return root


def run(place, verb: str, settings: object, output: str, *more: str, train: str = TRAIN) -> int:
    where = ["--model", place / "model", "--data", place / "data", "--output", place / output]
    words = [verb, "--name", "x", "--settings", slice_json(settings), "--train", train, "--dataset", DATASET]
    return main([*map(str, (*words, *where)), *more])


def test_an_audit_is_rows_of_the_first_problems_that_fit(place):
    assert run(place, "audit", AUDIT, "audit.jsonl", "--critic", str(place / "critic")) == 0
    rows = [json.loads(line) for line in (place / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(dict.fromkeys(row["problem_id"] for row in rows)) == ["t0", "t2", "t3"]
    assert all(list(row["estimates"]) == sorted(ESTIMATORS) for row in rows)
    first = (place / "audit.jsonl").read_bytes()
    assert run(place, "audit", AUDIT, "again.jsonl", "--critic", str(place / "critic")) == 0
    assert (place / "again.jsonl").read_bytes() == first


def test_an_audit_without_its_critic_is_one_line(place, capsys):
    assert run(place, "audit", AUDIT, "none.jsonl") == 2
    assert capsys.readouterr().err.startswith("spo: audit: estimators.critic: needs a critic;")
    assert not (place / "none.jsonl").exists()


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
    train = slice_json(replace(tiny.BASE, backend=backend))
    assert run(place, verb, settings, "short", train=train) == 1
    assert capsys.readouterr().err == f"spo: out of memory (2.00 GiB more were asked for): {remedy}\n"
    assert not (place / "short").exists()


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (5, "x: no validation problem has a prompt that leaves room for a response in 5 tokens; raise context_tokens"),
        (65, "context_tokens: 65, but "),
    ],
)
def test_contexts_that_are_too_short_or_too_long_are_one_line(place, capsys, tokens, said):
    train = slice_json(replace(tiny.BASE, context_tokens=tokens))
    assert run(place, "trace", TRACE, "nothing.json", train=train) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"spo: {said}") and error.count("\n") == 1
    assert not (place / "nothing.json").exists()


def test_a_trace_becomes_a_page(place):
    assert run(place, "trace", TRACE, "traces/x.json") == 0
    traced = json.loads((place / "traces/x.json").read_text(encoding="utf-8"))
    assert traced["settings"]["chain"]["rollouts_per_cut"] == 2
    assert [problem["id"] for problem in traced["problems"]] == ["t0", "t2"]
    page = {"title": "Look", "traces": [{"title": "x", "file": "traces/x.json", "policy": "the base"}]}
    words = ["trajectories", "--settings", json.dumps(page), "--results", place, "--output", place / "page.html"]
    assert main(list(map(str, words))) == 0
    assert (place / "page.html").read_text(encoding="utf-8").count("<article") == 2
