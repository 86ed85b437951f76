"""The clipped policy loss. Shapes: B sequences, L tokens; column j of a (B, L-1) tensor describes token j+1."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spo.batching import Batch
from spo.credit.partition import log_threshold
from spo.settings import Loss

#: Bound on a log-ratio before `exp`, and addition to a variance before its root (spec §5.3).
MAX_LOG_RATIO, EPSILON = 10.0, 1e-8


class LossOut(NamedTuple):
    """A loss to differentiate, and detached float64 sums that are added over micro-batches before dividing."""

    loss: Tensor
    metrics: dict[str, Tensor]


def probability_mask(logprobs: Tensor, mask: Tensor, threshold: float | None) -> Tensor:
    """True where `mask` is True and the token's probability is strictly below `threshold` (None: where `mask` is).

    logprobs (B, L-1) of the policy that sampled. Source: probability mask, §4 of arXiv 2505.23564; spec §5.3 step 2.

    >>> probability_mask(torch.tensor([0.5, 0.89, 0.95]).log(), torch.tensor([True, True, True]), 0.9).tolist()
    [True, True, False]
    """
    return mask if threshold is None else mask & (logprobs.float() < log_threshold(threshold))


def masked_whiten(values: Tensor, mask: Tensor) -> Tensor:
    """(values - mean) / sqrt(var + 1e-8), with mean and unbiased variance over the positions where `mask` is True.

    values, mask (B, L-1); applied at every position. Source: spec §5.3 step 1.
    Deviation: fewer than two True positions have no spread to divide by. The official code gives NaN there (spec §10.1
    item 13); here values are returned as they are.

    >>> masked_whiten(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
    tensor([-0.7071,  0.7071,  4.9497])
    """
    chosen = values[mask]
    if chosen.numel() < 2:
        return values
    return (values - chosen.mean()) * torch.rsqrt(chosen.var(unbiased=True) + EPSILON)


def whiten_and_count(batch: Batch, loss: Loss) -> tuple[Batch, float, float]:
    """Return what a whole scope (optimizer batch or micro-batch) fixes: the batch with advantages as the loss will use
    them, Z (tokens in the policy loss), and the number of sequences."""
    mask = probability_mask(batch.old_logprobs, batch.response_mask, loss.probability_mask)
    return whitened(batch, loss), float(mask.sum()), float(len(batch.lengths))


def whitened(batch: Batch, loss: Loss) -> Batch:
    """Return the batch with whitened advantages if `loss.whiten`, else the batch itself.

    Mean and variance are over the tokens below `loss.probability_mask`; over all response tokens if there are none, or
    if `loss.whiten_over` is `response`.
    Deviation: whitening is not in the paper; the official code whitens each micro-batch (spec §0 item 4b), for PPO over
    all response tokens (spec §4.3). Keys `loss.whiten`, `loss.whiten_over`, `loss.scope`.
    """
    if not loss.whiten:
        return batch
    mask = batch.response_mask
    if loss.whiten_over == "mask":
        below = probability_mask(batch.old_logprobs, mask, loss.probability_mask)
        mask = below if below.any() else mask
    return batch._replace(advantages=masked_whiten(batch.advantages, mask))


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = ref - new kept within +-10: a non-negative estimate of KL(policy || reference) a token.

    All (B, L-1); 0 where `mask` is False. Source: k3 of http://joschu.net/blog/kl-approx.html; spec §5.3 step 4.

    >>> kl_k3(torch.tensor([-1.0]), torch.tensor([-1.5]), torch.tensor([True]))
    tensor([0.1065])
    """
    difference = torch.where(mask, ref_logprobs - logprobs, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return difference.exp() - difference - 1


def policy_loss(
    logprobs: Tensor, batch: Batch, loss: Loss, *, denominator: float | None = None, sequences: float | None = None
) -> LossOut:
    """Clipped policy loss with probability mask and KL (chain and tree objectives of arXiv 2505.23564; spec §5.3).

    logprobs (B, L-1): under the policy being trained; only values at response tokens matter. With m the mask,
    ratio = exp(logprobs - old_logprobs) and Z the number of masked-in tokens:
    sum(m * max(-A * ratio, -A * clip(ratio, 1 -+ clip_range))) / Z + kl_coefficient * KL.

    Without `denominator` the batch is the whole scope: it is whitened and counted here, and gives loss 0 if its mean
    ratio exceeds `max_mean_ratio`. With it, the batch is a part of a scope on which `whiten_and_count` has run:
    `denominator` and `sequences` are that scope's, the parts' losses add up to the scope's, and the caller drops the
    step if ratio / tokens of the summed metrics exceeds `max_mean_ratio`. Terms divided by Z are 0 where Z is.

    Deviation: where Z is 0 the official code has 0/0 (spec §10.1 item 13). The paper charges KL at all tokens and
    divides it by Z; the official code charges it at masked-in tokens, sums it a sequence and averages over sequences
    (spec §0 item 4c), with a bound on one token in the authors' own run (spec §9). Keys `loss.kl_over`,
    `loss.kl_reduction`, `loss.kl_clip`.

    Metrics: tokens (Z), clipped, ratio, kl, kl_tokens, skipped.

    >>> from spo import batching, types
    >>> batch = batching.collate([types.Episode("p", (1,), (2, 3), (-0.5, -0.05), (1, 1))], pad_id=0)
    >>> out = policy_loss(torch.tensor([[-0.4, -0.05]]), batch, Loss(probability_mask=0.9, kl_coefficient=0))
    >>> round(out.loss.item(), 6), out.metrics["tokens"].item()
    (-1.105171, 1.0)
    """
    if whole := denominator is None:
        batch, denominator, sequences = whiten_and_count(batch, loss)
    mask = probability_mask(batch.old_logprobs, batch.response_mask, loss.probability_mask)
    log_ratio = torch.where(mask, logprobs - batch.old_logprobs, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    free = -batch.advantages * ratio
    clipped = -batch.advantages * ratio.clamp(1 - loss.clip_range, 1 + loss.clip_range)
    total = divide((torch.maximum(free, clipped) * mask).sum(), denominator)

    kl_mask = mask if loss.kl_over == "mask" else batch.response_mask
    kl = torch.zeros_like(ratio)
    if batch.ref_logprobs is not None:
        kl = kl_k3(logprobs, batch.ref_logprobs, kl_mask)
        kl = kl if loss.kl_clip is None else kl.clamp(max=loss.kl_clip)
    if loss.kl_coefficient:
        per = sequences if loss.kl_reduction == "sequence_sum" else denominator
        if batch.ref_logprobs is None or per is None:
            raise ValueError("the KL term needs ref_logprobs, and `sequences` wherever `denominator` is given")
        total = total + loss.kl_coefficient * divide(kl.sum(), per)

    ratio_sum = (ratio.detach() * mask).sum()
    skipped = (ratio_sum > loss.max_mean_ratio * denominator) & whole
    metrics = {
        "tokens": mask.sum(),
        "clipped": ((clipped > free) & mask).sum(),
        "ratio": ratio_sum,
        "kl": kl.detach().sum(),
        "kl_tokens": kl_mask.sum(),
        "skipped": skipped,
    }
    return LossOut(torch.where(skipped, total * 0.0, total), {name: value.double() for name, value in metrics.items()})


def divide(total: Tensor, count: float) -> Tensor:
    """total / count, and a 0 with gradient 0 where there is nothing to count."""
    return total / count if count else total * 0.0
