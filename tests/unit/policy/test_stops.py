"""Responses that end at a text: exact to the token, the same for every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.policy.stops import Stopping, cut, stopping
from spo.types import Request, Sample, Sampling
from tests import tiny

#: What the tokens of a made-up tokenizer say.
PIECES = ("", "\n", "\n\n", "Prob", "lem:", "lem: 3", "x", "Problem:")
STOP = "\n\nProblem:"


def decode(ids) -> str:
    return "".join(PIECES[i] for i in ids)


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ((6, 2, 3, 4, 6, 6), 4),  # x \n\n Prob lem: | x x
        ((6, 1, 1, 7), 4),  # complete with the last token, which ends it
        ((1, 2, 3, 5, 6), 4),  # the token that completes it says more, and stays
        ((2, 3, 6, 4), None),
        ((1, 7, 7), None),
        ((2, 7, 2, 7), 2),  # the first one counts
        ((), None),
    ],
)
def test_a_response_keeps_the_tokens_up_to_where_the_text_is_complete(ids: tuple[int, ...], kept: int | None) -> None:
    sample = Sample(ids, tuple(-float(i) for i in range(len(ids))), False)
    expected = sample if kept is None else Sample(ids[:kept], sample.sampler_logprobs[:kept], True)
    assert cut(sample, decode, [STOP]) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_samples_of_a_policy_are_those_without_stop_cut_short(folder, backend: str) -> None:
    tokenizer = tokenizers.load(folder)
    policy = BACKENDS[backend](folder, tokenizer.eos_id)
    requests = [Request(tokenizer.encode(p.question + "\n"), (1, 2, 3, 4), 30) for p in tiny.problems(6)]
    plain = policy.sample(requests, Sampling())
    stopped = stopping(policy, tokenizer.decode, ("7", "3 1"))
    found = stopped.sample(requests, Sampling())
    shorter = 0
    for whole, short in zip(sum(plain, []), sum(found, []), strict=True):
        n = len(short.response_ids)
        assert short.response_ids == whole.response_ids[:n] and short.sampler_logprobs == whole.sampler_logprobs[:n]
        text, before = tokenizer.decode(short.response_ids), tokenizer.decode(short.response_ids[:-1])
        if n < len(whole.response_ids):
            shorter += 1
            assert short.finished and ("7" in text or "3 1" in text)
        assert "7" not in before and "3 1" not in before
    assert shorter > 3
    assert stopped.weights() is policy.weights()


def test_without_texts_a_policy_is_itself(folder) -> None:
    policy = BACKENDS["engine"](folder, 1)
    assert stopping(policy, decode, ()) is policy
    assert isinstance(stopping(policy, decode, ("x",)), Stopping)


def test_training_goes_on_with_responses_that_stop(folder, tmp_path, monkeypatch) -> None:
    tokenizer = tokenizers.load(folder)
    opened = BACKENDS["engine"]
    ends = []

    def open_stopping(*arguments, **named):
        policy = opened(*arguments, **named)
        return stopping(policy, tokenizer.decode, ("7",))

    def reward(problem, ids, finished) -> float:
        ends.append((tokenizer.decode(ids), finished))
        return float(finished)

    monkeypatch.setitem(BACKENDS, "engine", open_stopping)
    tiny.train(replace(tiny.METHODS["chain"], iterations=1), folder, tmp_path / "state", reward)
    stopped = [(text, finished) for text, finished in ends if "7" in text]
    assert stopped and all(finished and text.count("7") == 1 for text, finished in stopped)
