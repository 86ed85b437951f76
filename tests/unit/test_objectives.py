"""The other objectives: values worked out by hand, parts that add up, and gradients where they belong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spo.batching import collate, take
from spo.objectives import nll_loss, policy_iteration_loss, preference_loss, value_loss
from spo.settings import Accepted, Loss
from spo.training.optimize import OBJECTIVES
from spo.types import Episode
from tests import tiny


def episode(old, advantage, prompt=(1, 2)) -> Episode:
    n = len(old)
    return Episode("p", prompt, tuple(range(3, 3 + n)), tuple(old), (advantage,) * n)


# Rows of 2 and 1 response tokens after a prompt of 2: columns 1-2 and 1.
ROWS = [episode((-1.0, -2.0), 0.5), episode((-0.5,), -0.25)]
REFERENCE = [(-1.5, -2.5), (-0.25,)]
NEW = torch.tensor([[9.0, -0.75, -1.75], [9.0, -1.0, 9.0]])


def test_nll():
    logprobs = torch.tensor([[-1.0, -3.0, float("nan")], [-2.0, -6.0, -1.0]])
    mask = torch.tensor([[True, True, False], [False, True, False]])
    out = nll_loss(logprobs, mask)
    assert out.loss.item() == pytest.approx(10 / 3)
    assert (out.metrics["nll"], out.metrics["tokens"]) == (10, 3)
    parts = [nll_loss(logprobs[row : row + 1], mask[row : row + 1], denominator=3.0).loss for row in (0, 1)]
    assert sum(parts).item() == pytest.approx(10 / 3)
    assert nll_loss(logprobs, torch.zeros_like(mask)).loss == 0


def test_policy_iteration():
    # Row 1: log pi = -2.5, old -3, ref -4: w = e^.5, (.1 * 1.5 - .5)^2 = .1225. Row 2: -1, -.5, -.25: w = e^-.5,
    # (.1 * -.75 + .25)^2 = .030625.
    batch = collate(ROWS, 0, REFERENCE)
    out = policy_iteration_loss(NEW, batch, beta=0.1)
    expected = (0.5 * math.exp(0.5) * 0.1225 + 0.5 * math.exp(-0.5) * 0.030625) / 2
    assert out.loss.item() == pytest.approx(expected, abs=1e-6)
    assert out.metrics["weight"].item() == pytest.approx(math.exp(0.5) + math.exp(-0.5), abs=1e-6)
    assert (out.metrics["tokens"], out.metrics["sequences"], out.metrics["kl_tokens"]) == (3, 2, 3)
    # Alone, the second row has a column less.
    alone = ((NEW[:1], [0]), (NEW[1:, :2], [1]))
    parts = [policy_iteration_loss(new, take(batch, rows), 0.1, sequences=2.0) for new, rows in alone]
    assert sum(part.loss for part in parts).item() == pytest.approx(expected, abs=1e-6)


def test_policy_iteration_whitens_each_micro_batch_over_tokens_below_the_mask():
    """Spec §1.5, worked out by hand: two micro-batches of two sequences, beta .1, policy = old = reference.

    Masked-in advantages of the first: 1, 1, 0 (three tokens below .9): mean 2/3, unbiased variance 1/3, so that the
    targets are .577350 and -1.154701; of the second: 0, 0, 1, 1 (no token below .9, so all): mean .5, variance 1/3, so
    that they are -.866025 and .866025. The loss is w/2 (0 - A)^2 with w = 1, the mean of two, then of micro-batches.
    """
    sure, unsure = -0.01, -1.0
    rows = [episode((unsure, unsure, sure), 1.0), episode((unsure,), 0.0)]
    rows += [episode((sure, sure), 0.0), episode((sure, sure), 1.0)]
    batch = collate(rows, 0, [row.old_logprobs for row in rows])
    loss = Loss(objective="policy_iteration", beta=0.1, whiten=True, probability_mask=0.9, scope="micro_batch",
                micro_batch_episodes=2)  # fmt: skip
    train = replace(tiny.BASE, loss=loss)
    plan = OBJECTIVES["policy_iteration"].plan(batch, train)
    assert [list(group) for group in plan.groups] == [[0, 1], [2, 3]]
    parts = [plan.loss(take(batch, group).old_logprobs, take(batch, group)).loss.item() for group in plan.groups]
    assert parts == pytest.approx([(1 / 3 + 4 / 3) / 8, (0.75 + 0.75) / 8], abs=1e-6)
    # Over the whole batch the seven tokens below the mask or, without one, all: here 1, 1, 0 of the first two rows.
    plan = OBJECTIVES["policy_iteration"].plan(batch, replace(train, loss=replace(loss, scope="batch")))
    targets = [row[mask][0].item() for row, mask in zip(plan.batch.advantages, plan.batch.response_mask, strict=True)]
    assert targets == pytest.approx([0.577350, -1.154701, -1.154701, 0.577350], abs=1e-5)
    # Without `whiten` they are the advantages themselves.
    plan = OBJECTIVES["policy_iteration"].plan(batch, replace(train, loss=replace(loss, whiten=False)))
    assert plan.loss(batch.old_logprobs, batch).loss.item() == pytest.approx((1 + 0 + 0 + 1) / 2 / 4 / 2)


def test_restem_learns_the_likelihood_at_its_temperature():
    batch = collate(ROWS, 0)
    for temperature in (1.0, 0.6):
        train = replace(tiny.BASE, credit=Accepted(temperature=temperature))
        assert OBJECTIVES["nll"].plan(batch, train).temperature == temperature


def test_the_weight_of_a_sequence_is_bounded_and_passes_no_gradient():
    # One token: log pi = -.1, old -9: w = min(e^8.9, 10) = 10; d/dlogp of 5 (.1 (logp + .1) - 1)^2 at -.1 is
    # 10 * .1 * (0 - 1) = -1.
    batch = collate([episode((-9.0,), 1.0)], 0, [(-0.1,)])
    new = torch.tensor([[0.0, -0.1]], requires_grad=True)
    out = policy_iteration_loss(new, batch, beta=0.1)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(5.0) and out.metrics["weight"] == 10
    assert new.grad.tolist() == [[0.0, pytest.approx(-1.0)]]


def test_policy_iteration_is_at_its_optimum_where_the_log_ratio_is_the_advantage_over_beta():
    batch = collate([episode((-3.0, -3.0), 0.2)], 0, [(-3.0, -3.0)])
    new = torch.tensor([[0.0, -2.0, -2.0]], requires_grad=True)
    out = policy_iteration_loss(new, batch, beta=0.1)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(0.0, abs=1e-12) and not new.grad.abs().max() > 1e-6


def test_preferences():
    # Accepted: log pi - log ref = -2.5 + 4 = 1.5; rejected: -1 + .25 = -.75. No penalty, since the first has gained.
    batch = collate(ROWS, 0, REFERENCE)
    out = preference_loss(NEW, batch, beta=0.3, penalty=50.0)
    assert out.loss.item() == pytest.approx(math.log1p(math.exp(-0.3 * 2.25)), abs=1e-6)
    assert {name: value.item() for name, value in out.metrics.items()} == {
        "tokens": 3,
        "pairs": 1,
        "preferred": 1,
        "gain": 1.5,
        "margin": 2.25,
    }
    # The other way round the accepted response has lost .75: .3 (-.75 - 1.5 - 50 * .75) = -11.925.
    turned = collate(ROWS[::-1], 0, REFERENCE[::-1])
    out = preference_loss(NEW.flip(0), turned, beta=0.3, penalty=50.0)
    assert out.loss.item() == pytest.approx(11.925 + math.log1p(math.exp(-11.925)), abs=1e-5)
    assert out.metrics["preferred"] == 0


def test_pairs_add_up_to_their_batch():
    batch = collate(ROWS + ROWS[::-1], 0, REFERENCE + REFERENCE[::-1])
    new = torch.cat((NEW, NEW.flip(0)))
    whole = preference_loss(new, batch, 0.3, 1.0)
    parts = [preference_loss(new[r : r + 2], take(batch, [r, r + 1]), 0.3, 1.0, pairs=2.0) for r in (0, 2)]
    assert sum(part.loss for part in parts).item() == pytest.approx(whole.loss.item(), abs=1e-6)


def test_half_a_pair_and_a_missing_reference_are_errors():
    with pytest.raises(ValueError, match="in pairs"):
        preference_loss(NEW[:1], collate(ROWS[:1], 0, REFERENCE[:1]), 0.3, 0.0)
    with pytest.raises(ValueError, match="ref_logprobs"):
        preference_loss(NEW, collate(ROWS, 0), 0.3, 0.0)
    with pytest.raises(ValueError, match="ref_logprobs"):
        policy_iteration_loss(NEW, collate(ROWS, 0), 0.1)


OLD_VALUES = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
RETURNS = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_value_loss():
    # .9 is clipped to .7, whose error .3 is the larger one; .6 keeps its .4; .8 has error .8, more than the clipped .7.
    values = torch.tensor([[0.9, 0.6, 7.0], [0.8, 7.0, 7.0]])
    out = value_loss(values, OLD_VALUES, RETURNS, MASK, 0.2)
    assert out.loss.item() == pytest.approx((0.3**2 + 0.4**2 + 0.8**2) / 6, abs=1e-6)
    assert out.metrics["squared_error"].item() == pytest.approx(0.1**2 + 0.4**2 + 0.8**2, abs=1e-6)
    free = value_loss(values, OLD_VALUES, RETURNS, MASK, None)
    assert free.loss.item() == pytest.approx((0.1**2 + 0.4**2 + 0.8**2) / 6, abs=1e-6)
    assert value_loss(values, OLD_VALUES, RETURNS, torch.zeros_like(MASK)).loss == 0


def test_a_value_that_has_moved_far_enough_is_not_pulled_further():
    values = torch.tensor([[0.9, 0.6, 0.0], [0.8, 0.0, 0.0]], requires_grad=True)
    value_loss(values, OLD_VALUES, RETURNS, MASK, 0.2).loss.backward()
    # Mean of halved squares over three tokens: (v - R) / 3; none for the first, which is beyond the bound on its way.
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, -0.4, 0.0], [0.8, 0.0, 0.0]]) / 3)


numbers = st.lists(st.floats(-1, 2, width=32), min_size=3, max_size=3)


@given(numbers, numbers, numbers)
def test_clipping_never_makes_the_value_loss_smaller(values, old, returns):
    rows = [torch.tensor([row]) for row in (values, old, returns)]
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert value_loss(*rows, mask, 0.2).loss >= value_loss(*rows, mask, None).loss - 1e-6
