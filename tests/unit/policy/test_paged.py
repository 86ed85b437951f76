"""What only the compiled sampler promises: the same bits whatever is in the batch, and nothing computed twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spo import seeds
from spo.errors import UserError
from spo.policy import BACKENDS, known, paged
from spo.policy.paged import Decoding
from spo.policy.passes import Passes
from spo.types import Request, Sampling
from tests import tiny

SAMPLING = Sampling(temperature=0.8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, needs_compiler):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def opened(folder, monkeypatch):
    """Each call gives an engine that has sampled nothing yet."""
    monkeypatch.setenv("SPO_SAMPLER", "compiled")
    return lambda: BACKENDS["engine"](folder, 1)


@pytest.fixture
def computed(monkeypatch):
    """Numbers of prompts' tokens that passes computed, the last of each prompt left out."""
    counts, fill = [], Passes.fill
    monkeypatch.setattr(Passes, "fill", lambda self, ids, *rest: (counts.append(len(ids)), fill(self, ids, *rest)))
    return counts


def test_a_policy_says_how_it_samples(opened, monkeypatch):
    """A run is bound to it: one that was begun with a compiler does not go on without."""
    assert opened().sampler == "compiled"
    monkeypatch.setenv("SPO_SAMPLER", "plain")
    assert opened().sampler is None


def tokens(count, seed):
    return tuple(np.random.default_rng(seed).integers(2, 15, count).tolist())


def ask(prompt, samples, limit):
    return Request(prompt, tuple(seeds.key(*prompt, limit, i) for i in range(samples)), limit)


HOST, OTHER = tokens(20, 1), tokens(9, 2)
MIXED = [ask(HOST[:n], 1 + n % 3, 4 + 5 * n % 23) for n in range(1, 21, 2)] + [ask(OTHER[:n], 2, 6) for n in (3, 9)]


@pytest.mark.parametrize("nucleus", [1.0, 0.9])
def test_the_same_bits_in_any_batch(opened, nucleus):
    """So a resumed run, which has to compute again what the other had kept, repeats it exactly."""
    sampling = Sampling(0.8, nucleus)
    expected = opened().sample(MIXED, sampling)
    for rows in (1, 5, 1000):
        assert opened().sample(MIXED[::-1], sampling, rows)[::-1] == expected
    again = opened()
    for request, samples in zip(MIXED, expected, strict=True):
        assert again.sample([request], sampling) == [samples]


def test_what_was_sampled_is_not_computed_again(opened, computed):
    """Rollouts from boundaries of responses need no pass over them, and a prompt that leaves one only its own part."""
    engine = opened()
    first = [ask(HOST, 3, 20), ask(OTHER, 1, 20)]
    sampled = engine.sample(first, SAMPLING)
    assert sum(computed) == len(HOST) - 1 + len(OTHER) - 1
    computed.clear()
    whole = [r.prompt_ids + s.response_ids for r, samples in zip(first, sampled, strict=True) for s in samples]
    later = [ask(ids[:cut], 2, 9) for ids in whole for cut in (4, 11, len(ids) - 1, len(ids))]
    assert engine.sample(later, SAMPLING) == opened().sample(later, SAMPLING)
    assert sum(computed[: len(computed) // 2]) == 0
    computed.clear()
    engine.sample([ask(HOST[:16] + (7, 8, 9), 2, 5)], SAMPLING)
    assert sum(computed) == 2


@pytest.mark.parametrize("token", [-1, 400])
def test_a_token_that_the_model_lacks_is_one_line(opened, token):
    with pytest.raises(UserError, match="prompt: a token outside the model's vocabulary of"):
        opened().sample([ask((3, token, 4), 1, 5)], SAMPLING)


def test_changed_weights_know_nothing(opened, computed):
    engine = opened()
    engine.sample(MIXED, SAMPLING)
    once = sum(computed)
    engine.sample(MIXED, SAMPLING)
    assert sum(computed) == once
    with torch.no_grad():
        # As a checkpoint is restored; version counters of tensors do not tell.
        engine.weights()["model.embed_tokens.weight"].data[3, 4] += 1.0
    engine.sample(MIXED, SAMPLING)
    assert sum(computed) == 2 * once


def test_prompts_that_begin_alike_are_computed_once(opened, computed):
    """Trees: nodes have their parent's tokens in common, in one call and over calls."""
    engine = opened()
    engine.sample([ask(HOST + tokens(6, seed), 2, 3) for seed in (5, 6, 7)], SAMPLING, 1)
    assert sum(computed) == len(HOST) + 3 * 5


def test_little_memory_changes_no_sample(opened, monkeypatch):
    expected = opened().sample(MIXED, SAMPLING)
    monkeypatch.setattr(known, "KEPT_BYTES", 1)
    engine = opened()
    for rows in (1, 3, 1000):
        assert engine.sample(MIXED, SAMPLING, rows) == expected
        assert engine._kept is None


def test_no_page_is_lost(opened):
    """What is held in the end are pages of what is known, each of which is free without that."""
    engine = opened()
    for seed in range(3):
        engine.sample([*MIXED, ask(tokens(9, seed), 2, 30)], SAMPLING, 5)
    found = engine._kept[1]
    found._catch_up()
    pool, lists = found.passes.pool, list(found._lists.values())
    assert pool.held == len({page for ids, _ in lists for page in ids})
    for ids, _ in lists:
        pool.release(np.array(ids))
    assert pool.held == 0


def test_rows_that_end_give_way_to_waiting_ones(opened, monkeypatch):
    """Four rows at a time until the last end; four batches that wait for their longest would take half as many more."""
    sizes, step = [], Decoding.step
    monkeypatch.setattr(Decoding, "step", lambda self: (sizes.append(len(self.live.row)), step(self)))
    limits = np.random.default_rng(0).integers(3, 25, 60).tolist()
    engine = opened()
    engine.end_ids = ()
    engine.sample([ask(tokens(5, seed), 1, limit) for seed, limit in enumerate(limits)], SAMPLING, 4)
    # The first token of a row needs no step.
    assert sum(sizes) == sum(limits) - len(limits)
    assert max(sizes) == 4 and len(sizes) <= sum(sizes) / 4 + 24


def test_more_rows_at_once_only_while_weights_take_longer_to_read(opened, monkeypatch):
    sizes, step = [], Decoding.step
    monkeypatch.setattr(Decoding, "step", lambda self: (sizes.append(len(self.live.row)), step(self)))
    monkeypatch.setattr(paged, "_ENOUGH_ROWS", 8)
    requests = [ask(tokens(5, seed), 1, 12) for seed in range(40)]
    largest = []
    for times in (0, 1 << 20):
        monkeypatch.setattr(paged, "_WEIGHTS_READ", times)
        opened().sample(requests, SAMPLING, 32)
        largest.append(max(sizes))
        sizes.clear()
    assert largest == [8, 32]
