from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from spo.data import DATASETS
from spo.data.given import SOURCES
from spo.data.splits import normalised
from spo.errors import UserError
from spo.settings import Dataset


def gsm8k(path, **changes) -> Dataset:
    sizes = {"validation": 2, "demonstrations": 28}
    return Dataset(source="gsm8k", grader="gsm8k", path=str(path), **{**sizes, **changes})


def row(number: int) -> dict[str, str]:
    return {
        "question": f"What is {number} + 1?",
        "answer": f"{number}+1=<<{number}+1={number + 1}>>.\n#### {number + 1}",
    }


def write(folder: Path, train=None, test=None) -> Path:
    whole = {"train": map(row, range(30)), "test": map(row, range(100, 105))}
    for name, rows in (whole | {k: v for k, v in {"train": train, "test": test}.items() if v is not None}).items():
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


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({"test": []}, {}, r"datasets\.g\.path: no problem for the test split in test$"),
        ({"train": []}, {}, r"datasets\.g\.path: no problem for the train split in train$"),
        ({"test": ["", "  "]}, {}, r"no problem for the test split in test$"),
        ({}, {"validation": 30}, r"datasets\.g\.validation: 30 takes all 30 training problems"),
        ({}, {"validation": 31}, r"datasets\.g\.validation: 31 asked for, only 30 there"),
        ({}, {"train": 29}, r"datasets\.g\.train: 29 asked for, only 28 there"),
        ({}, {"demonstrations": 29}, r"datasets\.g\.demonstrations: 29 asked for, only 28 training problems have"),
    ],
)
def test_a_split_without_problems_or_with_too_few_is_refused(tmp_path, files, changes, message):
    write(tmp_path, **files)
    with pytest.raises(UserError, match=message):
        DATASETS["gsm8k"](gsm8k(tmp_path, **changes), "g")


def test_rows_without_an_answer_leave_no_split_empty(tmp_path):
    for stem, problem in (("math/train", "a"), ("math/test", "b"), ("math500/test", "b")):
        (tmp_path / stem).parent.mkdir(exist_ok=True)
        answer = "" if stem.startswith("math500") else "1"
        (tmp_path / f"{stem}.jsonl").write_text(json.dumps({"problem": problem, "solution": "s", "answer": answer}))
    settings = Dataset(source="math", grader="math", path=str(tmp_path), validation=1)
    with pytest.raises(UserError, match=r"for the test split in math500/test \(rows without an answer: 1\)"):
        DATASETS["math"](settings, "m")


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


def test_dollars_that_name_no_variable_are_part_of_the_path(tmp_path):
    folder = tmp_path / "for 5 $ (the $(old) ones$)"
    folder.mkdir()
    write(folder)
    assert len(DATASETS["gsm8k"](gsm8k(str(folder)), "g").train) == 28


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


def math_row(number: int, **changes) -> dict[str, str]:
    answer = str(changes.pop("boxed", number + 1))
    return {"problem": f"Find ${number} + 1$.", "solution": rf"It is $\boxed{{{answer}}}$.", **changes}


def math_folder(folder: Path, train: list[dict], rest: list[dict], test: list[dict]) -> Path:
    for stem, rows in {"math/train": train, "math/test": rest, "math500/test": test}.items():
        (folder / stem).parent.mkdir(exist_ok=True)
        (folder / f"{stem}.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in rows))
    return folder


def math(path, **changes) -> Dataset:
    return Dataset(source="math", grader="math", path=str(path), **{"validation": 3, "demonstrations": 5, **changes})


def test_math_trains_on_everything_but_its_test_questions(tmp_path):
    test = [math_row(number) for number in (5, 25)]
    path = math_folder(tmp_path, [math_row(n) for n in range(20)], [math_row(n) for n in range(20, 60)], test)
    splits = DATASETS["math"](math(path), "m")
    assert [len(items) for items in splits.problems().values()] == [55, 3, 2]
    assert splits.notes["dropped_train_rows"] == 2
    held_out = {normalised(item.question) for item in splits.test + splits.validation}
    assert not held_out & {normalised(item.question) for item in splits.train}
    assert [item.answer for item in splits.test] == ["6", "26"]


def test_math_rows_without_an_answer_are_left_out_and_counted(tmp_path):
    train = [math_row(number) for number in range(60)] + [math_row(70, boxed=""), math_row(71, answer=" ")]
    splits = DATASETS["math"](math(math_folder(tmp_path, train, [], [math_row(7)])), "m")
    assert splits.notes["rows_without_answer"] == 2
    assert [len(items) for items in splits.problems().values()] == [56, 3, 1]


def test_test_questions_that_the_math_files_lack_are_refused(tmp_path):
    path = math_folder(tmp_path, [math_row(number) for number in range(60)], [], [math_row(7), math_row(99)])
    with pytest.raises(UserError, match="only 1 of 2 test questions are among the training rows"):
        DATASETS["math"](math(path), "m")


def test_math_solutions_without_a_box_are_named(tmp_path):
    bad = {"problem": "Find 1.", "solution": "It is 1."}
    path = math_folder(tmp_path, [math_row(number) for number in range(60)], [bad], [math_row(7)])
    with pytest.raises(UserError, match=r"math/test\.jsonl:1: .*has no box"):
        DATASETS["math"](math(path), "m")


def knights_row(number: int) -> dict[str, object]:
    return {
        "quiz": f"Zoey says {number} things. Who is who?",
        "solution_text_format": "(1) Zoey is a knight\n(2) Oliver is a knave",
        "cot_head": "Let's think step by step.",
        "cot_repeat_steps": ["Assume Zoey is a knight.", "Oliver cannot be one."],
        "cot_foot": "This leads to a feasible solution.",
    }


def test_published_knights(tmp_path):
    write(tmp_path, train=map(knights_row, range(30)), test=map(knights_row, range(50, 60)))
    settings = Dataset(source="knights_published", grader="knights", path=str(tmp_path), validation=4, demonstrations=1)
    splits = DATASETS["knights_published"](settings, "k")
    assert [len(items) for items in splits.problems().values()] == [26, 4, 10]
    assert splits.test[0].answer == "(1) Zoey is a knight\n(2) Oliver is a knave"
    assert splits.demonstrations[0]["response"] == (
        "Let's think step by step.\nAssume Zoey is a knight.\nOliver cannot be one.\nThis leads to a feasible solution."
        "\nCONCLUSION:\n(1) Zoey is a knight\n(2) Oliver is a knave"
    )


@pytest.mark.parametrize("steps", [None, "one step", [1]])
def test_knights_without_steps_are_named(tmp_path, steps):
    rows = [*map(knights_row, range(5)), {**knights_row(5), "cot_repeat_steps": steps}]
    write(tmp_path, train=rows, test=map(knights_row, range(50, 60)))
    settings = Dataset(source="knights_published", grader="knights", path=str(tmp_path), validation=1)
    with pytest.raises(UserError, match=r"train\.jsonl:6: field 'cot_repeat_steps'"):
        DATASETS["knights_published"](settings, "k")


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("math", "EleutherAI/hendrycks_math"),
        ("math500", "HuggingFaceH4/MATH-500"),
        ("aime24", "HuggingFaceH4/aime_2024"),
        ("knights_published", "K-and-K/knights-and-knaves"),
    ],
)
def test_each_hub_out_of_reach_is_one_line(monkeypatch, source, hub):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=rf"{hub} cannot be read.*`path:`.*HF_HUB_OFFLINE") as caught:
        DATASETS[source](Dataset(source=source, grader="math", revision="0" * 40), "x")
    assert "\n" not in str(caught.value)


def test_real_gsm8k_has_the_papers_splits(data_folder):
    splits = DATASETS["gsm8k"](gsm8k(data_folder / "gsm8k", validation=373, demonstrations=7100), "gsm8k")
    assert [len(items) for items in splits.problems().values()] == [7100, 373, 1319]
    assert (splits.notes["dropped_train_rows"], splits.notes["rows_without_answer"]) == (0, 0)
    assert sum("," in problem.answer for problem in splits.test) == 14
    assert not any("<<" in row["response"] for row in splits.demonstrations)
    assert all("#### " in row["response"] for row in splits.demonstrations)


def test_real_math_has_the_papers_splits_less_four_rows(data_folder):
    splits = DATASETS["math"](math(data_folder, validation=500, demonstrations=11_496), "math")
    # 12,500 rows = 12,000 of the PRM800K split + MATH-500. Of the former two have an empty box, and two differ from an
    # earlier question in white space alone: 12,000 - 2 - 2 - 500 for validation.
    assert [len(items) for items in splits.problems().values()] == [11_496, 500, 500]
    assert (splits.notes["dropped_train_rows"], splits.notes["rows_without_answer"]) == (502, 2)
    assert len(splits.demonstrations) == 11_496
    assert set(splits.notes["sha256"]) == {"math/train", "math/test", "math500/test"}
    test = {normalised(item.question) for item in splits.test}
    assert not test & {normalised(item.question) for item in splits.train + splits.validation}


def test_boxes_of_real_math_solutions_are_the_published_answers(data_folder):

    for line in gzip.decompress((data_folder / "math/train.jsonl.gz").read_bytes()).splitlines():
        row = json.loads(line)
        without = {key: value for key, value in row.items() if key != "answer"}
        assert SOURCES["math"].read(without)[1] == SOURCES["math"].read(row)[1], row["unique_id"]


@pytest.mark.parametrize(("source", "count"), [("math500", 500), ("aime24", 30)])
def test_real_evaluation_sets(source, count, data_folder):
    settings = Dataset(source=source, grader="final_line", path=str(data_folder / source))
    splits = DATASETS[source](settings, source)
    assert [len(items) for items in splits.problems().values()] == [0, 0, count]
    assert all(problem.answer for problem in splits.test)


@pytest.mark.parametrize("error", [ImportError("Using SOCKS proxy\n no socksio."), RuntimeError("x"), Exception("x")])
def test_prepare_gives_one_line_for_whatever_the_hubs_library_raises(monkeypatch, error):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(UserError, match=r"^openai/gsm8k cannot be read from the hub: .*`path:`") as caught:
        DATASETS["gsm8k"](Dataset(source="gsm8k", grader="gsm8k"), "g")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("offline", "seen"), [("1", False), ("0", True)])
def test_prepare_hides_proxies_that_an_offline_hub_does_not_need(monkeypatch, offline, seen):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    found = []

    def look(*_: object, **__: object) -> None:
        found.append("ALL_PROXY" in os.environ)
        raise OSError("offline")

    monkeypatch.setattr("datasets.load_dataset", look)
    with pytest.raises(UserError):
        DATASETS["gsm8k"](Dataset(source="gsm8k", grader="gsm8k"), "g")
    assert found == [seen] and os.environ["ALL_PROXY"] == "socks5://127.0.0.1:9"
