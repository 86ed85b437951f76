"""Files against a config before anything runs: folders, numbers of problems, lengths of prompts."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from spo import config
from spo.config import layers
from spo.errors import UserError
from tests import tiny
from tests.unit.config.test_study import SMALL

OF_OTHERS = {"models": {"tiny": {"path": "model"}}, "datasets": {"tales": {"source": "gsm8k", "path": "data"}}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of 64 positions, and with 40 problems to train on and 5 to test."""
    monkeypatch.chdir(tmp_path)
    tiny.model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    for split, count in (("train", 40), ("test", 5)):
        rows = [{"question": problem.question, "answer": f"#### {problem.answer}"} for problem in tiny.problems(count)]
        (tmp_path / f"data/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path


def said(here: Path, changes: dict) -> list[str]:
    """Lines of mistakes in a study on that model and these problems."""
    small = copy.deepcopy(layers.merge(SMALL, OF_OTHERS))
    small["models"] = {"tiny": {"path": "model"}}
    small["datasets"]["tales"] |= {"train": 20, "validation": 10, "test": 5, "demonstrations": 0}
    small["experiments"]["one"] |= {"contexts": [30], "train": {"context_tokens": 30, "validation_problems": 5}}
    (here / "study.yaml").write_text(yaml.safe_dump(layers.merge(small, changes), sort_keys=False), "utf-8")
    try:
        config.load([here / "study.yaml"])
    except UserError as error:
        return [line.partition(": ")[2] for line in str(error).splitlines()]
    return []


def test_load_accepts_files_that_fit(here: Path) -> None:
    assert said(here, {}) == []


def test_load_finds_a_model_folder_that_is_missing_or_unusable(here: Path) -> None:
    assert said(here, {"models": {"tiny": {"path": "./modell"}}}) == [
        "models.tiny.path: modell: there is no such folder"
    ]
    assert said(here, {"models": {"tiny": {"path": "nobody/on-a-hub"}}}) == []
    weights = here / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    (line,) = said(here, {})
    assert line.startswith("models.tiny.path: model/model.safetensors: ")


def test_load_finds_contexts_beyond_a_local_model(here: Path) -> None:
    contexts = {"experiments": {"one": {"contexts": [30, 65]}}}
    assert said(here, contexts) == ["experiments.one.contexts: 65, but max_position_embeddings of models.tiny is 64"]
    training = {"experiments": {"one": {"train": {"context_tokens": 65}}}}
    assert said(here, training) == [
        "experiments.one.train.context_tokens: 65, but max_position_embeddings of models.tiny is 64"
    ]


def test_load_finds_contexts_below_the_shortest_prompt(here: Path) -> None:
    """`Digits: 1 2 3.` and a line break are 7 tokens (word, mark, three digits, mark, break)."""
    training = {"experiments": {"one": {"train": {"context_tokens": 7}}}}
    assert said(here, training) == [
        "experiments.one.train.context_tokens: 7, but the shortest prompt of tales has 7 tokens"
    ]
    assert said(here, {"experiments": {"one": {"train": {"context_tokens": 8}}}}) == []
    assert said(here, {"experiments": {"one": {"contexts": [5]}}}) == [
        "experiments.one.contexts: 5, but the shortest prompt of tales has 7 tokens"
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"validation": 30}, "train: 30 for validation and 20 for training, but data has 40 problems"),
        ({"validation": 41}, "validation: 41 for validation and 20 for training, but data has 40 problems"),
        ({"test": 6}, "test: 6, but data has 5 problems"),
        ({"path": "dada"}, "path: neither dada/train.jsonl nor train.jsonl.gz is there"),
    ],
)
def test_load_finds_too_few_problems(here: Path, changes: dict, expected: str) -> None:
    assert said(here, {"datasets": {"tales": changes}}) == [f"datasets.tales.{expected}"]


def test_load_finds_an_empty_file_of_problems(here: Path) -> None:
    (here / "data/test.jsonl").write_text("\n")
    (line,) = said(here, {"datasets": {"tales": {"test": None}}})
    assert line == "datasets.tales.path: data/test.jsonl: there is no problem in it"


def test_load_names_what_files_say_beside_other_mistakes(here: Path) -> None:
    changes = {
        "models": {"other": {"path": "./modell"}},
        "training": {"iterations": "twenty"},
        "methods": {"chain": {"train": {"credit": {"rollout_per_cut": 2}}}},
        "experiments": {"one": {"methods": ["grpo", "chain", "chan"], "train": {"context_tokens": 7}}},
        "datasets": {"tales": {"test": 6}},
    }
    assert sorted(said(here, changes)) == [
        "datasets.tales.test: 6, but data has 5 problems",
        "experiments.one.methods.2: unknown method chan (did you mean chain?)",
        "experiments.one.train.context_tokens: 7, but the shortest prompt of tales has 7 tokens",
        "methods.chain.train.credit.rollout_per_cut: unknown key (did you mean rollouts_per_cut?)",
        "models.other.path: modell: there is no such folder",
        "training.iterations: should be a whole number, not 'twenty'",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": {"chain": {"base": "nobody"}}},
        {"methods": {"chain": {"base": "chain.int2"}}},
        {"experiments": {"one": {"model": "nobody"}}},
        {"experiments": {"one": {"dataset": "nobody"}}},
        {"experiments": {"one": {"contexts": "many"}}},
        {"experiments": {"one": {"evaluate_on": ["nobody"]}}},
        {"datasets": {"tales": {"source": "nobody"}}},
        {"datasets": {"tales": {"path": 3}}},
        {"models": {"tiny": {"path": 3}}},
    ],
)
def test_check_files_copes_with_what_other_mistakes_leave(here: Path, changes: dict) -> None:
    changes = layers.merge(changes, {"models": {"other": {"path": "./modell"}}})
    lines = said(here, changes)
    assert len(lines) >= 2 and "models.other.path: modell: there is no such folder" in lines


def test_check_files_leaves_rows_without_question_to_prepare(here: Path) -> None:
    (here / "data/test.jsonl").write_text("[1]\n" * 5)
    assert said(here, {"experiments": {"one": {"contexts": [9]}}}) == []


def test_load_finds_contexts_below_the_shortest_prompt_that_will_be_drawn(here: Path) -> None:
    tales = {"source": "stories", "path": None, "train": 20, "validation": 10, "test": 5, "demonstrations": 9}
    drawn = {
        "datasets": {"tales": tales},
        "models": {"tiny": {"path": None, "sft": {"dataset": "tales"}}},
        "experiments": {"one": {"contexts": [200], "train": {"context_tokens": 20}}},
    }
    (line,) = said(here, drawn)
    assert line.startswith("experiments.one.train.context_tokens: 20, but the shortest prompt of tales has ")
    shortest = int(line.split()[-2])
    enough = {"experiments": {"one": {"train": {"context_tokens": shortest + 1}}}}
    assert said(here, layers.merge(drawn, enough)) == []
    none_left = {"experiments": {"one": {"train": {"context_tokens": shortest}}}}
    assert len(said(here, layers.merge(drawn, none_left))) == 1
