"""Optimizer steps from batches of Episodes, in micro-batches. `OBJECTIVES` names what a policy's steps minimise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from spo import finite
from spo.batching import Batch, collate, micro_batches, spread, take
from spo.finite import NotFinite
from spo.losses import LossOut, policy_loss, whiten_and_count, whitened
from spo.methods import share
from spo.methods.world import ValueTarget
from spo.objectives import nll_loss, policy_iteration_loss, preference_loss, value_loss
from spo.policy import Policy, ValueModel
from spo.prefixes import PADDING_ID
from spo.settings import Loss, Train
from spo.training import ranks
from spo.training.descent import Descent
from spo.types import Episode


class Plan(NamedTuple):
    """How one optimizer step is computed: `groups` of rows of `batch` go through the policy together, which gives their
    log-probabilities at `temperature`; the losses of the groups add up."""

    batch: Batch
    groups: Sequence[Sequence[int]]
    loss: Callable[[Tensor, Batch], LossOut]
    temperature: float
    max_mean_ratio: float = math.inf


class Objective(NamedTuple):
    """What a policy's steps minimise: a plan for a batch, and what it needs."""

    plan: Callable[[Batch, Train], Plan]
    compares: Callable[[Loss], bool]
    """Whether it needs log-probabilities under the starting policy."""
    together: int = 1
    """Consecutive Episodes that must be in one batch."""


def policy_step(
    policy: Policy,
    descent: Descent,
    episodes: Sequence[Episode],
    reference: Sequence[Sequence[float]] | None,
    train: Train,
    objective: str,
) -> dict[str, float]:
    """One optimizer step on the objective of that name; returns its sums for the metrics.

    reference: one sequence (T) an episode, log-probabilities under the starting policy; None where the objective does
    not compare. A step whose mean ratio is beyond the limit changes nothing and has `skipped` 1.
    """
    batch = collate(episodes, PADDING_ID, reference)
    plan = OBJECTIVES[objective].plan(batch, train)
    sums = {"response_tokens": float(batch.response_mask.sum())} | _backward(policy, plan, episodes)
    if sums.get("ratio", 0.0) > plan.max_mean_ratio * max(1.0, sums["tokens"]):
        descent.clear()
        return sums | {"skipped": 1.0, "grad_norm": 0.0, "lr": 0.0}
    norm, lr = descent.step()
    return sums | {"grad_norm": norm, "lr": lr}


def nll_step(policy: Policy, descent: Descent, episodes: Sequence[Episode]) -> dict[str, float]:
    """One optimizer step on the negative log-likelihood of the responses."""
    plan = _nll_plan(collate(episodes, PADDING_ID), descent.settings.micro_batch_tokens, temperature=1.0)
    sums = _backward(policy, plan, episodes)
    norm, lr = descent.step()
    return sums | {"grad_norm": norm, "lr": lr}


def value_step(
    critic: ValueModel,
    descent: Descent,
    episodes: Sequence[Episode],
    targets: Sequence[ValueTarget],
    clip_range: float | None,
) -> dict[str, float]:
    """One optimizer step of a critic; returns its sums for the metrics."""
    tokens = float(sum(len(episode.response_ids) for episode in episodes))
    whole = collate(episodes, PADDING_ID)
    sums: dict[str, float] = {}
    for rows in ranks.part(_shared_groups(whole, descent.settings.micro_batch_tokens)):
        batch = take(whole, rows)
        returns = spread([targets[i].returns for i in rows], batch.response_mask)
        old = spread([targets[i].old_values for i in rows], batch.response_mask)
        values = critic.values(batch.input_ids)[:, :-1]
        out = value_loss(values, old, returns, batch.response_mask, clip_range, denominator=tokens)
        out.loss.backward()
        _add(sums, out)
    sums = ranks.added(sums)
    with finite.explained(critic.weights()):
        _check_loss(sums["loss"], episodes)
    descent.step()
    return sums


def _backward(policy: Policy, plan: Plan, episodes: Sequence[Episode]) -> dict[str, float]:
    """Gradients of a plan, of this process's part of the groups, and the sums of all; RunFailure if the loss is not
    finite."""
    sums: dict[str, float] = {"entropy": 0.0}
    for rows in ranks.part(plan.groups):
        part = take(plan.batch, rows)
        logprobs, entropy = policy.token_logprobs(part.input_ids, plan.temperature)
        out = plan.loss(logprobs, part)
        out.loss.backward()
        _add(sums, out)
        sums["entropy"] += float((entropy * part.response_mask).sum())
    sums = ranks.added(sums)
    with finite.explained(policy.weights()):
        _check_loss(sums["loss"], episodes)
    return sums


def _clipped_plan(batch: Batch, train: Train) -> Plan:
    """`loss.scope` says over what Z and whitening are taken, and with it whether rows may be put in another order."""
    loss, temperature = train.loss, train.sampling.temperature
    tokens = train.optimizer.micro_batch_tokens
    if loss.scope == "batch":
        batch, count, sequences = whiten_and_count(batch, loss)
        groups = _shared_groups(batch, tokens, loss.micro_batch_episodes)

        def part_of_batch(logprobs: Tensor, part: Batch) -> LossOut:
            return policy_loss(logprobs, part, loss, denominator=count, sequences=sequences)

        return Plan(batch, groups, part_of_batch, temperature, loss.max_mean_ratio)
    groups = micro_batches(batch.lengths.tolist(), tokens, loss.micro_batch_episodes, sort=False)

    def scope_of_its_own(logprobs: Tensor, part: Batch) -> LossOut:
        out = policy_loss(logprobs, part, loss)
        return out._replace(loss=out.loss / len(groups))

    return Plan(batch, groups, scope_of_its_own, temperature)


def _policy_iteration_plan(batch: Batch, train: Train) -> Plan:
    """`loss.scope` says over what whitening is taken, and whether the mean is over the batch or over micro-batches."""
    loss, tokens, temperature = train.loss, train.optimizer.micro_batch_tokens, train.sampling.temperature
    if loss.scope == "batch":
        batch, sequences = whitened(batch, loss), float(len(batch.lengths))

        def part_of_batch(logprobs: Tensor, part: Batch) -> LossOut:
            return policy_iteration_loss(logprobs, part, loss.beta, sequences=sequences)

        return Plan(batch, _shared_groups(batch, tokens, loss.micro_batch_episodes), part_of_batch, temperature)
    groups = micro_batches(batch.lengths.tolist(), tokens, loss.micro_batch_episodes, sort=False)

    def scope_of_its_own(logprobs: Tensor, part: Batch) -> LossOut:
        out = policy_iteration_loss(logprobs, whitened(part, loss), loss.beta)
        return out._replace(loss=out.loss / len(groups))

    return Plan(batch, groups, scope_of_its_own, temperature)


def _preference_plan(batch: Batch, train: Train) -> Plan:
    """A pass takes whole pairs. Probabilities are those of the policy that samples, at its temperature."""
    beta, penalty, count = train.credit.beta, train.credit.penalty, len(batch.lengths) // 2
    longest = batch.lengths.view(count, 2).max(dim=-1).values
    tokens = (2 * longest).tolist()
    pairs = micro_batches(tokens, share.fair(train.optimizer.micro_batch_tokens, sum(tokens)))
    return Plan(
        batch,
        [[row for pair in group for row in (2 * pair, 2 * pair + 1)] for group in pairs],
        lambda logprobs, part: preference_loss(logprobs, part, beta, penalty, pairs=float(count)),
        train.sampling.temperature,
    )


def _nll_plan(batch: Batch, micro_batch_tokens: int, temperature: float) -> Plan:
    tokens = float(batch.response_mask.sum())
    return Plan(
        batch,
        _shared_groups(batch, micro_batch_tokens),
        lambda logprobs, part: nll_loss(logprobs, part.response_mask, denominator=tokens),
        temperature,
    )


OBJECTIVES: dict[str, Objective] = {
    "clipped": Objective(_clipped_plan, lambda loss: loss.kl_coefficient > 0),
    "policy_iteration": Objective(_policy_iteration_plan, lambda loss: True),
    "preference": Objective(_preference_plan, lambda loss: True, together=2),
    "nll": Objective(
        lambda batch, train: _nll_plan(batch, train.optimizer.micro_batch_tokens, train.credit.temperature),
        lambda loss: False,
    ),
}


def _shared_groups(batch: Batch, max_tokens: int, max_episodes: int | None = None) -> list[tuple[int, ...]]:
    return share.batches(batch.input_ids.numpy(force=True), max_tokens, max_episodes)


def _add(sums: dict[str, float], out: LossOut) -> None:
    sums["loss"] = sums.get("loss", 0.0) + float(out.loss.detach())
    for name, value in out.metrics.items():
        sums[name] = sums.get(name, 0.0) + float(value)


def _check_loss(loss: float, episodes: Sequence[Episode]) -> None:
    if not math.isfinite(loss):
        problems = ", ".join(sorted({episode.problem_id for episode in episodes})[:4])
        raise NotFinite(f"loss is {loss} (problems {problems}, ...)")
