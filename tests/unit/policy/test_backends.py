"""One suite that every backend passes; each test names the promise it checks."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from spo import seeds
from spo.errors import RunFailure, UserError
from spo.policy import BACKENDS, decode, hf, passes
from spo.policy import tokenizer as tokenizers
from spo.policy.engine import Engine
from spo.types import Request, Sampling
from tests import tiny

#: vLLM draws other samples and has tests of its own.
OPENERS = {name: opener for name, opener in BACKENDS.items() if name != "vllm"}
GREEDY, PLAIN, NUCLEUS = Sampling(temperature=0.0), Sampling(), Sampling(temperature=0.6, top_p=0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=sorted(OPENERS))
def policy(request, folder):
    return OPENERS[request.param](folder, tokenizers.load(folder).end_ids)


@pytest.fixture(scope="module")
def judge(folder):
    """Plain transformers, without any code of ours."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ask(prompt, samples=1, limit=12, tag="x"):
    return Request(tuple(prompt), tuple(seeds.key(tag, *prompt, i) for i in range(samples)), limit)


REQUESTS = [ask([5, 6, 7], 3), ask([5, 6, 7, 8, 9], 2, 9), ask([9], 4), ask([4, 4, 8, 11, 6, 5, 4, 3, 7], 1, 20)]


def test_greedy_tokens_equal_those_of_transformers(policy, judge):
    for request in REQUESTS:
        ids = list(request.prompt_ids)
        (sample, *_) = policy.sample([request], GREEDY)[0]
        for token in sample.response_ids:
            with torch.no_grad():
                assert int(judge(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)
        assert sample.finished == (sample.response_ids[-1] in policy.end_ids)
        assert sample.finished or len(sample.response_ids) == request.max_response_tokens


def test_logprobs_equal_those_of_transformers(policy, judge):
    ids = torch.randint(3, 15, (3, 17), generator=torch.Generator().manual_seed(1))
    logprobs, entropy = policy.token_logprobs(ids, 0.6)
    with torch.no_grad():
        expected = torch.log_softmax(judge(ids).logits[:, :-1].float() / 0.6, dim=-1)
    assert logprobs.dtype == torch.float32 and logprobs.shape == (3, 16)
    torch.testing.assert_close(logprobs, expected.gather(-1, ids[:, 1:, None])[..., 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(entropy, -(expected.exp() * expected).sum(-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN, NUCLEUS], ids=["greedy", "plain", "nucleus"])
def test_samplers_own_logprobs_are_those_of_the_trainer(policy, sampling):
    for request, samples in zip(REQUESTS, policy.sample(REQUESTS, sampling), strict=True):
        for sample in samples:
            ids = torch.tensor([request.prompt_ids + sample.response_ids])
            logprobs, _ = policy.token_logprobs(ids, sampling.temperature or 1.0)
            scored = logprobs[0, len(request.prompt_ids) - 1 :]
            torch.testing.assert_close(scored, torch.tensor(sample.sampler_logprobs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS], ids=["plain", "nucleus"])
def test_samples_depend_on_their_key_alone(policy, sampling):
    together = policy.sample(REQUESTS, sampling)
    alone = [policy.sample([request], sampling, batch_rows=1)[0] for request in REQUESTS]
    backwards = policy.sample(REQUESTS[::-1], sampling, batch_rows=3)[::-1]
    for other in (alone, backwards):
        assert [[s.response_ids for s in row] for row in other] == [[s.response_ids for s in row] for row in together]


def test_the_same_call_gives_the_same_bytes(policy):
    assert policy.sample(REQUESTS, NUCLEUS) == policy.sample(REQUESTS, NUCLEUS)


def test_backends_draw_the_same_samples(folder):
    drawn = {name: opener(folder, 1).sample(REQUESTS, NUCLEUS) for name, opener in OPENERS.items()}
    texts = {name: [[s.response_ids for s in row] for row in rows] for name, rows in drawn.items()}
    assert texts["engine"] == texts["hf"]


@pytest.mark.parametrize("sampling", [PLAIN, NUCLEUS], ids=["plain", "nucleus"])
def test_first_tokens_follow_the_distribution(policy, judge, sampling):
    """Chi-square over the tokens that are expected often enough; the bound is the 99.99 % quantile or so."""
    prompt, draws = (5, 6, 7), 4000
    samples = policy.sample([ask(prompt, draws, 1)], sampling, batch_rows=4000)[0]
    with torch.no_grad():
        mass = torch.softmax(judge(torch.tensor([prompt])).logits[0, -1].double() / sampling.temperature, -1)
    order = mass.argsort(descending=True)
    inside = order[(mass[order].cumsum(0) - mass[order]) < sampling.top_p]
    allowed = {int(i): float(mass[i] / mass[inside].sum()) for i in inside}
    counts = Counter(s.response_ids[0] for s in samples)
    assert set(counts) <= set(allowed)
    expected = {token: p * draws for token, p in allowed.items() if p * draws >= 8}
    assert len(expected) >= 2
    statistic = sum((counts[token] - e) ** 2 / e for token, e in expected.items())
    degrees = len(expected)
    assert statistic < degrees + 4 * math.sqrt(2 * degrees) + 8


def test_a_shorter_limit_gives_a_prefix(policy):
    long = policy.sample([ask([5, 6, 7], 4, 12)], NUCLEUS)[0]
    short = policy.sample([ask([5, 6, 7], 4, 5)], NUCLEUS)[0]
    assert [s.response_ids for s in short] == [s.response_ids[:5] for s in long]


def test_gradients_reach_every_weight(policy):
    logprobs, _ = policy.token_logprobs(torch.randint(3, 15, (2, 9)), 1.0)
    logprobs.sum().backward()
    gradients = {name: w.grad for name, w in policy.weights().items()}
    for weight in policy.weights().values():
        weight.grad = None
    assert all(
        g is not None and bool(g.abs().sum() > 0) for name, g in gradients.items() if not name.endswith("k_proj.bias")
    )


def test_saved_folder_loads_everywhere(policy, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy.save(tmp_path)
    ids = torch.randint(3, 15, (2, 9))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = torch.log_softmax(loaded(ids).logits[:, :-1], -1).gather(-1, ids[:, 1:, None])[..., 0]
        torch.testing.assert_close(policy.token_logprobs(ids, 1.0)[0], expected, atol=1e-4, rtol=0)
    text = "Digits: 1 2 3.\n"
    assert tuple(AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]) == tokenizers.load(tmp_path).encode(text)


def test_the_tokenizer_is_handed_on_as_it_is(policy, folder, tmp_path):
    policy.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_memory_that_runs_out_names_the_key_and_nothing_is_lost(policy, monkeypatch):
    def too_large(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    before = policy.sample(REQUESTS, NUCLEUS)
    keys = "context_tokens" if isinstance(policy, Engine) else "memory.sample_rows"
    with monkeypatch.context() as patch:
        for module in (decode, passes, hf):
            patch.setattr(module, "choose", too_large)
        with pytest.raises(RunFailure) as caught:
            policy.sample(REQUESTS, NUCLEUS, batch_rows=7)
    said = f"out of memory (2.00 GiB more were asked for): lower {keys} or, of a protocol, batch_rows (now 7)"
    assert str(caught.value) == said
    assert policy.sample(REQUESTS, NUCLEUS) == before


def test_misuse_is_one_line(policy, tmp_path):
    with pytest.raises(UserError, match="no room"):
        policy.sample([Request((5, 6), (1,), 0)], PLAIN)
    for opener in OPENERS.values():
        with pytest.raises(UserError, match="not a model folder"):
            opener(tmp_path / "nothing", 1)
