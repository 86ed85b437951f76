"""Drawing tokens: one rule for every backend, so that the same key draws the same token from the same distribution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spo import seeds
from spo.types import Sampling


def choose(logits: Tensor, sampling: Sampling, keys: np.ndarray, positions: np.ndarray) -> tuple[Tensor, Tensor]:
    """Draw a token a row: (ids (R) int64, their log-probabilities (R) float32 before any nucleus cut).

    logits (R, V); keys (R) uint64 and response positions (R) give the uniform numbers. The draw inverts the cumulative
    distribution in the order of token ids, in float64. At temperature 0 the most probable token is taken (the lowest id
    among equals) and its log-probability is that at temperature 1.

    >>> logits = torch.tensor([[0.0, 1.0, 0.5]])
    >>> ids, logprobs = choose(logits, Sampling(temperature=0.0), np.array([1], np.uint64), np.array([0]))
    >>> ids.tolist(), [round(x, 4) for x in logprobs.tolist()]
    ([1], [-0.6803])
    """
    logprobs = torch.log_softmax(logits.float() / (sampling.temperature or 1.0), dim=-1)
    if sampling.temperature == 0:
        ids = logprobs.argmax(dim=-1)
    else:
        mass = logprobs.double().exp()
        if sampling.top_p < 1:
            mass = nucleus(mass, sampling.top_p)
        cumulative = mass.cumsum(dim=-1)
        uniform = torch.from_numpy(seeds.uniform(keys, positions)).to(logits.device)
        target = (uniform * cumulative[:, -1]).unsqueeze(-1)
        ids = torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
    return ids, logprobs.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def nucleus(mass: Tensor, top_p: float) -> Tensor:
    """Zero all but the most probable tokens whose cumulative mass first reaches `top_p`; mass (R, V), not renormalised.

    >>> nucleus(torch.tensor([[0.2, 0.5, 0.3]]), 0.6).tolist()
    [[0.0, 0.5, 0.30000001192092896]]
    """
    ordered, order = mass.sort(dim=-1, descending=True, stable=True)
    outside = (ordered.cumsum(dim=-1) - ordered) >= top_p
    return mass.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)
