from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from spo.data import DATASETS
from spo.data.splits import normalised
from spo.errors import UserError
from spo.settings import Dataset

REAL = os.environ.get("SPO_DATA")
needs_data = pytest.mark.skipif(not REAL, reason="SPO_DATA does not name a folder with gsm8k/, math500/ and aime24/")


def gsm8k(path, **changes) -> Dataset:
    sizes = {"validation": 2, "demonstrations": 100}
    return Dataset(source="gsm8k", grader="gsm8k", path=str(path), **{**sizes, **changes})


def row(number: int) -> dict[str, str]:
    return {
        "question": f"What is {number} + 1?",
        "answer": f"{number}+1=<<{number}+1={number + 1}>>.\n#### {number + 1}",
    }


def write(folder: Path, train=None, test=None) -> Path:
    for name, rows in {"train": train or map(row, range(30)), "test": test or map(row, range(100, 105))}.items():
        lines = [item if isinstance(item, str) else json.dumps(item) for item in rows]
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_a_folder_is_read_and_split(tmp_path):
    splits = DATASETS["gsm8k"](gsm8k(write(tmp_path)), "g")
    assert [len(items) for items in splits.problems().values()] == [28, 2, 5]
    assert splits.test[0].id == "g-test-0"
    assert (splits.test[0].question, splits.test[0].answer) == ("What is 100 + 1?", "101")
    assert [item.id for item in splits.train] == sorted((item.id for item in splits.train), key=lambda x: int(x[8:]))
    demonstration = splits.demonstrations[0]
    number = int(demonstration["id"].rpartition("-")[2])
    assert demonstration["response"] == f"{number}+1={''}.\n#### {number + 1}"
    assert {row["id"] for row in splits.demonstrations} == {problem.id for problem in splits.train}


def test_the_seed_chooses_the_validation_split(tmp_path):
    write(tmp_path)
    chosen = {seed: DATASETS["gsm8k"](gsm8k(tmp_path, seed=seed), "g").validation for seed in (0, 0, 1)}
    assert chosen[0] == DATASETS["gsm8k"](gsm8k(tmp_path, seed=0), "g").validation
    assert chosen[0] != chosen[1]


def test_sizes_are_cut_and_too_large_ones_refused(tmp_path):
    write(tmp_path)
    splits = DATASETS["gsm8k"](gsm8k(tmp_path, train=7, test=3, demonstrations=4), "g")
    assert [len(splits.train), len(splits.test), len(splits.demonstrations)] == [7, 3, 4]
    with pytest.raises(UserError, match=r"datasets\.g\.test: 6 asked for, only 5 there"):
        DATASETS["gsm8k"](gsm8k(tmp_path, test=6), "g")


def test_gzip_and_variables_in_the_path(tmp_path, monkeypatch):
    write(tmp_path)
    plain = tmp_path / "train.jsonl"
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    monkeypatch.setenv("PROBLEMS", str(tmp_path))
    assert len(DATASETS["gsm8k"](gsm8k("$PROBLEMS"), "g").train) == 28
    monkeypatch.delenv("PROBLEMS")
    with pytest.raises(UserError, match=r"\$PROBLEMS: environment variable not set"):
        DATASETS["gsm8k"](gsm8k("$PROBLEMS"), "g")


def test_damaged_gzip_is_named(tmp_path):
    write(tmp_path)
    data = gzip.compress((tmp_path / "train.jsonl").read_bytes())
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"train\.jsonl\.gz: damaged"):
        DATASETS["gsm8k"](gsm8k(tmp_path), "g")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"question": "Why?"', r"train\.jsonl:4: not valid JSON"),
        ({"question": "Why?"}, r"train\.jsonl:4: field 'answer' is missing"),
        ({"question": "Why?", "answer": None}, r"train\.jsonl:4: field 'answer' is missing"),
        ({"question": "  ", "answer": "#### 3"}, r"train\.jsonl:4: field 'question' is missing, empty"),
        ({"question": "Why?", "answer": 3}, r"train\.jsonl:4: field 'answer' .* not text"),
        ({"question": "Why?", "answer": "so 3"}, r"train\.jsonl:4: field 'answer' has nothing after ####"),
        ("[1, 2]", r"train\.jsonl:4: expected a JSON object"),
    ],
)
def test_malformed_rows_are_named_by_line_and_counted(tmp_path, bad, message):
    rows = [*map(row, range(2)), "", bad, *map(row, range(2, 20)), bad]
    with pytest.raises(UserError, match=message) as caught:
        DATASETS["gsm8k"](gsm8k(write(tmp_path, train=rows)), "g")
    assert "and 1 more bad line" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_rows_that_are_test_questions_are_dropped_and_counted(tmp_path):
    copied = {**row(100), "question": "  what IS 100 + 1? "}
    splits = DATASETS["gsm8k"](gsm8k(write(tmp_path, train=[*map(row, range(40)), copied, row(3)])), "g")
    assert splits.notes["dropped_train_rows"] == 2
    assert normalised(copied["question"]) not in {
        normalised(item.question) for item in splits.train + splits.validation
    }


def test_a_training_file_full_of_test_questions_is_refused(tmp_path):
    with pytest.raises(UserError, match="5 of 10 training questions are test questions"):
        DATASETS["gsm8k"](gsm8k(write(tmp_path, train=map(row, range(95, 105)))), "g")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"datasets\.g\.path: neither .*train\.jsonl nor train\.jsonl\.gz"):
        DATASETS["gsm8k"](gsm8k(tmp_path), "g")


def test_options_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"datasets\.g\.options\.digits: gsm8k takes no options"):
        DATASETS["gsm8k"](gsm8k(tmp_path, options={"digits": 2}), "g")


def test_the_hub_out_of_reach_is_one_line(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    unpublished = Dataset(source="gsm8k", grader="gsm8k", revision="0" * 40)
    with pytest.raises(UserError, match=r"openai/gsm8k cannot be read.*`path:`.*HF_HUB_OFFLINE") as caught:
        DATASETS["gsm8k"](unpublished, "g")
    assert "\n" not in str(caught.value)


@needs_data
def test_real_gsm8k_has_the_papers_splits():
    splits = DATASETS["gsm8k"](gsm8k(f"{REAL}/gsm8k", validation=373, demonstrations=10_000), "gsm8k")
    assert [len(items) for items in splits.problems().values()] == [7100, 373, 1319]
    assert splits.notes["dropped_train_rows"] == 0
    assert sum("," in problem.answer for problem in splits.test) == 14
    assert not any("<<" in row["response"] for row in splits.demonstrations)
    assert all("#### " in row["response"] for row in splits.demonstrations)


@needs_data
@pytest.mark.parametrize(("source", "count"), [("math500", 500), ("aime24", 30)])
def test_real_evaluation_sets(source, count):
    settings = Dataset(source=source, grader="final_line", path=f"{REAL}/{source}")
    splits = DATASETS[source](settings, source)
    assert [len(items) for items in splits.problems().values()] == [0, 0, count]
    assert all(problem.answer for problem in splits.test)
