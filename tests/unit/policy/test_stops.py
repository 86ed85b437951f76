"""Responses that end at a text: exact to the token, the same for every backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spo import grading
from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.policy.stops import Stopping, cut, stopping
from spo.types import Request, Sample, Sampling
from tests import tiny

#: What the tokens of a made-up tokenizer say.
PIECES = ("", "\n", "\n\n", "Prob", "lem:", "lem: 3", "x", "Problem:", ".\n")
STOP = "\n\nProblem:"


def decode(ids) -> str:
    return "".join(PIECES[i] for i in ids)


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ((6, 2, 3, 4, 6, 6), 1),  # x | \n\n Prob lem: x x
        ((6, 1, 1, 7), 1),  # complete with the last token
        ((1, 2, 3, 5, 6), 1),  # \n | \n\n Prob "lem: 3": the token that completes it says more
        ((6, 8, 1, 7), 1),  # x | ".\n" \n Problem: the token that begins it says more, and is dropped whole
        ((6, 0, 2, 0, 7), 2),  # tokens without text stay where they precede it
        ((2, 3, 6, 4), None),
        ((1, 7, 7), None),
        ((6, 2, 7, 2, 7), 1),  # the first one counts
        ((2, 7), 0),  # nothing is left
        ((), None),
    ],
)
def test_cut_keeps_the_tokens_before_the_stop_text(ids: tuple[int, ...], kept: int | None) -> None:
    sample = Sample(ids, tuple(-float(i) for i in range(len(ids))), False)
    expected = sample if kept is None else Sample(ids[:kept], sample.sampler_logprobs[:kept], True)
    assert cut(sample, decode, [STOP]) == expected


def test_cut_takes_the_text_that_is_complete_first() -> None:
    sample = Sample((6, 2, 6, 3, 4), (0.0,) * 5, False)  # x \n\n x Prob lem:
    assert cut(sample, decode, ["Problem:", "\nx"]).response_ids == (6,)
    assert cut(sample, decode, ["lem:", "xProblem"]).response_ids == (6, 2)


def test_cut_leaves_characters_of_several_tokens_whole() -> None:
    pieces = (b"a", b"\xc3", b"\xa9", b"STOP")

    def decode_bytes(ids) -> str:
        return b"".join(pieces[i] for i in ids).decode(errors="replace")

    assert cut(Sample((0, 1, 2, 3, 0), (0.0,) * 5, False), decode_bytes, ["STOP"]).response_ids == (0, 1, 2)
    assert cut(Sample((0, 1, 2, 3, 0), (0.0,) * 5, False), decode_bytes, ["éSTOP"]).response_ids == (0,)


@pytest.mark.parametrize("grader", ["gsm8k_official", "math_official"])
def test_stop_text_is_not_graded(grader: str) -> None:
    """Official sampling keeps the stop text apart, so that the answer before it counts."""
    letters = lambda ids: "".join(map(chr, ids))  # noqa: E731
    text, stop = "6 * 7 = 42\n#### 42", "\n\n\nProblem:"
    ids = tuple((text + stop + "\nWhat is 2 + 2?\n\nSolution:\n#### 4").encode())
    kept = cut(Sample(ids, (0.0,) * len(ids), False), letters, [stop])
    assert letters(kept.response_ids) == text and kept.finished
    assert grading.GRADERS[grader].grade("42", letters(kept.response_ids)).correct


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_samples_of_a_policy_are_those_without_stop_cut_short(folder, backend: str) -> None:
    tokenizer = tokenizers.load(folder)
    policy = BACKENDS[backend](folder, tokenizer.end_ids)
    requests = [Request(tokenizer.encode(p.question + "\n"), (1, 2, 3, 4), 30) for p in tiny.problems(6)]
    plain = policy.sample(requests, Sampling())
    stopped = stopping(policy, tokenizer.decode, ("7", "3 1"))
    found = stopped.sample(requests, Sampling())
    shorter = 0
    for whole, short in zip(sum(plain, []), sum(found, []), strict=True):
        n = len(short.response_ids)
        assert short.response_ids == whole.response_ids[:n] and short.sampler_logprobs == whole.sampler_logprobs[:n]
        text = tokenizer.decode(short.response_ids)
        assert "7" not in text and "3 1" not in text
        if n < len(whole.response_ids):
            shorter += 1
            assert short.finished
            assert any(end in tokenizer.decode(whole.response_ids[: n + 3]) for end in ("7", "3 1"))
    assert shorter > 3
    assert stopped.weights() is policy.weights()


def test_without_texts_a_policy_is_itself(folder) -> None:
    policy = BACKENDS["engine"](folder, 1)
    assert stopping(policy, decode, ()) is policy
    assert isinstance(stopping(policy, decode, ("x",)), Stopping)


@pytest.mark.parametrize("method", ["group", "chain", "tree", "critic", "accepted", "pairs", "policy_iteration"])
def test_every_method_trains_on_responses_without_their_stop_text(method, folder, tmp_path, monkeypatch) -> None:
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
    tiny.train(replace(tiny.METHODS[method], iterations=1), folder, tmp_path / "state", reward)
    assert ends and not any("7" in text for text, _ in ends)
    assert any(finished and not text for text, finished in ends)  # an empty response is one too
