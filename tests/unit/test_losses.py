"""The policy loss: golden values of the official code (spec §11.3-11.4), hand-made cases and invariants."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spo.batching import Batch, collate, take
from spo.losses import kl_k3, masked_whiten, policy_loss, probability_mask, whiten_and_count
from spo.settings import Loss
from spo.types import Episode

#: The official code's choices; `scope` only tells the trainer on what to call `policy_loss`.
OFFICIAL = Loss(kl_coefficient=1e-2, kl_over="mask", kl_reduction="sequence_sum", scope="micro_batch")

# Row 1 has three response tokens after a prompt of two (columns 1-3), row 2 two (columns 1-2).
MASK = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 0]], dtype=torch.bool)
OLD = torch.tensor([[-1e9, -0.5, -0.05, -1.2], [-1e9, -0.3, -0.9, -1e9]])
NEW = torch.tensor([[0, -0.4, -0.04, -1.6], [0, -0.32, -0.2, 0]])
REF = torch.tensor([[-1e9, -0.55, -0.06, -1.1], [-1e9, -0.25, -1.0, -1e9]])
ADVANTAGES = torch.tensor([[0, 1, 1, -1.0], [0, 0.5, 0.5, 0]])
GOLDEN = Batch(torch.ones(2, 5, dtype=torch.int64), torch.tensor([5, 4]), MASK, OLD, ADVANTAGES, REF)


def share(metrics: dict, name: str, of: str = "tokens") -> float:
    return (metrics[name] / metrics[of]).item()


@pytest.mark.parametrize(
    ("threshold", "loss", "clip_fraction", "mean_ratio", "kl_term"),
    [(0.9, -0.346761, 0.5, 1.192361, 0.002056), (None, -0.479007, 0.4, 1.155898, 0.002057)],
)
def test_golden_loss(threshold, loss, clip_fraction, mean_ratio, kl_term):
    out = policy_loss(NEW, GOLDEN, replace(OFFICIAL, probability_mask=threshold))
    assert out.loss.item() == pytest.approx(loss, abs=1e-6)
    assert share(out.metrics, "clipped") == pytest.approx(clip_fraction)
    assert share(out.metrics, "ratio") == pytest.approx(mean_ratio, abs=1e-6)
    assert 1e-2 * out.metrics["kl"].item() / 2 == pytest.approx(kl_term, abs=1e-6)
    assert out.metrics["skipped"] == 0


def test_golden_batch_made_of_episodes():
    episodes = [
        Episode("1", (1, 2), (3, 4, 5), (-0.5, -0.05, -1.2), (1, 1, -1)),
        Episode("2", (1, 2), (3, 4), (-0.3, -0.9), (0.5, 0.5)),
    ]
    batch = collate(episodes, pad_id=0, ref_logprobs=[(-0.55, -0.06, -1.1), (-0.25, -1.0)])
    out = policy_loss(NEW, batch, replace(OFFICIAL, probability_mask=0.9))
    assert out.loss.item() == pytest.approx(-0.346761, abs=1e-6)


def test_paper_form_charges_kl_everywhere_and_divides_by_z():
    # With the mask Z = 4; KL over the five response tokens is 2 * .2057 = .4114 in sum.
    paper = Loss(probability_mask=0.9, kl_coefficient=1e-2)
    out = policy_loss(NEW, GOLDEN, paper)
    without = policy_loss(NEW, GOLDEN, replace(paper, kl_coefficient=0.0))
    assert (out.metrics["tokens"], out.metrics["kl_tokens"]) == (4, 5)
    assert (out.loss - without.loss).item() == pytest.approx(1e-2 * out.metrics["kl"].item() / 4, abs=1e-7)
    assert out.metrics["kl"].item() == pytest.approx(2 * 0.2057, abs=1e-4)


WHITENING_MASK = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
WHITENING_VALUES = torch.tensor([[0, 0.5, 0.5, 0], [0.25, 0, -0.25, 0]])
WHITENING_LOGPROBS = torch.tensor([[1, 0.5, 0.95, 0.3], [0.2, 0.97, 0.6, 1]]).log()


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.9, [[-0.3873, 1.1619, 1.1619, -0.3873], [0.3873, -0.3873, -1.1619, -0.3873]]),
        (None, [[-0.5505, 1.1010, 1.1010, -0.5505], [0.2752, -0.5505, -1.3762, -0.5505]]),
    ],
)
def test_golden_whitening(threshold, expected):
    mask = probability_mask(WHITENING_LOGPROBS, WHITENING_MASK, threshold)
    torch.testing.assert_close(masked_whiten(WHITENING_VALUES, mask), torch.tensor(expected), atol=5e-5, rtol=0)
    batch = Batch(*GOLDEN[:2], WHITENING_MASK, WHITENING_LOGPROBS, WHITENING_VALUES, None)
    whitened, count, sequences = whiten_and_count(batch, Loss(whiten=True, probability_mask=threshold))
    torch.testing.assert_close(whitened.advantages, torch.tensor(expected), atol=5e-5, rtol=0)
    assert (count, sequences) == (4.0 if threshold else 6.0, 2.0)


def test_whitening_without_spread_is_defined():
    values = torch.tensor([0.25, 0.5])
    for mask in ([False, False], [True, False]):
        assert torch.equal(masked_whiten(values, torch.tensor(mask)), values)
    assert masked_whiten(torch.tensor([0.25, 0.25]), torch.tensor([True, True])).tolist() == [0.0, 0.0]


def test_whitening_falls_back_to_all_response_tokens_when_the_mask_is_empty():
    batch = GOLDEN._replace(old_logprobs=torch.zeros(2, 4))
    whitened, count, _ = whiten_and_count(batch, Loss(whiten=True, probability_mask=0.9))
    assert count == 0.0
    assert whitened.advantages[MASK].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert whitened.advantages[MASK].var().item() == pytest.approx(1.0, abs=1e-5)


def test_whitening_over_the_response_leaves_the_loss_masked():
    """Official PPO (spec §4.3): the golden values without mask, though the mask is on (spec §11.4)."""
    batch = Batch(*GOLDEN[:2], WHITENING_MASK, WHITENING_LOGPROBS, WHITENING_VALUES, None)
    loss = Loss(whiten=True, probability_mask=0.9, whiten_over="response")
    whitened, count, _ = whiten_and_count(batch, loss)
    expected = [[-0.5505, 1.1010, 1.1010, -0.5505], [0.2752, -0.5505, -1.3762, -0.5505]]
    torch.testing.assert_close(whitened.advantages, torch.tensor(expected), atol=5e-5, rtol=0)
    assert count == 4.0


def test_kl_of_a_token_is_bounded():
    """Authors' run of Fig. 3 (spec §9): d = -3 and 3 give k3 = e^-3 + 2 = 2.049787 and e^3 - 4 = 16.085537, of which 10
    count; a token beyond the bound passes no gradient."""
    episode = Episode("p", (1,), (2, 3), (-1.0, -4.0), (0.0, 0.0))
    batch = collate([episode], 0, [(-4.0, -1.0)])
    for bound, expected in ((None, 18.135324), (10.0, 12.049787)):
        new = torch.tensor([[-1.0, -4.0]], requires_grad=True)
        loss = Loss(kl_coefficient=1.0, kl_reduction="sequence_sum", kl_clip=bound)
        out = policy_loss(new, batch, loss)
        out.loss.backward()
        assert out.loss.item() == pytest.approx(expected, abs=1e-5)
        assert bool(new.grad[0, 1]) == (bound is None) and new.grad[0, 0] != 0


def test_probability_mask_is_strict_and_stays_inside_the_given_mask():
    logprobs = torch.tensor([math.log(0.9), math.log(0.8999), -5.0])
    inside = torch.tensor([True, True, False])
    assert probability_mask(logprobs, inside, 0.9).tolist() == [False, True, False]
    assert probability_mask(logprobs, inside, 0.0).tolist() == [False, False, False]
    assert probability_mask(logprobs, inside, None).tolist() == [True, True, False]


@pytest.mark.parametrize("kl_over", ["all", "mask"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_sum"])
def test_a_batch_without_a_masked_in_token_gives_a_finite_loss(kl_over, reduction):
    batch = GOLDEN._replace(old_logprobs=torch.zeros(2, 4))
    new = NEW.clone().requires_grad_()
    out = policy_loss(new, batch, Loss(probability_mask=0.9, whiten=True, kl_over=kl_over, kl_reduction=reduction))
    out.loss.backward()
    assert torch.isfinite(out.loss) and torch.isfinite(new.grad).all()
    if (kl_over, reduction) != ("all", "sequence_sum"):
        assert out.loss == 0 and not new.grad.any()


def test_missing_reference_is_refused_only_where_it_is_needed():
    batch = GOLDEN._replace(ref_logprobs=None)
    assert policy_loss(NEW, batch, Loss(kl_coefficient=0.0)).metrics["kl"] == 0
    with pytest.raises(ValueError, match="ref_logprobs"):
        policy_loss(NEW, batch, Loss())
    with pytest.raises(ValueError, match="sequences"):
        policy_loss(NEW, GOLDEN, OFFICIAL, denominator=5.0)


def test_a_runaway_ratio_is_skipped_in_a_whole_scope_and_left_to_the_caller_in_a_part():
    new = (OLD + 3).requires_grad_()  # every ratio is e^3 = 20
    whole = policy_loss(new, GOLDEN, Loss())
    whole.loss.backward()
    assert whole.loss == 0 and whole.metrics["skipped"] == 1 and not new.grad.any()
    assert share(whole.metrics, "ratio") == pytest.approx(math.e**3, rel=1e-5)
    part = policy_loss(new, GOLDEN, Loss(), denominator=5.0, sequences=2.0)
    assert part.loss != 0 and part.metrics["skipped"] == 0
    assert share(part.metrics, "ratio") > Loss().max_mean_ratio


def test_extreme_log_probabilities_stay_finite():
    new = torch.full((2, 4), -1e4, requires_grad=True)
    for old in (torch.zeros(2, 4), torch.full((2, 4), -2e4)):
        out = policy_loss(new, GOLDEN._replace(old_logprobs=old, ref_logprobs=old), Loss(kl_coefficient=1.0))
        out.loss.backward()
        assert torch.isfinite(out.loss) and torch.isfinite(new.grad).all()


def test_what_stands_outside_the_response_does_not_matter():
    noise = torch.where(MASK, NEW, torch.tensor(float("nan"))).requires_grad_()
    out = policy_loss(noise, GOLDEN, OFFICIAL)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(-0.479007, abs=1e-6)
    assert not noise.grad[~MASK].any() and noise.grad[MASK].isfinite().all()


def test_kl_is_zero_at_equality_and_positive_elsewhere():
    new = torch.tensor([-1.0, -1.0, -1.0, -1.0], requires_grad=True)
    kl = kl_k3(new, torch.tensor([-1.0, -2.0, -0.5, -9.0]), torch.tensor([True, True, True, False]))
    expected = [0.0, math.exp(-1), math.exp(0.5) - 1.5, 0.0]
    assert kl.tolist() == pytest.approx(expected, abs=1e-6)
    kl.sum().backward()
    assert new.grad.tolist() == pytest.approx([0.0, 1 - math.exp(-1), 1 - math.exp(0.5), 0.0], abs=1e-6)


# ---- properties ------------------------------------------------------------------------------------------------------

logprob = st.floats(-5, 0, width=32)
advantage = st.floats(-1, 1, width=32)
losses = st.builds(
    Loss,
    clip_range=st.sampled_from([0.1, 0.2]),
    probability_mask=st.sampled_from([None, 0.9, 0.3]),
    kl_coefficient=st.sampled_from([0.0, 0.1]),
    kl_over=st.sampled_from(["all", "mask"]),
    kl_reduction=st.sampled_from(["token_mean", "sequence_sum"]),
    whiten=st.booleans(),
)


@st.composite
def batches(draw) -> tuple[list[Episode], list[list[float]], list[list[float]]]:
    """Episodes with log-probabilities of a reference and of a policy that has moved a little."""
    episodes, reference, new = [], [], []
    for row in range(draw(st.integers(1, 5))):
        tokens = draw(st.integers(0, 5))
        old, ref = (draw(st.lists(logprob, min_size=tokens, max_size=tokens)) for _ in range(2))
        shift = draw(st.lists(st.floats(-0.5, 0.5, width=32), min_size=tokens, max_size=tokens))
        gains = draw(st.lists(advantage, min_size=tokens, max_size=tokens))
        prompt = (1,) * draw(st.integers(1, 4))
        episodes.append(Episode(f"p{row}", prompt, (2,) * tokens, tuple(old), tuple(gains)))
        reference.append(ref)
        new.append([a + b for a, b in zip(old, shift, strict=True)])
    return episodes, reference, new


def padded(batch: Batch, columns: int) -> Batch:
    """The same batch with more padding."""
    wide = torch.nn.functional.pad
    return batch._replace(
        input_ids=wide(batch.input_ids, (0, columns)),
        **{name: wide(getattr(batch, name), (0, columns)) for name in Batch._fields[2:]},
    )


def loss_and_gradients(parts, new, loss, total, sequences):
    """Sum of the losses of `parts` (rows, batch) and the gradient of every response token, by row."""
    value, gradients = 0.0, {}
    for rows, batch in parts:
        logprobs = torch.zeros(batch.response_mask.shape, dtype=torch.float64)
        logprobs[batch.response_mask] = torch.tensor([x for row in rows for x in new[row]], dtype=torch.float64)
        logprobs.requires_grad_()
        out = policy_loss(logprobs, batch, loss, denominator=total, sequences=sequences)
        out.loss.backward()
        value += out.loss.item()
        for at, row in enumerate(rows):
            gradients[row] = logprobs.grad[at][batch.response_mask[at]].tolist()
    return value, [x for row in sorted(gradients) for x in gradients[row]]


@settings(deadline=None)
@given(batches(), losses, st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_split_order_and_padding_gives_the_same_loss_and_gradient(drawn, loss, columns, random):
    episodes, reference, new = drawn
    rows = list(range(len(episodes)))
    whole = collate(episodes, 0, reference)
    value, gradients = loss_and_gradients([(rows, whole)], new, loss, None, None)

    ready, total, sequences = whiten_and_count(whole, loss)
    random.shuffle(rows)
    edges = sorted({0, len(rows), *(random.randrange(len(rows) + 1) for _ in range(2))})
    groups = [rows[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    parts = [(group, padded(take(ready, group), columns)) for group in groups]
    split_value, split_gradients = loss_and_gradients(parts, new, loss, total, sequences)
    assert split_value == pytest.approx(value, abs=1e-6)
    assert split_gradients == pytest.approx(gradients, abs=1e-6)


@settings(deadline=None)
@given(batches(), losses)
def test_the_first_step_is_the_policy_gradient(drawn, loss):
    """Where policy, old policy and reference agree: ratio 1, no KL, no clipping, gradient -A / Z where masked in."""
    episodes, _, _ = drawn
    batch = collate(episodes, 0, [e.old_logprobs for e in episodes])
    new = batch.old_logprobs.clone().requires_grad_()
    out = policy_loss(new, batch, loss)
    out.loss.backward()
    ready, total, _ = whiten_and_count(batch, loss)
    mask = probability_mask(batch.old_logprobs, batch.response_mask, loss.probability_mask)
    torch.testing.assert_close(new.grad, -ready.advantages * mask / max(total, 1.0), atol=1e-6, rtol=1e-5)
    metrics = {name: value.item() for name, value in out.metrics.items()}
    assert (metrics["ratio"], metrics["kl"], metrics["clipped"]) == (total, 0.0, 0.0)


@settings(deadline=None)
@given(batches(), losses)
def test_metrics_add_up_over_parts(drawn, loss):
    episodes, reference, new = drawn
    whole = collate(episodes, 0, reference)
    logprobs = torch.zeros(whole.response_mask.shape, dtype=torch.float64)
    logprobs[whole.response_mask] = torch.tensor([x for row in new for x in row], dtype=torch.float64)
    ready, total, sequences = whiten_and_count(whole, loss)
    together = policy_loss(logprobs, whole, loss).metrics
    apart = []
    for row in range(len(episodes)):
        part = take(ready, [row])
        columns = part.response_mask.shape[1]
        apart.append(policy_loss(logprobs[row : row + 1, :columns], part, loss, denominator=total, sequences=sequences))
    for name in together:
        assert sum(out.metrics[name].item() for out in apart) == pytest.approx(together[name].item(), abs=1e-6)
