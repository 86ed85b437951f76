"""One suite that every critic passes; each test names the promise it checks."""

from __future__ import annotations

import json

import pytest
import torch

from spo.errors import UserError
from spo.policy import BACKENDS, CRITICS
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=("engine", "hf"))
def opener(request):
    return CRITICS[request.param]


IDS = torch.randint(3, 15, (3, 17), generator=torch.Generator().manual_seed(1))


def test_values_are_the_head_over_the_last_hidden_states(opener, folder):
    from transformers import AutoModel

    critic = opener(folder, 1)
    weights = critic.weights()
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(IDS).last_hidden_state
        expected = hidden @ weights["value_head.weight"][0] + weights["value_head.bias"]
    assert critic.values(IDS).dtype == torch.float32 and critic.values(IDS).shape == (3, 17)
    torch.testing.assert_close(critic.values(IDS), expected, atol=1e-4, rtol=0)


def test_backends_agree(folder):
    values = [CRITICS[name](folder, 1).values(IDS) for name in ("engine", "hf")]
    torch.testing.assert_close(*values, atol=1e-4, rtol=0)


def test_the_head_is_drawn_by_the_seed_and_small(opener, folder):
    heads = [opener(folder, seed).weights()["value_head.weight"].detach() for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    # 32 numbers of standard deviation 1 / sqrt(33) = .174: their own is within 35 % (three sigma: 1 / sqrt(64) each).
    assert heads[0].shape == (1, 32) and heads[0].std().item() == pytest.approx(0.174, rel=0.375)
    assert opener(folder, 1).weights()["value_head.bias"].tolist() == [0.0]


def test_the_backbone_is_a_copy_of_the_policys(opener, folder):
    backend = next(name for name, each in CRITICS.items() if each is opener)
    policy, critic = BACKENDS[backend](folder, 1), opener(folder, 1)
    backbone = {name: w for name, w in critic.weights().items() if not name.startswith("value_head")}
    assert backbone.keys() == policy.weights().keys()
    for name, weight in backbone.items():
        assert torch.equal(weight, policy.weights()[name]) and weight is not policy.weights()[name]


def test_gradients_reach_every_weight(opener, folder):
    critic = opener(folder, 1)
    critic.values(IDS).sum().backward()
    still = [n for n, w in critic.weights().items() if not n.endswith("k_proj.bias") and not w.grad.abs().sum() > 0]
    assert not still


def test_a_saved_critic_is_opened_with_its_own_head_by_every_backend(opener, folder, tmp_path):
    critic = opener(folder, 1)
    with torch.no_grad():
        for weight in critic.weights().values():
            weight += 0.01
    critic.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["Qwen2Model"]
    for again in CRITICS.values():
        torch.testing.assert_close(again(tmp_path, 7).values(IDS), critic.values(IDS), atol=1e-4, rtol=0)


def test_bfloat16_is_near_float32(opener, folder):
    values = [opener(folder, 1, dtype).values(IDS) for dtype in ("float32", "bfloat16")]
    assert values[1].dtype == torch.float32
    torch.testing.assert_close(*values, atol=0.1, rtol=0.05)


def test_misuse_is_one_line(opener, tmp_path):
    with pytest.raises(UserError, match="not a model folder"):
        opener(tmp_path / "nothing", 1)
