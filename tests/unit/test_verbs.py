"""Commands on a real tiny model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spo import store
from spo.__main__ import main
from spo.errors import UserError
from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.policy.transformer import product_dtype
from spo.settings import Memory, Protocol, changed
from spo.types import Sampling
from tests import tiny


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The working folder of a study, with its model."""
    monkeypatch.chdir(tmp_path)
    tiny.model(tmp_path / "model")
    return tmp_path


@pytest.fixture
def opened(monkeypatch):
    """Policies that backend hf has opened."""
    real, policies = BACKENDS["hf"], []

    def watched(*arguments, **named):
        policies.append(real(*arguments, **named))
        return policies[-1]

    monkeypatch.setitem(BACKENDS, "hf", watched)
    return policies


def command(study, protocol: Protocol) -> list[str]:
    file = tiny.study(study, protocols={"greedy": changed(protocol)})
    return ["generate", "tiny/digits/greedy", "--config", str(file)]


def predict(study, protocol: Protocol) -> list[dict]:
    assert main(command(study, protocol)) == 0
    return store.read_jsonl(study / "results/evals/tiny/digits/greedy/predictions.jsonl")


def test_predictions_are_computed_in_the_precision_of_their_protocol(study, opened):
    greedy = Sampling(temperature=0.0)
    plain = predict(study, Protocol(sampling=greedy, backend="hf"))
    low = predict(study, Protocol(sampling=greedy, backend="hf", dtype="bfloat16"))
    dtypes = [{weight.dtype for weight in policy.weights().values()} for policy in opened]
    assert dtypes == [{torch.float32}, {product_dtype("bfloat16", torch.device("cpu"))}]
    assert len(low) == len(plain) == 6
    # Backend engine has one precision, and the default of hf is that one.
    assert predict(study, Protocol(sampling=greedy)) == plain
    assert predict(study, Protocol(sampling=greedy, dtype="bfloat16")) == plain


def test_weights_of_a_protocol_are_no_finer_than_its_precision(study, capsys):
    protocol = Protocol(backend="hf", memory=Memory(weights="bfloat16"))
    assert main(command(study, protocol)) == 2
    assert "memory.weights: bfloat16 needs `dtype: bfloat16`; it is float32" in capsys.readouterr().err


def test_the_log_begins_with_the_first_prompt(study, capsys):
    predict(study, Protocol())
    line = capsys.readouterr().out.splitlines()[0]
    text = f"{tiny.problems(1)[0].question}\n"
    ids = list(tokenizers.load(study / "model").encode(text))
    assert json.loads(line.removeprefix("first prompt: ")) == {"prompt": text, "ids": ids}


def test_score_writes_intervals_by_problem(tmp_path, monkeypatch):
    rows = [
        {"problem_id": f"p{p}", "sample": s, "context": 64, "correct": p < 10, "finished": True, "response_tokens": 1}
        for p in range(20)
        for s in range(16)
    ]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/evals/tiny/digits/greedy"
    store.write_jsonl(folder / "graded.jsonl", rows)
    assert main(["score", "tiny/digits/greedy", "--config", str(tiny.study(tmp_path))]) == 0
    found = store.read_json(folder / "score.json")
    assert (found["problems"], found["samples_per_problem"], found["contexts"]["64"]["n"]) == (20, 16, 20)
    assert found["contexts"]["64"]["high"] - found["contexts"]["64"]["low"] == pytest.approx(0.4014, abs=1e-4)


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_train_tries_to_save_before_it_trains(study, monkeypatch, capsys, backend):
    """A file that a library refuses to write is one line, before any state is made."""

    def refuse(*_: object, **__: object) -> None:
        raise UserError("model: cannot be saved. Use another one.")

    monkeypatch.setattr("spo.policy.saving.save_rest", refuse)
    settings = replace(tiny.BASE, backend=backend, iterations=1, memory=Memory(device="cpu"))
    code = main(["train", tiny.RUN, "--config", str(tiny.study(study, settings))])
    assert (code, capsys.readouterr().err) == (2, "spo: model: cannot be saved. Use another one.\n")
    assert not list((study / "results/state").rglob("*/*"))
