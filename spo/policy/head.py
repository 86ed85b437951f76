"""Log-probabilities of given tokens from last hidden states, some tokens at a time.

The logits of a batch are the largest tensor of training: for 16,384 tokens and Qwen2.5's vocabulary 10 GB in float32,
and as much again for their softmax, its gradient and each copy. Here logits exist for one chunk, and are computed again
where the gradient needs them. Shapes: N tokens, D hidden size, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spo.policy.products import product, wide


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    temperature: float,
    chunk_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """(log-probability of each target, entropy of its distribution), both (N) float32.

    hidden (N, D), weight (V, D) of a head without bias, targets (N) int64; the distribution is softmax(logits /
    temperature). Factors of products are rounded to `dtype`; logits and all else are float32, float64 stays float64.
    Gradients reach hidden and weight from the log-probabilities and not from the entropies. Memory beyond arguments and
    gradients: 3 C V numbers, a copy of weight in `dtype`, on a CPU one in float32, and, backward, one product of its
    size.

    >>> hidden, weight = torch.tensor([[2.0]]), torch.tensor([[1.0], [0.0]])
    >>> logprobs, entropy = token_logprobs(hidden, weight, torch.tensor([0]), temperature=2.0, chunk_tokens=8)
    >>> round(logprobs.item(), 4), round(entropy.item(), 4)  # softmax of (1, 0) is (.7311, .2689)
    (-0.3133, 0.5822)
    """
    return _Head.apply(hidden, weight, targets, temperature, chunk_tokens, dtype)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        chunk_tokens: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        head, exact = weight.to(dtype), wide(dtype)
        logprobs, entropy, norm = (torch.empty(len(hidden), dtype=exact, device=hidden.device) for _ in range(3))
        for start in range(0, len(hidden), chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            logits = _logits(hidden[rows], head, temperature)
            norm[rows] = logits.logsumexp(dim=-1)
            logits -= norm[rows, None]
            logprobs[rows] = logits.gather(-1, targets[rows, None]).squeeze(-1)
            entropy[rows] = -logits.exp().mul_(logits).sum(dim=-1)
        ctx.save_for_backward(hidden, weight, targets, norm)
        ctx.settings = temperature, chunk_tokens, dtype
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d logprob / d logit_v = ([v is the target] - p_v) / temperature. Tokens without gradient, such as those of
        prompts and padding, are passed over."""
        hidden, weight, targets, norm = ctx.saved_tensors
        temperature, chunk_tokens, dtype = ctx.settings
        head = weight.to(dtype)
        of_hidden = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight = (
            torch.zeros(weight.shape, dtype=wide(dtype), device=weight.device) if ctx.needs_input_grad[1] else None
        )
        for rows in grad.nonzero().squeeze(-1).split(chunk_tokens):
            scale = (grad[rows] / temperature).unsqueeze(-1)
            of_logits = _logits(hidden[rows], head, temperature).sub_(norm[rows, None]).exp_().mul_(-scale)
            of_logits = of_logits.scatter_add_(-1, targets[rows, None], scale).to(dtype)
            if of_hidden is not None:
                of_hidden[rows] = (of_logits @ head).to(hidden.dtype)
            if of_weight is not None:
                of_weight += of_logits.t() @ hidden[rows].to(dtype)
        return of_hidden, None if of_weight is None else of_weight.to(weight.dtype), None, None, None, None


def _logits(hidden: Tensor, head: Tensor, temperature: float) -> Tensor:
    return product(hidden.to(head.dtype), head.t()).div_(temperature)
