"""One optimizer step on a policy's weights from a batch of Episodes, in micro-batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import AdamW, Muon

from spo.batching import collate, micro_batches, take
from spo.errors import RunFailure
from spo.losses import LossOut, nll_loss, policy_loss, whiten_and_count
from spo.policy import Policy
from spo.settings import Optimizer, Train
from spo.types import Episode


class Descent:
    """The optimizer of a run, with its schedule: AdamW, or Muon for the matrices inside the layers (`muon_lr`)."""

    def __init__(self, weights: Mapping[str, Tensor], settings: Optimizer, total_steps: int) -> None:
        self.weights, self.settings, self.total_steps, self.steps = dict(weights), settings, total_steps, 0
        inner = {n for n, w in weights.items() if settings.muon_lr and w.ndim == 2 and ".layers." in n}
        betas = (settings.beta1, settings.beta2)
        outer = [w for n, w in weights.items() if n not in inner]
        decay = settings.weight_decay
        #: (optimizer, its peak learning rate)
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [
            (AdamW(outer, settings.lr, betas, settings.eps, decay, fused=True), settings.lr)
        ]
        if inner:
            self.parts.append(
                (Muon([w for n, w in weights.items() if n in inner], settings.muon_lr, decay), settings.muon_lr)
            )

    def step(self) -> tuple[float, float]:
        """Clip, update, clear: (gradient norm before clipping, learning rate used).

        Raises RunFailure before anything changes if the norm is not finite.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights.values(), self.settings.max_grad_norm))
        if not math.isfinite(norm):
            raise RunFailure(
                f"gradient norm is {norm} at optimizer step {self.steps}; nothing was updated: lower optimizer.lr"
            )
        factor = schedule(self.settings, self.steps, self.total_steps)
        for part, peak in self.parts:
            for group in part.param_groups:
                group["lr"] = peak * factor
            part.step()
        self.clear()
        self.steps += 1
        return norm, self.settings.lr * factor

    def clear(self) -> None:
        """Forget the gradients."""
        for weight in self.weights.values():
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments, for a checkpoint."""
        out = {f"weight/{name}": weight for name, weight in self.weights.items()}
        for part, _ in self.parts:
            for name, weight in self.weights.items():
                moments = part.state.get(weight, {})
                out |= {f"{moment}/{name}": value for moment, value in moments.items() if moment != "step"}
        return out

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Put back what `tensors` returned after `steps` steps."""
        self.steps = steps
        names = {id(weight): name for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.data.copy_(tensors[f"weight/{name}"])
        for part, _ in self.parts:
            for weight in part.param_groups[0]["params"]:
                for moment in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
                    if (saved := tensors.get(f"{moment}/{names[id(weight)]}")) is not None:
                        part.state[weight][moment] = saved.clone()
                        if moment == "exp_avg":
                            part.state[weight]["step"] = torch.tensor(float(steps))


def schedule(settings: Optimizer, step: int, total_steps: int) -> float:
    """Factor of the peak learning rate at optimizer step `step` (from 0) of `total_steps` (spec §5.1).

    Deviation: in the official code's scheduler the first update runs at the full rate and the second at 0; here the
    logarithmic warm-up begins with its second value.

    >>> [round(schedule(Optimizer(schedule="linear", warmup_share=0.2), step, 10), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    warmup = int(settings.warmup_share * total_steps)
    if step < warmup:
        if settings.schedule == "log_warmup_linear" and warmup > 1:
            return min(1.0, math.log(step + 2) / math.log(warmup))
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    left = (total_steps - step) / max(1, total_steps - warmup)
    return 0.5 - 0.5 * math.cos(math.pi * left) if settings.schedule == "cosine" else left


def policy_step(
    policy: Policy,
    descent: Descent,
    episodes: Sequence[Episode],
    reference: Sequence[Sequence[float]] | None,
    train: Train,
) -> dict[str, float]:
    """One optimizer step on the policy loss; returns its sums and means for the metrics."""
    loss, temperature = train.loss, train.sampling.temperature
    batch = collate(episodes, 0, reference)
    lengths = batch.lengths.tolist()
    if loss.scope == "batch":
        batch, tokens, sequences = whiten_and_count(batch, loss)
        scopes = {"denominator": tokens, "sequences": sequences}
        groups = micro_batches(lengths, train.optimizer.micro_batch_tokens, loss.micro_batch_episodes)
    else:
        scopes = {}
        groups = micro_batches(lengths, train.optimizer.micro_batch_tokens, loss.micro_batch_episodes, sort=False)
    sums: dict[str, float] = {}
    for rows in groups:
        part = take(batch, rows)
        logprobs, entropy = policy.token_logprobs(part.input_ids, temperature)
        out = policy_loss(logprobs, part, loss, **scopes)
        (out.loss if scopes else out.loss / len(groups)).backward()
        _add(sums, out, 1.0 if scopes else 1 / len(groups))
        sums["entropy"] = sums.get("entropy", 0.0) + float((entropy * part.response_mask).sum())
    sums["response_tokens"] = float(batch.response_mask.sum())
    _check_loss(sums["loss"], episodes)
    if scopes and sums["ratio"] > loss.max_mean_ratio * max(1.0, sums["tokens"]):
        descent.clear()
        return sums | {"skipped": 1.0, "grad_norm": 0.0, "lr": 0.0}
    norm, lr = descent.step()
    return sums | {"grad_norm": norm, "lr": lr}


def nll_step(policy: Policy, descent: Descent, episodes: Sequence[Episode]) -> dict[str, float]:
    """One optimizer step on the negative log-likelihood of the responses."""
    batch = collate(episodes, 0)
    tokens = float(batch.response_mask.sum())
    sums: dict[str, float] = {}
    for rows in micro_batches(batch.lengths.tolist(), descent.settings.micro_batch_tokens):
        part = take(batch, rows)
        logprobs, _ = policy.token_logprobs(part.input_ids, 1.0)
        out = nll_loss(logprobs, part.response_mask, denominator=tokens)
        out.loss.backward()
        _add(sums, out, 1.0)
    _check_loss(sums["loss"], episodes)
    norm, lr = descent.step()
    return sums | {"grad_norm": norm, "lr": lr}


def _add(sums: dict[str, float], out: LossOut, weight: float) -> None:
    sums["loss"] = sums.get("loss", 0.0) + weight * float(out.loss.detach())
    for name, value in out.metrics.items():
        sums[name] = sums.get(name, 0.0) + float(value)


def _check_loss(loss: float, episodes: Sequence[Episode]) -> None:
    if not math.isfinite(loss):
        problems = ", ".join(sorted({episode.problem_id for episode in episodes})[:4])
        raise RunFailure(f"loss is {loss} (problems {problems}, ...); nothing was updated: lower optimizer.lr")
