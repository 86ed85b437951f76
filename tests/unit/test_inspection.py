"""The verbs `audit`, `trace` and `trajectories` on a real tiny model, from the command line to their files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from spo.__main__ import main
from spo.config import slice_json
from spo.policy import CRITICS
from spo.settings import Audit, Critic, Dataset, Group, Trace
from tests import tiny

TRAIN = slice_json(replace(tiny.BASE, seed=3))
DATASET = slice_json(Dataset(source="stories", grader="final_line"))
TRACE = Trace(problems=2, chain=replace(tiny.CHAIN, rollouts_per_cut=2), tree=tiny.TREE)
ESTIMATORS = {"GRPO": Group(samples_per_problem=2), "chain": tiny.CHAIN, "tree": tiny.TREE, "critic": Critic()}
AUDIT = Audit(problems=3, tokens_per_trajectory=2, truth_rollouts=4, estimators=ESTIMATORS)


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


def run(place, verb: str, settings: object, output: str, *more: str) -> int:
    where = ["--model", place / "model", "--data", place / "data", "--output", place / output]
    words = [verb, "--name", "x", "--settings", slice_json(settings), "--train", TRAIN, "--dataset", DATASET]
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


def test_a_trace_becomes_a_page(place):
    assert run(place, "trace", TRACE, "traces/x.json") == 0
    traced = json.loads((place / "traces/x.json").read_text(encoding="utf-8"))
    assert traced["settings"]["chain"]["rollouts_per_cut"] == 2
    assert [problem["id"] for problem in traced["problems"]] == ["t0", "t2"]
    page = {"title": "Look", "traces": [{"title": "x", "file": "traces/x.json", "policy": "the base"}]}
    words = ["trajectories", "--settings", json.dumps(page), "--results", place, "--output", place / "page.html"]
    assert main(list(map(str, words))) == 0
    assert (place / "page.html").read_text(encoding="utf-8").count("<article") == 2
