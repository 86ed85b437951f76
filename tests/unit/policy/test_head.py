"""Log-probabilities in chunks, against softmax over all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spo.policy.head import token_logprobs

TOKENS, SIZE, VOCABULARY = 13, 6, 40


class LargestTensor(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returned, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        made = out if isinstance(out, list | tuple) else (out,)
        self.numbers = max([self.numbers, *(x.numel() for x in made if isinstance(x, torch.Tensor))])
        return out


def given(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, SIZE, generator=generator, dtype=torch.float64)
    weight = torch.randn(VOCABULARY, SIZE, generator=generator, dtype=torch.float64)
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def at_once(hidden, weight, targets, temperature):
    logprobs = (hidden @ weight.t() / temperature).log_softmax(dim=-1)
    return logprobs.gather(-1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(dim=-1)


def outcome(compute, of_each):
    """Log-probabilities, entropies, and gradients of a weighted sum of the former."""
    hidden, weight, targets = given()
    logprobs, entropy = compute(hidden, weight, targets)
    (logprobs * of_each).sum().backward()
    return logprobs.detach(), entropy.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("chunk", [1, 5, 13, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_softmax_at_once(chunk, temperature):
    """In float64, so that a difference would be one of formulas; two tokens have no gradient, as padding has none."""
    of_each = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)
    of_each[[0, 7]] = 0.0
    chunks = outcome(lambda h, w, t: token_logprobs(h, w, t, temperature, chunk, torch.float64), of_each)
    whole = outcome(lambda h, w, t: at_once(h, w, t, temperature), of_each)
    for ours, theirs in zip(chunks, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-12)


def test_gradients_are_exact():
    hidden, weight, targets = given()
    assert torch.autograd.gradcheck(
        lambda h, w: token_logprobs(h, w, targets, 0.7, 4, torch.float64)[0], (hidden, weight)
    )


def test_an_entropy_has_no_gradient():
    hidden, weight, targets = given()
    assert not token_logprobs(hidden, weight, targets, 1.0, 4, torch.float64)[1].requires_grad


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_needs_no_gradient_gets_none(frozen):
    arguments = given()
    arguments[frozen].requires_grad_(False)
    token_logprobs(*arguments, 1.0, 4, torch.float64)[0].sum().backward()
    assert arguments[frozen].grad is None and arguments[1 - frozen].grad is not None


def test_no_tensor_is_as_large_as_the_logits():
    """Chunks of 4 x 40 logits and the weight of 40 x 6 are the largest; all logits would be 13 x 40."""
    hidden, weight, targets = given()
    with LargestTensor() as seen:
        token_logprobs(hidden, weight, targets, 1.0, 4, torch.float64)[0].sum().backward()
    assert seen.numbers == VOCABULARY * SIZE
    with LargestTensor() as seen:
        at_once(hidden, weight, targets, 1.0)[0].sum().backward()
    assert seen.numbers == TOKENS * VOCABULARY


def test_products_in_bfloat16_and_sums_in_float32():
    """A product of 6 numbers is off by 1 % or so of 3, and a log-probability by twice that."""
    hidden, weight, targets = given(torch.float32)
    logprobs, entropy = token_logprobs(hidden, weight, targets, 1.0, 5, torch.bfloat16)
    expected = at_once(hidden, weight, targets, 1.0)
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logprobs, expected[0], atol=0.06, rtol=0)
    logprobs.sum().backward()
    ours = weight.grad.clone()
    weight.grad = None
    expected[0].sum().backward()
    torch.testing.assert_close(ours, weight.grad, atol=0.06, rtol=0)
    assert ours.dtype == torch.float32
