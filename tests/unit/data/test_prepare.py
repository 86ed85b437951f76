from __future__ import annotations

import json

import pytest

from spo import data, store
from spo.data.splits import Splits, check
from spo.errors import UserError
from spo.settings import Dataset
from spo.types import Problem

STORIES = Dataset(source="stories", grader="final_line", train=8, validation=3, test=5, demonstrations=11)


def test_files_and_manifest(tmp_path):
    data.prepare("s", STORIES, tmp_path / "s")
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {
        "train": 8, "validation": 3, "test": 5, "demonstrations": 11,
    }  # fmt: skip
    for split, entry in manifest["splits"].items():
        assert entry["sha256"] == store.sha256_file(tmp_path / "s" / f"{split}.jsonl")
    assert (manifest["dataset"], manifest["source"], manifest["seed"]) == ("s", "stories", 0)
    problems = data.load_problems(tmp_path / "s" / "test.jsonl")
    assert len(problems) == 5
    assert problems[2].id == "s-test-2"
    row = store.read_jsonl(tmp_path / "s" / "demonstrations.jsonl")[0]
    assert set(row) == {"id", "question", "response"}


def test_the_same_settings_write_the_same_bytes(tmp_path):
    for copy in ("a", "b"):
        data.prepare("s", STORIES, tmp_path / copy)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_refusal_writes_nothing_and_keeps_what_is_there(tmp_path):
    data.prepare("s", STORIES, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError):
        data.prepare("s", Dataset(source="gsm8k", grader="gsm8k", path=str(tmp_path / "none")), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_bad_problem_row_is_named(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"id": "a", "question": "q", "answer": "1"}\n{"id": "b", "question": "q"}\n')
    with pytest.raises(UserError, match=r"test\.jsonl:2: field 'answer'"):
        data.load_problems(path)


def test_load_problems_refuses_a_file_without_any(tmp_path):
    path = tmp_path / "aime" / "validation.jsonl"
    store.write_jsonl(path, [])
    with pytest.raises(UserError, match=r"validation\.jsonl: no problems; dataset aime has no validation split"):
        data.load_problems(path)


def problem(identity: str, question: str, answer: str = "1") -> Problem:
    return Problem(identity, question, answer)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (Splits([problem("a", "x")], [problem("a", "y")], [], []), "id 'a' occurs twice"),
        (Splits([problem("a", " ")], [], [], []), "a has an empty question"),
        (Splits([problem("a", "x", "")], [], [], []), "a has an empty question or answer"),
        (Splits([problem("a", "x")], [], [problem("b", " X ")], []), r"b \(test\) is also in train"),
        (Splits([], [problem("a", "x")], [problem("b", "x")], []), r"also in validation"),
        (Splits([], [], [problem("b", "x")], [{"id": "d", "question": "X", "response": "r"}]), "held-out"),
        (Splits([], [], [], [{"id": "d", "question": "X", "response": ""}]), "d is empty"),
    ],
)
def test_check_refuses(splits, message):
    with pytest.raises(UserError, match=message):
        check("s", splits)


def test_check_allows_demonstrations_of_training_problems():
    check("s", Splits([problem("a", "x")], [], [], [{"id": "d", "question": "X", "response": "r"}]))
