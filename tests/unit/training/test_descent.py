"""Steps on float32 copies of low-precision weights, and states that are put back exactly."""

from __future__ import annotations

import pytest
import torch

from spo.settings import Optimizer
from spo.training.descent import Descent

PLAIN = Optimizer(lr=1e-4, warmup_share=0.0, max_grad_norm=1e9)


def weights(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    names = ("model.layers.0.up.weight", "model.layers.1.up.weight", "model.norm.weight")
    shapes = ((4, 6), (4, 6), (6,))
    drawn = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return {name: x.requires_grad_() for name, x in zip(names, drawn, strict=True)}


def learn(weights, descent, steps, first=0):
    """Steps on a loss of two parts, each with a backward pass of its own, as micro-batches have."""
    for step in range(first, first + steps):
        for part in (1.0, 0.3):
            sum((part * (step + 1) * w.float().sin()).sum() for w in weights.values()).backward()
        descent.step()


def test_steps_too_small_for_bfloat16_add_up():
    """Under a constant gradient AdamW moves by lr: 50 steps of 1e-4 lead from 1 to .995, whose nearest bfloat16 is
    1 - 2^-8 (they are 2^-8 apart there). One step alone rounds to 1 again."""
    weight = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    descent = Descent({"w": weight}, PLAIN, 1000)
    for step in range(50):
        weight.sum().backward()
        descent.step()
        if step == 0:
            assert weight.tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(descent.weights["w"].detach(), torch.full((3,), 0.995), atol=1e-6, rtol=0)
    assert weight.tolist() == [1 - 2**-8] * 3
    assert weight.dtype == torch.bfloat16


def test_gradients_of_micro_batches_add_up_in_float32():
    """1 and 2^-10: their sum has more digits than a bfloat16."""
    weight = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    descent = Descent({"w": weight}, PLAIN, 10)
    for scale in (1.0, 2**-10):
        (scale * weight).sum().backward()
    assert weight.grad is None and descent.weights["w"].grad.tolist() == [1 + 2**-10] * 2
    norm, _ = descent.step()
    assert norm == pytest.approx(2**0.5 * (1 + 2**-10))
    assert descent.weights["w"].grad is None


def test_float32_weights_are_updated_themselves():
    given = weights(torch.float32)
    descent = Descent(given, PLAIN, 10)
    assert all(descent.weights[name] is weight for name, weight in given.items())


def test_a_skipped_step_leaves_no_gradient():
    weight = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    descent = Descent({"w": weight}, PLAIN, 10)
    weight.sum().backward()
    descent.clear()
    assert descent.weights["w"].grad is None and weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("muon_lr", [None, 1e-3])
def test_a_state_that_is_put_back_goes_on_exactly(dtype, muon_lr):
    settings = Optimizer(lr=1e-4, muon_lr=muon_lr, schedule="linear", weight_decay=0.1)
    whole = weights(dtype)
    undisturbed = Descent(whole, settings, 10)
    learn(whole, undisturbed, 3)
    saved = {name: tensor.detach().clone() for name, tensor in undisturbed.tensors().items()}
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    learn(whole, undisturbed, 4, first=3)

    resumed = weights(dtype, seed=1)
    descent = Descent(resumed, settings, 10)
    descent.restore(saved, steps=3)
    for name, tensor in descent.tensors().items():  # nothing is shared with what was read
        assert torch.equal(tensor, saved[name]) and tensor.data_ptr() != saved[name].data_ptr()
    learn(resumed, descent, 4, first=3)
    for name, weight in resumed.items():
        assert torch.equal(weight, whole[name])
    for name, tensor in descent.tensors().items():
        assert torch.equal(tensor, undisturbed.tensors()[name])


def test_a_restart_puts_back_both_copies():
    given, start = weights(torch.bfloat16), weights(torch.bfloat16, seed=1)
    descent = Descent(given, PLAIN, 10)
    learn(given, descent, 2)
    descent.restart(start, 5)
    assert descent.steps == 0
    for name in given:
        assert torch.equal(given[name], start[name]) and torch.equal(descent.weights[name], start[name].float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["model", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_gpu_a_state_that_is_put_back_goes_on_exactly(device, dtype):
    def make(seed):
        return {name: w.detach().cuda().requires_grad_() for name, w in weights(dtype, seed).items()}

    whole, resumed = make(0), make(1)
    undisturbed, descent = (Descent(each, PLAIN, 10, device) for each in (whole, resumed))
    assert {w.device.type for w in descent.weights.values()} == {"cuda" if device == "model" else "cpu"}
    learn(whole, undisturbed, 3)
    descent.restore({name: tensor.detach().cpu().clone() for name, tensor in undisturbed.tensors().items()}, steps=3)
    learn(whole, undisturbed, 4, first=3)
    learn(resumed, descent, 4, first=3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
