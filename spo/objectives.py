"""What other methods minimise than the clipped policy loss. Shapes as in `spo.losses`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spo.batching import Batch
from spo.losses import LossOut, divide, kl_k3

#: Bound on the importance weight of a sequence in `policy_iteration_loss` (spec §1.5).
MAX_WEIGHT = 10.0


def nll_loss(logprobs: Tensor, mask: Tensor, *, denominator: float | None = None) -> LossOut:
    """Negative log-likelihood a token over the positions where `mask` is True: SFT and RestEM (spec §4.6, §6.1).

    logprobs, mask (B, L-1); `denominator`: tokens of the optimizer batch when this is a part of it. 0 where that is 0.
    Deviation: every token weighs the same; the official code averages within each example first (spec §4.6, §6.1).

    >>> nll_loss(torch.tensor([[-1.0, -3.0, -9.0]]), torch.tensor([[True, True, False]])).loss.item()
    2.0
    """
    total = -torch.where(mask, logprobs, 0.0).sum()
    tokens = mask.sum()
    per = float(tokens) if denominator is None else denominator
    return _out(divide(total, per), tokens=tokens, nll=total)


def policy_iteration_loss(logprobs: Tensor, batch: Batch, beta: float, *, sequences: float | None = None) -> LossOut:
    """Mean over sequences of w/2 (beta sum log(pi/pi_ref) - A)^2 with w = exp(sum log(pi/pi_old)) (spec §1.5, Fig. 6).

    logprobs (B, L-1): under the policy being trained. Sums are over response tokens; w is at most 10 and passes no
    gradient. A is the advantage of the sequence, the mean over its tokens where they differ (SPO-chain, PPO), as
    `whitened` returns it. Clipping and KL coefficient of `Loss` do not enter, nor does its mask but for whitening.
    `sequences`: of the optimizer batch when this is a part of it.
    Deviation: the paper's objective has raw advantages; the official code whitens them over the tokens below the
    probability mask of each micro-batch (spec §1.5). Keys `loss.whiten`, `loss.probability_mask`, `loss.scope`.

    Metrics: tokens, sequences, weight (sum of w), kl, kl_tokens.

    >>> from spo import batching, types
    >>> batch = batching.collate([types.Episode("p", (1,), (2, 3), (-1, -1), (0.5, 0.5))], 0, [(-2, -1)])
    >>> round(policy_iteration_loss(torch.tensor([[-1.0, -1.0]]), batch, beta=0.1).loss.item(), 6)  # w 1, (.1 - .5)^2
    0.08
    """
    if batch.ref_logprobs is None:
        raise ValueError("policy iteration needs ref_logprobs")
    mask = batch.response_mask
    weight = _response_sum(logprobs.detach() - batch.old_logprobs, mask).exp().clamp(max=MAX_WEIGHT)
    gain = _response_sum(logprobs - batch.ref_logprobs, mask)
    advantage = _response_sum(batch.advantages, mask) / mask.sum(dim=-1).clamp(min=1)
    errors = 0.5 * weight * (beta * gain - advantage) ** 2
    count = float(len(gain)) if sequences is None else sequences
    return _out(
        divide(errors.sum(), count),
        tokens=mask.sum(),
        sequences=torch.tensor(len(gain)),
        weight=weight.sum(),
        kl=kl_k3(logprobs, batch.ref_logprobs, mask).sum(),
        kl_tokens=mask.sum(),
    )


def preference_loss(
    logprobs: Tensor, batch: Batch, beta: float, penalty: float, *, pairs: float | None = None
) -> LossOut:
    """DPO-positive (arXiv 2402.13228; spec §4.5): -log sigmoid(beta (g+ - g- - penalty max(0, -g+))), mean of pairs.

    Rows 2i of the batch are the correct responses, rows 2i+1 the wrong ones to the same problems. g is log pi - log
    pi_ref summed over response tokens; logprobs (B, L-1). With penalty 0 it is DPO (arXiv 2305.18290). `pairs`: of the
    optimizer batch when this is a part of it.

    Metrics: tokens, pairs, preferred (pairs with a positive logit), gain (sum of g+), margin (sum of g+ - g-).

    >>> from spo import batching, types
    >>> pair = [types.Episode("p", (1,), (2,), (0,), (1,)), types.Episode("p", (1,), (3,), (0,), (-1,))]
    >>> batch = batching.collate(pair, 0, [(-2,), (-1,)])
    >>> out = preference_loss(torch.tensor([[-1.0], [-2.0]]), batch, beta=0.5, penalty=50)
    >>> round(out.loss.item(), 6)  # g+ 1, g- -1: log(1 + exp(-1))
    0.313262
    """
    if batch.ref_logprobs is None or len(logprobs) % 2:
        raise ValueError("preferences need ref_logprobs and rows in pairs")
    gains = _response_sum(logprobs - batch.ref_logprobs, batch.response_mask)
    accepted, rejected = gains[0::2], gains[1::2]
    logits = beta * (accepted - rejected - penalty * F.relu(-accepted))
    count = float(len(accepted)) if pairs is None else pairs
    return _out(
        divide(-F.logsigmoid(logits).sum(), count),
        tokens=batch.response_mask.sum(),
        pairs=torch.tensor(len(accepted)),
        preferred=(logits > 0).sum(),
        gain=accepted.sum(),
        margin=(accepted - rejected).sum(),
    )


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip_range: float | None = 0.2,
    *,
    denominator: float | None = None,
) -> LossOut:
    """Half the mean over True positions of max((v - R)^2, (clip(v, v_old -+ clip_range) - R)^2) (spec §4.3).

    values, old_values, returns, mask (B, L-1): column j is about the state before token j+1; `clip_range` None: no
    clipping.
    `denominator`: True positions of the optimizer batch when this is a part of it.
    Deviation: the official code averages within each micro-batch.

    Metrics: value_tokens, squared_error (sum of (v - R)^2).

    >>> old, returns, mask = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[True, True]])
    >>> round(value_loss(torch.tensor([[0.9, 0.4]]), old, returns, mask).loss.item(), 6)  # (.3^2 + .6^2) / 4
    0.1125
    """
    errors = (values - returns) ** 2
    worst = errors
    if clip_range is not None:
        near = old_values + (values - old_values).clamp(-clip_range, clip_range)
        worst = torch.maximum(errors, (near - returns) ** 2)
    tokens = mask.sum()
    per = float(tokens) if denominator is None else denominator
    total = 0.5 * torch.where(mask, worst, 0.0).sum()
    return _out(divide(total, per), value_tokens=tokens, squared_error=torch.where(mask, errors, 0.0).sum())


def _response_sum(numbers: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, numbers, 0.0).sum(dim=-1)


def _out(loss: Tensor, **sums: Tensor) -> LossOut:
    return LossOut(loss, {name: value.detach().double() for name, value in sums.items()})
