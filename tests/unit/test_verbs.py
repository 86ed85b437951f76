"""What the verbs hand to the rooms, on a real tiny model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spo import store
from spo.__main__ import main
from spo.config import slice_json
from spo.errors import UserError
from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.policy.transformer import product_dtype
from spo.settings import Dataset, Memory, Protocol
from spo.types import Sampling
from tests import tiny

DATASET = Dataset(source="stories", grader="final_line")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    tiny.model(folder / "model")
    store.write_jsonl(folder / "data/test.jsonl", tiny.problems(6))
    return folder


@pytest.fixture
def opened(monkeypatch):
    """Policies that backend hf has opened."""
    real, policies = BACKENDS["hf"], []

    def watched(*arguments, **named):
        policies.append(real(*arguments, **named))
        return policies[-1]

    monkeypatch.setitem(BACKENDS, "hf", watched)
    return policies


def command(study, name: str, protocol: Protocol) -> list[str]:
    places = {"model": "model", "data": "data", "state": "state", "output": name}
    words = ["generate", "--settings", slice_json(protocol), "--dataset", slice_json(DATASET), "--contexts", "20"]
    return words + [word for key, place in places.items() for word in (f"--{key}", str(study / place))]


def predict(study, name: str, protocol: Protocol) -> list[dict]:
    assert main(command(study, name, protocol)) == 0
    return store.read_jsonl(study / name)


def test_predictions_are_computed_in_the_precision_of_their_protocol(study, opened):
    greedy = Sampling(temperature=0.0)
    plain = predict(study, "plain.jsonl", Protocol(sampling=greedy, backend="hf"))
    low = predict(study, "low.jsonl", Protocol(sampling=greedy, backend="hf", dtype="bfloat16"))
    dtypes = [{weight.dtype for weight in policy.weights().values()} for policy in opened]
    assert dtypes == [{torch.float32}, {product_dtype("bfloat16", torch.device("cpu"))}]
    assert len(low) == len(plain) == 6
    # Backend engine has one precision, and the default of hf is that one.
    assert predict(study, "engine.jsonl", Protocol(sampling=greedy)) == plain
    assert predict(study, "same.jsonl", Protocol(sampling=greedy, dtype="bfloat16")) == plain


def test_weights_of_a_protocol_are_no_finer_than_its_precision(study, capsys):
    protocol = Protocol(backend="hf", memory=Memory(weights="bfloat16"))
    assert main(command(study, "none.jsonl", protocol)) == 2
    assert "memory.weights: bfloat16 needs `dtype: bfloat16`; it is float32" in capsys.readouterr().err


def test_the_log_begins_with_the_first_prompt(study, capsys):
    predict(study, "logged.jsonl", Protocol())
    line = capsys.readouterr().out.splitlines()[0]
    text = f"{tiny.problems(1)[0].question}\n"
    ids = list(tokenizers.load(study / "model").encode(text))
    assert json.loads(line.removeprefix("first prompt: ")) == {"prompt": text, "ids": ids}


def test_score_writes_intervals_by_problem(tmp_path):
    rows = [
        {"problem_id": f"p{p}", "sample": s, "context": 64, "correct": p < 10, "finished": True, "response_tokens": 1}
        for p in range(20)
        for s in range(16)
    ]
    graded, output = tmp_path / "graded.jsonl", tmp_path / "score.json"
    graded.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["score", "--run", "r", "--dataset", "d", "--protocol", "p", "--grader", "gsm8k_official"]
    assert main([*words, "--graded", str(graded), "--output", str(output)]) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert (found["problems"], found["samples_per_problem"], found["contexts"]["64"]["n"]) == (20, 16, 20)
    assert found["contexts"]["64"]["high"] - found["contexts"]["64"]["low"] == pytest.approx(0.4014, abs=1e-4)


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_train_tries_to_save_before_it_trains(study, tmp_path, monkeypatch, capsys, backend):
    """What a library refuses to write is one line, before any state is made."""

    def refuse(*_: object, **__: object) -> None:
        raise UserError("model: cannot be saved. Use another one.")

    monkeypatch.setattr("spo.policy.saving.save_rest", refuse)
    for split in ("train", "validation"):
        store.write_jsonl(study / f"data/{split}.jsonl", tiny.problems(6))
    settings = replace(tiny.BASE, backend=backend, iterations=1, memory=Memory(device="cpu"))
    places = {"model": study / "model", "data": study / "data", "state": tmp_path / "state", "output": tmp_path / "out"}
    words = ["train", "--name", "x", "--settings", slice_json(settings), "--dataset", slice_json(DATASET)]
    code = main(words + [word for key, place in places.items() for word in (f"--{key}", str(place))])
    assert (code, capsys.readouterr().err) == (2, "spo: model: cannot be saved. Use another one.\n")
    assert list(tmp_path.iterdir()) == []
