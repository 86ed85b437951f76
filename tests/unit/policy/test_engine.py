"""What the engine does to be fast must not show in what it samples: every case against one row at a time, no cache."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spo import seeds
from spo.errors import UserError
from spo.policy import BACKENDS, transformer
from spo.policy.decode import arrange
from spo.policy.engine import Engine
from spo.policy.sampling import choose
from spo.policy.transformer import Geometry
from spo.settings import Architecture
from spo.types import Request, Sampling

VOCABULARY, EOS = 23, 1
GEOMETRY = Geometry(32, 2, 4, 1, 8, VOCABULARY, 1e4, 1e-6, True, 64)
SAMPLING = Sampling(temperature=0.8, top_p=0.95)


def build(folder, kv_heads, family="qwen2", seed=0):
    """A random model with distributions far from uniform, biases and norm weights included."""
    size = {"hidden_size": 32, "layers": 2, "heads": 4, "intermediate_size": 48, "max_position_tokens": 64}
    architecture = Architecture(family=family, kv_heads=kv_heads, **size)
    config = transformer.model_config(architecture, VOCABULARY, EOS, 0)
    weights = transformer.initial_weights(architecture, VOCABULARY, seed)
    generator = torch.Generator().manual_seed(seed)
    for weight in weights.values():
        if weight.ndim == 2:
            weight.mul_(4)
        else:
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    Engine(transformer.geometry(folder), weights, EOS, folder).save(folder)
    return Engine.open(folder, EOS)


@pytest.fixture(autouse=True, params=["compiled", "plain"])
def sampler(request, monkeypatch):
    """Everything here is to be true with a C compiler and without."""
    if request.param == "compiled":
        request.getfixturevalue("needs_compiler")
    monkeypatch.setenv("SPO_SAMPLER", request.param)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kv_heads: build(root / str(kv_heads), kv_heads) for kv_heads in (1, 2, 4)}


def tokens(count, seed):
    return tuple(np.random.default_rng(seed).integers(2, VOCABULARY, count).tolist())


def ask(prompt, samples, limit):
    return Request(prompt, tuple(seeds.key(*prompt, limit, i) for i in range(samples)), limit)


def slowly(engine, request, key, sampling):
    """One response by whole passes of `transformer.forward`: (ids, log-probabilities)."""
    ids, logprobs = list(request.prompt_ids), []
    for t in range(request.max_response_tokens):
        with torch.no_grad():
            hidden, _ = transformer.forward(engine.weights(), engine.geometry, torch.tensor([ids]))
            logits = transformer.logits(engine.weights(), engine.geometry, hidden[:, -1])
        token, logprob = choose(logits, sampling, seeds.uniform(np.array([key], np.uint64), t))
        ids.append(int(token))
        logprobs.append(float(logprob))
        if ids[-1] in engine.end_ids:
            break
    return tuple(ids[len(request.prompt_ids) :]), logprobs


def check(engine, requests, sampling=SAMPLING, **options):
    for request, samples in zip(requests, engine.sample(requests, sampling, **options), strict=True):
        for key, sample in zip(request.keys, samples, strict=True):
            ids, logprobs = slowly(engine, request, key, sampling)
            assert sample.response_ids == ids
            assert sample.finished == (ids[-1] in engine.end_ids)
            np.testing.assert_allclose(sample.sampler_logprobs, logprobs, atol=1e-4, rtol=0)


HOST, OTHER = tokens(14, 1), tokens(9, 2)
#: Rows that continue a host after 1, 2, .. all of its tokens, rows of another host, and of one that stands alone.
MIXED = [
    *[ask(HOST[:n], 1 + n % 3, 4 + 5 * n % 11) for n in range(1, len(HOST) + 1)],
    *[ask(OTHER[:n], 2, 6) for n in (3, 9)],
    ask(tokens(1, 3), 5, 3),
]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_rollouts_from_every_prefix_are_those_of_single_rows(engines, kv_heads):
    check(engines[kv_heads], MIXED)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_greedy_rollouts_equal_those_of_transformers(engines, kv_heads):
    judge = BACKENDS["hf"](engines[kv_heads].source, EOS)
    greedy = Sampling(temperature=0.0)
    ours, theirs = (policy.sample(MIXED, greedy) for policy in (engines[kv_heads], judge))
    assert [[s.response_ids for s in row] for row in ours] == [[s.response_ids for s in row] for row in theirs]


def test_a_llama_without_biases_with_a_head_of_its_own(tmp_path):
    engine = build(tmp_path, 2, "llama")
    names = engine.weights().keys()
    assert "lm_head.weight" in names and not [name for name in names if name.endswith(".bias")]
    check(engine, MIXED[:6])
    judge = BACKENDS["hf"](tmp_path, EOS)
    assert type(judge.model).__name__ == "LlamaForCausalLM" and judge.weights().keys() == names
    greedy = Sampling(temperature=0.0)
    ours, theirs = (policy.sample(MIXED, greedy) for policy in (engine, judge))
    assert [[s.response_ids for s in row] for row in ours] == [[s.response_ids for s in row] for row in theirs]


@pytest.mark.parametrize("batch_rows", [1, 3, 7, 1000])
def test_neither_batch_size_nor_order_changes_a_sample(engines, batch_rows):
    expected = engines[1].sample(MIXED, SAMPLING)
    again = engines[1].sample(MIXED[::-1], SAMPLING, batch_rows=batch_rows)[::-1]
    for first, second in zip(expected, again, strict=True):
        assert [s.response_ids for s in first] == [s.response_ids for s in second]
        for a, b in zip(first, second, strict=True):
            np.testing.assert_allclose(a.sampler_logprobs, b.sampler_logprobs, atol=1e-4, rtol=0)


def test_the_same_call_gives_the_same_bits(engines):
    assert engines[2].sample(MIXED, SAMPLING) == engines[2].sample(MIXED, SAMPLING)


def test_long_responses_whose_rows_end_at_different_times(engines):
    """More tokens than the cache has places at first, and rows that leave one by one, so that others move."""
    endless = Engine(engines[2].geometry, engines[2].weights(), end_ids=())
    check(endless, [ask(HOST, 1, n) for n in range(1, 71, 6)] + [ask(OTHER, 2, 67)])


def test_a_prompt_longer_than_a_pass_over_prompts(engines):
    """1100 tokens are more than one pass over prompts takes and more than plain attention is used for."""
    long = tokens(1100, 4)
    check(engines[2], [ask(long, 2, 3), ask(long[:700], 2, 3), ask(HOST, 1, 3)])


def test_updated_weights_are_what_is_sampled_from(tmp_path):
    engine = build(tmp_path, 1)
    before = engine.sample(MIXED, SAMPLING)
    with torch.no_grad():
        engine.weights()["model.layers.0.mlp.up_proj.weight"].mul_(-1.5)
    assert engine.sample(MIXED, SAMPLING) != before
    check(engine, MIXED[:4])


def test_no_requests_no_samples(engines):
    assert engines[1].sample([], SAMPLING) == []


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any))
def test_blocks_hold_every_row_once_and_never_two_hosts(counts):
    source = np.repeat(np.arange(len(counts)), counts)
    grid = arrange(source)
    assert Counter(grid[grid >= 0].tolist()) == Counter(range(len(source)))
    for block in grid:
        used = block[block >= 0]
        assert len(used) >= 1 and (block[: len(used)] >= 0).all() and len(set(source[used])) == 1


def test_blocks_weigh_idle_places_against_reading_a_host_again():
    # Rows 5, 5, 5: r = 5 costs 3 (5 + 0.5) = 16.5, r = 1 costs 15 (1 + 0.5) = 22.5.
    assert arrange(np.repeat([0, 1, 2], 5)).shape == (3, 5)
    # Rows 1, 9: r = 9 costs 2 (9 + 0.5) = 19, r = 3 costs 4 (3 + 0.5) = 14, r = 5 costs 3 (5 + 0.5) = 16.5.
    assert arrange(np.repeat([0, 1], [1, 9])).shape == (4, 3)


def test_bfloat16_training_passes_stay_near_those_in_float32(engines):
    folder = engines[2].source
    ids = torch.tensor([tokens(30, 5), tokens(30, 6)])
    for opener in (BACKENDS["engine"], BACKENDS["hf"]):
        exact, _ = opener(folder, EOS).token_logprobs(ids, 1.0)
        rounded, entropy = opener(folder, EOS, "bfloat16").token_logprobs(ids, 1.0)
        assert rounded.dtype == entropy.dtype == torch.float32
        # bfloat16 has 8 bits: a logit of 8 is off by up to 0.03, a sum over layers by a few times that.
        torch.testing.assert_close(rounded, exact, atol=0.3, rtol=0)
        with pytest.raises(UserError, match="float16: must be float32 or bfloat16"):
            opener(folder, EOS, "float16")


def test_a_llama_with_biases_is_sent_to_the_other_backend(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "attention_bias": True}))
    with pytest.raises(UserError, match="attention_bias: not supported by backend engine. Use `backend: hf`"):
        Engine.open(tmp_path, EOS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_draws_the_same_samples(engines):
    weights = {name: weight.detach().cuda() for name, weight in engines[2].weights().items()}
    ours = Engine(engines[2].geometry, weights, EOS).sample(MIXED, SAMPLING)
    expected = engines[2].sample(MIXED, SAMPLING)
    assert [[s.response_ids for s in row] for row in ours] == [[s.response_ids for s in row] for row in expected]
