"""Matrix products of bfloat16 numbers whose results stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums of products of `dtype` are kept: float32, float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b in float32 (float64 for float64) of two matrices (X, Y), (Y, Z) or two batches of them.

    `a @ b` would round each result to the dtype of its factors: in bfloat16, a logit of 300 to a multiple of 2. No
    gradients flow; see `linear`.
    """
    to = wide(a.dtype)
    if a.dtype == to:
        return a @ b
    if a.is_cuda:
        return (torch.bmm if a.ndim == 3 else torch.mm)(a, b, out_dtype=to)
    with _by_onednn():
        return a.to(to) @ b.to(to)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight' (N, V) in float32 (float64 for float64), x (N, D) and weight (V, D) of one dtype.

    Gradients flow to both; their products are in that dtype.
    """
    return _Linear.apply(x, weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.to(x.dtype)
        return grad @ weight, grad.t() @ x


@contextmanager
def _by_onednn() -> Iterator[None]:
    """Let oneDNN multiply float32 matrices on a CPU, which takes half the time of MKL on AMD.

    It is free to round the factors to bfloat16, which these are exact in. Where oneDNN has nothing faster nothing
    changes.
    """
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
