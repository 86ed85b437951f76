"""Predictions, verdicts and scores on a real, tiny model."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from spo.analysis.stats import wilson
from spo.errors import RunFailure, UserError
from spo.evaluation import generate, grade, score
from spo.grading import GRADERS
from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.policy.stops import stopping
from spo.settings import Protocol
from spo.store import read_jsonl
from spo.types import Sampling
from tests import tiny

NUCLEUS = Protocol(sampling=Sampling(temperature=0.6, top_p=0.9), samples_per_problem=2, batch_rows=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


def predict(folder, state, output, protocol=NUCLEUS, context_tokens=30, problems=None, policy=None):
    generate.run(
        policy=policy or BACKENDS["engine"](folder, tokenizers.load(folder).end_ids),
        problems=problems or tiny.problems(),
        encode=tiny.encoder(folder),
        protocol=protocol,
        context_tokens=context_tokens,
        fingerprint={"context": context_tokens},
        state=state,
        output=output,
    )
    return read_jsonl(output)


def test_one_row_a_sample_in_the_order_of_the_problems(folder, tmp_path):
    rows = predict(folder, tmp_path / "state", tmp_path / "out.jsonl")
    assert [(row["problem_id"], row["sample"]) for row in rows] == [(f"t{i}", s) for i in range(40) for s in (0, 1)]
    assert all(row["prompt_tokens"] + len(row["response_ids"]) <= 30 for row in rows)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


@pytest.mark.parametrize("context", [9, 12, 20])
def test_a_shorter_context_sees_exactly_a_prefix(folder, tmp_path, context):
    """What lets all contexts share one generation: cutting equals generating at the shorter context."""
    long = predict(folder, tmp_path / "a", tmp_path / "long.jsonl")
    short = predict(folder, tmp_path / "b", tmp_path / "short.jsonl", context_tokens=context)
    assert [grade.cut(row, context) for row in long] == [(row["response_ids"], row["finished"]) for row in short]


def test_a_response_that_the_token_limit_ends_is_truncated_at_every_context(folder, tmp_path):
    capped = replace(NUCLEUS, max_response_tokens=8)
    rows = predict(folder, tmp_path / "state", tmp_path / "out.jsonl", protocol=capped)
    ended = [row for row in rows if not row["finished"]]
    assert ended and all(len(row["response_ids"]) == 8 for row in ended)
    assert all(row["prompt_tokens"] + 8 < 30 for row in ended)  # the context had room for more
    for context in (12, 16, 20, 30, 1000):
        assert not any(grade.cut(row, context)[1] for row in ended)
    # Others are as without the limit, and each context sees what it would have sampled.
    free = predict(folder, tmp_path / "free", tmp_path / "free.jsonl")
    assert [row["response_ids"] for row in rows] == [row["response_ids"][:8] for row in free]
    assert [row["finished"] for row in rows] == [row["finished"] and len(row["response_ids"]) <= 8 for row in free]
    short = predict(folder, tmp_path / "b", tmp_path / "short.jsonl", protocol=capped, context_tokens=12)
    assert [grade.cut(row, 12) for row in rows] == [(row["response_ids"], row["finished"]) for row in short]


def stopped(folder, stop: str):
    tokenizer = tokenizers.load(folder)
    return stopping(BACKENDS["engine"](folder, tokenizer.end_ids), tokenizer.decode, [stop])


@pytest.mark.parametrize("context", [9, 10, 11, 12, 14, 20])
def test_a_shorter_context_sees_the_beginning_of_a_stop_text(folder, tmp_path, context):
    """A stop text is no part of a response, and a context that ends within it truncates the response there."""
    stop, decode = "\n\n\n", tokenizers.load(folder).decode  # three tokens
    long = predict(folder, tmp_path / "a", tmp_path / "long.jsonl", policy=stopped(folder, stop))
    short = predict(
        folder, tmp_path / "b", tmp_path / "short.jsonl", context_tokens=context, policy=stopped(folder, stop)
    )
    assert sum(len(row.get("stop_ids", ())) == 3 for row in long) > 10
    assert not any(stop in decode(row["response_ids"]) for row in long)
    assert [grade.cut(row, context) for row in long] == [(row["response_ids"], row["finished"]) for row in short]


def test_a_prompt_that_fills_the_context_is_counted_and_wrong(folder, tmp_path):
    rows = predict(folder, tmp_path / "state", tmp_path / "out.jsonl", context_tokens=5)
    assert all(row["response_ids"] == [] and row["finished"] is False for row in rows)


def test_a_killed_generation_goes_on_at_the_next_part(folder, tmp_path):
    calm = predict(folder, tmp_path / "a", tmp_path / "calm.jsonl")

    class Dying:
        calls = 0

        def sample(self, *arguments):
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return policy.sample(*arguments)

    policy = BACKENDS["engine"](folder, tokenizers.load(folder).end_ids)
    with pytest.raises(KeyboardInterrupt):
        predict(folder, tmp_path / "b", tmp_path / "out.jsonl", policy=Dying())
    assert not (tmp_path / "out.jsonl").exists()
    resumed = Dying()
    resumed.calls = 100
    assert predict(folder, tmp_path / "b", tmp_path / "out.jsonl", policy=resumed) == calm
    assert resumed.calls == 100 + 10 - 3
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "calm.jsonl").read_bytes()


@pytest.mark.parametrize(("number", "by"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_run_finishes_a_part_after_a_signal(folder, tmp_path, number, by):
    policy, sampled = BACKENDS["engine"](folder, tokenizers.load(folder).eos_id), []

    class Told:
        def sample(self, requests, *more):
            sampled.append(len(requests))
            if len(sampled) == 2:
                os.kill(os.getpid(), number)
            return policy.sample(requests, *more)

    calm = predict(folder, tmp_path / "calm", tmp_path / "calm.jsonl", policy=policy)
    where = tmp_path / "state", tmp_path / "out.jsonl"
    with pytest.raises(RunFailure, match=f"out.jsonl: stopped by {by} after 8 of 40 problems; the same command"):
        predict(folder, *where, policy=Told())
    assert not where[1].exists()
    assert predict(folder, *where, policy=Told()) == calm
    assert sampled == [4] * 10  # each part once


def test_verdicts_at_each_context():
    predictions = [
        {"problem_id": "a", "sample": 0, "prompt_tokens": 4, "response_ids": [1, 2, 3], "finished": True},
        {"problem_id": "b", "sample": 0, "prompt_tokens": 6, "response_ids": [1, 2], "finished": False},
    ]
    words = {1: "hm", 2: "#### 5", 3: "</s>"}
    rows = grade.run(
        predictions,
        {"a": "5", "b": "6"},
        lambda ids: " ".join(words[i] for i in ids if i != 3),
        GRADERS["final_line"].grade,
        [5, 8],
    )
    kept = [
        (row["context"], row["problem_id"], row["correct"], row["finished"], row["response_tokens"]) for row in rows
    ]
    assert kept == [
        (5, "a", False, False, 1),
        (5, "b", False, False, 0),
        (8, "a", True, True, 3),
        (8, "b", False, False, 2),
    ]
    assert [row.get("response") for row in rows] == [None, None, "hm #### 5", "hm #### 5"]
    table = score.contexts(rows, wilson)
    assert table["5"]["accuracy"] == 0 and table["5"]["truncated"] == 1
    assert (table["8"]["correct"], table["8"]["n"], table["8"]["truncated"]) == (1, 2, 0.5)
    assert table["8"]["low"] < 0.5 < table["8"]["high"] and table["8"]["response_tokens_mean"] == 2.5


def test_contexts_counts_the_samples_of_a_problem_as_one_draw():
    """20 problems with 16 equal samples each, half of them right: Wilson at 10 of 20, not at 160 of 320."""
    row = {"context": 64, "finished": True, "response_tokens": 3}
    rows = [row | {"problem_id": p, "sample": s, "correct": p % 2 == 0} for p in range(20) for s in range(16)]
    found = score.contexts(rows, wilson)["64"]
    assert (found["accuracy"], found["n"], found["samples"], found["correct"]) == (0.5, 20, 320, 160)
    # Centre 0.5, half width z / 2 / sqrt(n + z^2) = 1.95996 / 2 / sqrt(20 + 3.84146).
    assert (found["low"], found["high"]) == pytest.approx((0.5 - 0.200702, 0.5 + 0.200702), abs=1e-6)


def test_contexts_weighs_problems_alike():
    row = {"context": 64, "finished": True, "response_tokens": 3}
    rows = [row | {"problem_id": "a", "correct": True}, *(row | {"problem_id": "b", "correct": False} for _ in "123")]
    assert score.contexts(rows, wilson)["64"]["accuracy"] == 0.5


def test_an_unknown_problem_is_named():
    prediction = {"problem_id": "zzz", "sample": 0, "prompt_tokens": 1, "response_ids": [], "finished": True}
    with pytest.raises(UserError, match="'zzz' is not in the problem file"):
        grade.run([prediction], {}, str, GRADERS["final_line"].grade, [8])
