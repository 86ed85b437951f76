"""Drawing tokens: one rule for every backend, so that the same key draws the same token from the same distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spo import finite
from spo.errors import UserError
from spo.types import Request, Sampling


def as_ids(ends: int | Sequence[int]) -> tuple[int, ...]:
    """Return the ids that end a response as a tuple, also if there is one only.

    >>> as_ids(2), as_ids([2, 7])
    ((2,), (2, 7))
    """
    return (ends,) if isinstance(ends, int) else tuple(ends)


def check_prompts(requests: Sequence[Request], vocabulary_size: int) -> None:
    """Raise UserError for a prompt with an id that the model has no embedding for."""
    for request in requests:
        if max(request.prompt_ids, default=0) >= vocabulary_size or min(request.prompt_ids, default=0) < 0:
            raise UserError(f"prompt: a token outside the model's vocabulary of {vocabulary_size}")


def choose(logits: Tensor, sampling: Sampling, uniform: np.ndarray) -> tuple[Tensor, Tensor]:
    """Draw a token a row: (ids (R) int64, their log-probabilities (R) float32 before any nucleus cut).

    logits (R, V); `uniform` (R) float64 in [0, 1). The draw inverts the cumulative distribution in the order of token
    ids, summed in float64. At temperature 0 the most probable token is taken (the lowest id among equals) and its
    log-probability is that at temperature 1. Raises NotFinite if logits of a row are NaN or infinite (a token may have
    -infinity, and is never drawn).

    >>> logits = torch.tensor([[0.0, 1.0, 0.5]])
    >>> ids, logprobs = choose(logits, Sampling(temperature=0.0), np.array([0.5]))
    >>> ids.tolist(), [round(x, 4) for x in logprobs.tolist()]
    ([1], [-0.6803])
    """
    mass = torch.softmax(logits.float() / (sampling.temperature or 1.0), dim=-1)
    if sampling.temperature == 0:
        ids = logits.argmax(dim=-1, keepdim=True)
    else:
        kept = nucleus(mass, sampling.top_p) if sampling.top_p < 1 else mass
        cumulative = kept.cumsum(dim=-1, dtype=torch.float64)
        target = torch.from_numpy(uniform).to(logits.device).unsqueeze(-1) * cumulative[:, -1:]
        ids = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    logprobs = mass.gather(-1, ids).squeeze(-1).log()
    finite.check(logprobs)
    return ids.squeeze(-1), logprobs


def nucleus(mass: Tensor, top_p: float) -> Tensor:
    """Zero all but the most probable tokens whose cumulative mass first reaches `top_p`; mass (R, V), not renormalised.

    >>> nucleus(torch.tensor([[0.2, 0.5, 0.3]]), 0.6).tolist()
    [[0.0, 0.5, 0.30000001192092896]]
    """
    ordered, order = mass.sort(dim=-1, descending=True, stable=True)
    outside = (ordered.cumsum(dim=-1) - ordered) >= top_p
    return mass.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)
