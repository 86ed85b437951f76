"""vLLM as sampler, judged by the hf backend; skipped where vLLM is not installed (`make test-vllm` installs it)."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spo import seeds
from spo.errors import RunFailure, UserError
from spo.policy import BACKENDS
from spo.policy import tokenizer as tokenizers
from spo.policy.vllm import checksum
from spo.settings import Memory, Optimizer
from spo.store import read_jsonl
from spo.types import Request, Sampling
from tests import tiny
from tests.reliability.test_processes import TORCHRUN, ended, output, start

GREEDY, PLAIN, NUCLEUS = Sampling(temperature=0.0), Sampling(), Sampling(temperature=0.6, top_p=0.9)
#: Of the whole vocabulary, and longer than a block of the prefix cache (32 tokens)
LONG = tuple(3 + (5 * i + i * i) % 12 for i in range(45))


def ask(prompt, samples=1, limit=12):
    return Request(tuple(prompt), tuple(seeds.key("x", *prompt, i) for i in range(samples)), limit)


REQUESTS = [ask([5, 6, 7], 3), ask([5, 6, 7, 8, 9], 2, 9), ask([9], 4), ask(LONG, 2, 15), ask(LONG[:40], 2)]


def model(path, seed=0, **architecture):
    """Heads have 32 dimensions, the fewest that vLLM computes; scaled up until greedy responses vary."""
    with pytest.MonkeyPatch.context() as patch:
        wide = replace(tiny.ARCHITECTURE, hidden_size=64, heads=2, kv_heads=1)
        patch.setattr(tiny, "ARCHITECTURE", replace(wide, **architecture))
        return tiny.model(path, seed, scale=10.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def policy(folder, needs_vllm):
    """Opened once, for starting vLLM takes seconds; whoever changes its weights puts them back."""
    return BACKENDS["vllm"](folder, tokenizers.load(folder).end_ids)


@pytest.fixture(scope="module")
def judge(folder):
    return BACKENDS["hf"](folder, tokenizers.load(folder).end_ids)


def texts(rows):
    return [[sample.response_ids for sample in row] for row in rows]


def test_greedy_tokens_equal_those_of_transformers(policy, judge):
    ours, theirs = (each.sample(REQUESTS, GREEDY) for each in (policy, judge))
    assert texts(ours) == texts(theirs)
    assert [[s.finished for s in row] for row in ours] == [[s.finished for s in row] for row in theirs]


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN, NUCLEUS, Sampling(0.6), Sampling(1.0, 0.5)], ids=str)
def test_logprobs_are_those_of_the_trainer_before_the_cut(policy, sampling):
    for request, samples in zip(REQUESTS, policy.sample(REQUESTS, sampling), strict=True):
        for sample in samples:
            ids = torch.tensor([request.prompt_ids + sample.response_ids])
            with torch.no_grad():
                logprobs, _ = policy.token_logprobs(ids, sampling.temperature or 1.0)
            scored = logprobs[0, len(request.prompt_ids) - 1 :]
            torch.testing.assert_close(scored, torch.tensor(sample.sampler_logprobs), atol=1e-4, rtol=0)


def test_a_response_ends_with_its_end_or_at_the_limit(policy):
    request = ask([5, 6, 7], 200, 6)
    samples = policy.sample([request], PLAIN)[0]
    for sample in samples:
        assert sample.finished == (sample.response_ids[-1] in policy.end_ids)
        assert set(policy.end_ids).isdisjoint(sample.response_ids[:-1])
        assert sample.finished or len(sample.response_ids) == 6
    assert {sample.finished for sample in samples} == {True, False}


def test_another_end_of_sequence_ends_responses(folder, policy):
    """The model's own files name token 1; a policy opened with another end reads past it."""
    likely = policy.sample([ask([5, 6, 7])], GREEDY)[0][0].response_ids[2]
    other = BACKENDS["vllm"](folder, likely)
    ours = [sample for row in other.sample(REQUESTS, PLAIN) for sample in row]
    assert all(s.finished == (s.response_ids[-1] == likely) and likely not in s.response_ids[:-1] for s in ours)
    assert any(s.finished for s in ours) and any(1 in s.response_ids for s in ours)


@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS], ids=str)
def test_samples_depend_on_their_key_alone(policy, sampling):
    together = texts(policy.sample(REQUESTS, sampling))
    assert texts(policy.sample([request], sampling, batch_rows=1)[0] for request in REQUESTS) == together
    assert texts(policy.sample(REQUESTS[::-1], sampling, batch_rows=3)[::-1]) == together


def test_keys_differ(policy):
    samples = policy.sample([ask([5, 6, 7], 50)], PLAIN)[0]
    assert len({sample.response_ids for sample in samples}) > 25


def test_a_shorter_limit_gives_a_prefix(policy):
    long, short = (policy.sample([ask([5, 6, 7], 4, limit)], NUCLEUS)[0] for limit in (12, 5))
    assert [s.response_ids for s in short] == [s.response_ids[:5] for s in long]


@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS], ids=str)
def test_first_tokens_follow_the_distribution(policy, sampling):
    """Chi-square over the tokens that are expected often enough; the bound is the 99.99 % quantile or so."""
    prompt, draws = (5, 6, 7), 4000
    counts = Counter(s.response_ids[0] for s in policy.sample([ask(prompt, draws, 1)], sampling)[0])
    with torch.no_grad():
        logits = policy.trained.model(torch.tensor([prompt])).logits[0, -1].double()
    mass = torch.softmax(logits / sampling.temperature, -1)
    order = mass.argsort(descending=True)
    inside = order[(mass[order].cumsum(0) - mass[order]) < sampling.top_p]
    allowed = {int(i): float(mass[i] / mass[inside].sum()) for i in inside}
    assert set(counts) <= set(allowed)
    expected = {token: p * draws for token, p in allowed.items() if p * draws >= 8}
    assert len(expected) >= 2
    statistic = sum((counts[token] - e) ** 2 / e for token, e in expected.items())
    assert statistic < len(expected) + 4 * math.sqrt(2 * len(expected)) + 8


@pytest.mark.parametrize("write", ["in place", "through data"])
def test_new_weights_are_sampled_and_old_keys_and_values_forgotten(write, policy, judge, tmp_path_factory):
    """An optimizer writes in place, a resumed run through `Tensor.data`; the prompt's blocks are cached before."""
    before = {name: w.detach().clone() for name, w in policy.weights().items()}
    other = BACKENDS["hf"](model(tmp_path_factory.mktemp("other"), seed=1), 1)
    old, new = texts(judge.sample(REQUESTS, GREEDY)), texts(other.sample(REQUESTS, GREEDY))
    assert old != new and old[3] != new[3]  # the one that shares cached blocks with others, too

    def load(weights):
        for name, weight in policy.weights().items():
            with torch.no_grad():
                (weight if write == "in place" else weight.data).copy_(weights[name])

    assert texts(policy.sample(REQUESTS, GREEDY)) == old
    try:
        load(other.weights())
        assert texts(policy.sample(REQUESTS, GREEDY)) == new
    finally:
        load(before)
    assert texts(policy.sample(REQUESTS, GREEDY)) == old


def test_unchanged_weights_keep_the_prefix_cache(policy):
    """The second time all 32 tokens of the first block of the long prompts come from the cache."""
    cached = []
    policy.sample([ask(LONG[:3])], PLAIN)
    generate = policy._engine.llm.generate

    def watched(*args, **named):
        results = generate(*args, **named)
        cached.append([result.num_cached_tokens for result in results])
        return results

    policy._engine.llm.generate = watched
    try:
        for _ in range(2):
            policy.sample([ask(LONG, 2)], PLAIN)
    finally:
        policy._engine.llm.generate = generate
    assert cached[1] == [32, 32]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_vllm_sleeps_while_the_model_trains_and_wakes_for_samples(level, policy, judge, monkeypatch):
    """Without a GPU nothing is given back, but vLLM is stopped and must be set going again."""
    monkeypatch.setattr(policy, "memory", Memory(vllm_sleep_level=level))
    before = texts(policy.sample(REQUESTS, GREEDY))
    engine = policy._engine
    with torch.no_grad():
        policy.token_logprobs(torch.tensor([LONG]), 1.0)
    assert not engine.asleep
    for _ in range(2):  # a second micro-batch finds it asleep
        policy.token_logprobs(torch.tensor([LONG]), 1.0)
    assert engine.asleep == engine.llm.llm_engine.is_sleeping() == (level > 0)
    assert (engine.synced is None) == (level == 2)
    assert texts(policy.sample(REQUESTS, GREEDY)) == before == texts(judge.sample(REQUESTS, GREEDY))
    assert not engine.asleep and not engine.llm.llm_engine.is_sleeping()


def test_a_reference_that_scores_puts_vllm_to_sleep(policy, folder):
    reference = BACKENDS["vllm"](folder, 1, parked=True)
    policy.sample(REQUESTS, GREEDY)
    with reference.present():
        assert policy._engine.asleep
    policy.sample(REQUESTS, GREEDY)


def test_weights_reach_other_processes_through_a_folder(policy, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(policy, "memory", Memory(vllm_tensor_parallel=2))
    other = BACKENDS["hf"](model(tmp_path_factory.mktemp("other"), seed=2), 1)
    before = {name: w.detach().clone() for name, w in policy.weights().items()}
    policy.sample(REQUESTS, GREEDY)
    try:
        for name, weight in policy.weights().items():
            weight.data.copy_(other.weights()[name])
        assert texts(policy.sample(REQUESTS, GREEDY)) == texts(other.sample(REQUESTS, GREEDY))
    finally:
        for name, weight in policy.weights().items():
            weight.data.copy_(before[name])


@pytest.mark.slow
def test_a_copy_spread_over_two_processes_samples_and_follows_the_weights(tmp_path, needs_vllm):
    """In a process of its own, since a vLLM that starts ends the one before."""
    program = """
import sys, torch
from pathlib import Path
from spo.policy import BACKENDS
from spo.settings import Memory
from tests.unit.policy.test_vllm import GREEDY, LONG, REQUESTS, model, texts

if __name__ == "__main__":
    first, second = (model(Path(sys.argv[1]) / str(seed), seed, kv_heads=2) for seed in (0, 2))
    spread = BACKENDS["vllm"](first, 1, memory=Memory(vllm_tensor_parallel=2))
    judges = [BACKENDS["hf"](folder, 1) for folder in (first, second)]
    assert texts(spread.sample(REQUESTS, GREEDY)) == texts(judges[0].sample(REQUESTS, GREEDY))
    spread.token_logprobs(torch.tensor([LONG]), 1.0)
    for name, weight in spread.weights().items():
        weight.data.copy_(judges[1].weights()[name])
    rows = spread.sample(REQUESTS, GREEDY)
    assert texts(rows) == texts(judges[1].sample(REQUESTS, GREEDY))
    prompt, sample = REQUESTS[3].prompt_ids, rows[3][0]
    with torch.no_grad():
        logprobs, _ = spread.token_logprobs(torch.tensor([prompt + sample.response_ids]), 1.0)
    difference = logprobs[0, len(prompt) - 1 :] - torch.tensor(sample.sampler_logprobs)
    assert difference.abs().max() < 1e-4
    spread._engine.llm.llm_engine.engine_core.shutdown()
    print("both")
"""
    script = tmp_path / "spread.py"
    script.write_text(program)
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("both\n"), done.stderr[-3000:]


def test_memory_that_runs_out_names_the_keys_and_nothing_is_lost(policy, monkeypatch):
    def too_large(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    before = texts(policy.sample(REQUESTS, GREEDY))
    with monkeypatch.context() as patch:
        patch.setattr(policy._engine.llm, "generate", too_large)
        with pytest.raises(RunFailure) as caught:
            policy.sample(REQUESTS, GREEDY)
    said = "lower memory.vllm_gpu_share (now 0.4) or memory.vllm_max_tokens"
    assert str(caught.value) == f"out of memory (2.00 GiB more were asked for): {said}"
    assert texts(policy.sample(REQUESTS, GREEDY)) == before


def test_fewer_positions_than_the_model_has_are_named(policy, monkeypatch):
    monkeypatch.setattr(policy, "memory", Memory(vllm_max_tokens=20))
    with pytest.raises(UserError, match="exceed the 20 positions of vLLM; raise memory.vllm_max_tokens"):
        policy.sample([Request((5,) * 16, (1,), 5)], PLAIN)


def test_checksums_of_low_weights():
    """1.0 is 0x3f80 in bfloat16, -2.0 is 0xc000, which as a signed number is -16384."""
    assert checksum(torch.tensor([1.0, -2.0], dtype=torch.bfloat16)) == 0x3F80 - 16384


@pytest.mark.parametrize(("at", "value"), [(0, 1e-6), (7, -0.0), (31, float("nan"))])
def test_a_checksum_sees_one_number(at, value):
    weight = torch.arange(1, 33).float()
    changed = weight.clone()
    changed[at] = value
    assert checksum(weight) == checksum(weight.clone()) != checksum(changed)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["group", "chain"])
def test_training_samples_with_what_it_has_learnt(method, folder, judge, tmp_path, needs_vllm):
    settings = replace(
        tiny.METHODS[method], iterations=1, validate_every=1, backend="vllm", optimizer=Optimizer(lr=0.1)
    )
    policy = tiny.train(settings, folder, tmp_path / "state")
    first, last = read_jsonl(tmp_path / "state" / "metrics.jsonl")
    assert last["episodes"] > 0 and math.isfinite(last["loss"]) and last["grad_norm"] > 0
    policy.save(tmp_path / "saved")
    learnt = BACKENDS["hf"](tmp_path / "saved", 1)
    now, before = (texts(each.sample(REQUESTS, GREEDY)) for each in (learnt, judge))
    assert texts(policy.sample(REQUESTS, GREEDY)) == now != before


@pytest.mark.slow
def test_processes_of_a_run_have_a_vllm_each(tmp_path, needs_vllm):
    """Started either way, they sample and learn what one process does."""
    folder = model(tmp_path / "model")
    settings = replace(tiny.METHODS["chain"], iterations=2, backend="vllm", optimizer=Optimizer(lr=1e-4))
    for name, more, through in (("one", (), ()), ("two", ("--processes", "2"), ()), ("torchrun", (), TORCHRUN)):
        code, error = ended(start(folder, tmp_path / name, settings, *more, through=through))
        assert code == 0, error[-3000:]
    one, *others = (read_jsonl(output(tmp_path / name) / "metrics.jsonl") for name in ("one", "two", "torchrun"))
    for rows in others:
        assert all(a == pytest.approx(b, rel=1e-4, abs=1e-4) for a, b in zip(one, rows, strict=True))


def test_misuse_is_one_line(policy, tmp_path):
    with pytest.raises(UserError, match="no room"):
        policy.sample([Request((5, 6), (1,), 0)], PLAIN)
    with pytest.raises(UserError, match="a prompt of 60 tokens and 5 more exceed the 64 positions of the model"):
        policy.sample([Request((5,) * 60, (1,), 5)], PLAIN)
    with pytest.raises(UserError, match="prompt: empty"):
        policy.sample([Request((), (1,), 5)], PLAIN)
    with pytest.raises(UserError, match="not a model folder"):
        BACKENDS["vllm"](tmp_path / "nothing", 1)
    assert policy.sample([], PLAIN) == [] and policy.sample([Request((5,), (), 3)], PLAIN) == [[]]


def test_heads_that_vllm_lacks_are_named(tmp_path, needs_vllm):
    small = BACKENDS["vllm"](tiny.model(tmp_path), 1)  # 32 / 4 = 8 dimensions
    with pytest.raises(UserError, match="backend vllm: heads of 8 dimensions: .* 32, 64.*; use backend engine or hf"):
        small.sample(REQUESTS, GREEDY)


def test_a_context_that_memory_cannot_hold_is_one_line(tmp_path, needs_vllm):
    """A position takes 32 layers * 2 heads * (key, value) * 32 dimensions * 4 bytes = 16 KiB: 2^16 fill a GiB."""
    model(tmp_path, layers=32, kv_heads=2, max_position_tokens=2**17)
    with pytest.raises(UserError, match="backend vllm: .*KV cache") as caught:
        BACKENDS["vllm"](tmp_path, 1).sample(REQUESTS, GREEDY)
    assert "\n" not in str(caught.value)


def test_without_vllm_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"backend vllm: vLLM is not installed: pip install '\.\[gpu\]'") as caught:
        BACKENDS["vllm"](folder, 1)
    assert "\n" not in str(caught.value)
