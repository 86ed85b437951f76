"""NaN and infinity: one line that says where they come from, before any number is made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spo import finite
from spo.errors import RunFailure
from spo.policy import BACKENDS, CRITICS, compiled
from spo.policy import tokenizer as tokenizers
from spo.policy.passes import Passes
from spo.policy.sampling import choose
from spo.types import Request, Sampling
from tests import tiny

UP = "model.layers.0.mlp.up_proj.weight"
GREEDY, PLAIN, NUCLEUS = Sampling(temperature=0.0), Sampling(), Sampling(temperature=0.6, top_p=0.9)
WAYS = [("engine", "compiled"), ("engine", "plain"), ("hf", "auto")]


def broken(folder, backend, value, name=UP):
    policy = BACKENDS[backend](folder, tokenizers.load(folder).eos_id)
    with torch.no_grad():
        policy.weights()[name].view(-1)[3] = value
    return policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("backend", "sampler"), WAYS)
@pytest.mark.parametrize("sampling", [GREEDY, PLAIN, NUCLEUS], ids=["greedy", "plain", "nucleus"])
def test_sample_refuses_broken_weights(folder, backend, sampler, value, sampling, monkeypatch, request):
    if sampler == "compiled":
        request.getfixturevalue("needs_compiler")
    monkeypatch.setenv("SPO_SAMPLER", sampler)
    policy = broken(folder, backend, value)
    with pytest.raises(RunFailure) as caught:
        policy.sample([Request((5, 6, 7), (1, 2), 4)], sampling)
    assert str(caught.value).startswith(f"logits are not finite: weights hold NaN or infinity: {UP}. ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_token_logprobs_refuses_broken_weights(folder, backend):
    policy = broken(folder, backend, math.nan)
    with pytest.raises(RunFailure, match=f"log-probabilities are not finite: weights hold NaN or infinity: {UP}"):
        policy.token_logprobs(torch.tensor([[5, 6, 7]]), 1.0)


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_critic_values_refuse_broken_weights(folder, backend):
    critic = CRITICS[backend](folder, 1)
    with torch.no_grad():
        critic.weights()["value_head.weight"][0, 0] = math.nan
    with pytest.raises(RunFailure, match="a critic's values are not finite: .*value_head.weight"):
        critic.values(torch.tensor([[5, 6, 7]]))


def test_finite_weights_that_overflow_are_told_apart(folder):
    policy = broken(folder, "hf", 3e38)
    with pytest.raises(RunFailure, match="not finite, though all weights are finite. Set dtype: float32"):
        policy.token_logprobs(torch.tensor([[5, 6, 7]]), 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=["greedy", "plain"])
def test_draw_refuses_a_single_logit(needs_compiler, bad, sampling):
    """One of many: comparisons with NaN are false, so that it would be passed over."""
    from tests.unit.policy.test_compiled import GEOMETRIES, weights_of

    geo, inner = GEOMETRIES["laptop"]
    passes = Passes(compiled.kernels(geo), weights_of(geo, inner), geo)
    logits = torch.zeros(3, 256)
    logits[1, 200] = bad
    with pytest.raises(finite.NotFinite, match="logits are not finite"):
        passes.draw(logits, sampling, np.full(3, 0.5))


def test_choose_allows_tokens_that_are_never_drawn():
    logits = torch.tensor([[0.0, -math.inf, 1.0]])
    assert choose(logits, PLAIN, np.array([0.3]))[0].tolist() == [2]
    with pytest.raises(finite.NotFinite):
        choose(torch.tensor([[0.0, math.nan, 1.0]]), PLAIN, np.array([0.1]))


def test_dated_blames_settings_only_after_a_step():
    def fail(steps):
        with finite.dated(lambda: steps):
            raise finite.NotFinite("loss is nan")

    with pytest.raises(RunFailure) as caught:
        fail(0)
    expected = "loss is nan; nothing was updated yet, so that training is not the reason. Check the starting model"
    assert str(caught.value) == expected
    with pytest.raises(
        RunFailure, match="loss is nan; nothing was updated since optimizer step 3. Lower optimizer.lr or"
    ):
        fail(3)
