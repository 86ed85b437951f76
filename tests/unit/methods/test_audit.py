"""Audits: estimates against values that are known exactly, and what an audit promises of its random numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spo.errors import UserError
from spo.methods.audit import audit, stream, true_advantages
from spo.methods.estimators import ESTIMATORS, Sampled
from spo.methods.grow import grow
from spo.settings import Audit, Chain, Critic, Group, Partition, Tree
from spo.types import Problem, Trajectory
from tests import coin
from tests.coin import EOS, HEADS, TAILS, VALUES

PROBLEMS = tuple(Problem(f"c{i}", "three coins", "") for i in range(6))
EVERY_COIN = Partition(name="cutpoint_interval", interval=1)
tosses = st.lists(st.sampled_from([TAILS, HEADS]), min_size=3, max_size=3).map(tuple)


def tossed(*coins: tuple[int, ...]) -> Sampled:
    """Finished trajectories with these coins."""
    trajectories = tuple(
        Trajectory(problem.id, (coin.PROMPT,), (*row, EOS), tuple(map(coin.logprob, (*row, EOS))), True)
        for problem, row in zip(PROBLEMS, coins, strict=False)
    )
    return Sampled(PROBLEMS[: len(coins)], trajectories, tuple(float(sum(row) >= 2) for row in coins))


def estimate(credit, sampled: Sampled):
    return ESTIMATORS[credit.kind](stream(coin.world(), "estimator", credit), sampled)


def test_the_truth_is_the_difference_of_exact_values():
    sampled = tossed((HEADS, TAILS, HEADS))
    found = true_advantages(coin.world(), sampled, [(0, 0), (0, 1), (0, 2), (0, 3)], 8_000)
    # V = 0.648, 0.84, 0.6, 1, and the reward 1 after the end.
    assert [found[0, t][0] for t in range(4)] == pytest.approx([0.192, -0.24, 0.4, 0.0], abs=0.025)
    # 0.648 * 0.352 + 0.84 * 0.16 = 0.362496, 0.84 * 0.16 + 0.6 * 0.4 = 0.3744, 0.6 * 0.4 = 0.24, nothing
    variances = [8_000 * found[0, t][1] for t in range(4)]
    assert variances == pytest.approx([0.362496, 0.3744, 0.24, 0.0], abs=0.015)


def test_the_variance_of_the_truth_is_what_repeated_audits_show():
    sampled = tossed((HEADS, TAILS, HEADS))
    runs = [true_advantages(stream(coin.world(), f"try {i}"), sampled, [(0, 0)], 16)[0, 0] for i in range(400)]
    truths, variances = np.array(runs).T
    assert truths.mean() == pytest.approx(0.192, abs=0.02)
    assert variances.mean() == pytest.approx(truths.var(), rel=0.2)


@given(tosses)
def test_a_critic_that_is_right_gives_reward_minus_value(row):
    found = estimate(Critic(), tossed(row))
    reward = float(sum(row) >= 2)
    assert found.advantages[0].tolist() == pytest.approx([reward - VALUES[row[:t]] for t in range(4)])
    assert found.generated_tokens == 1.0


@given(tosses)
def test_a_critic_with_lambda_0_that_is_right_gives_the_truth(row):
    found = estimate(Critic(lam=0.0), tossed(row))
    expected = [VALUES[row[: t + 1]] - VALUES[row[:t]] for t in range(3)]
    assert found.advantages[0].tolist() == pytest.approx([*expected, 0.0])


@settings(max_examples=8, deadline=None)
@given(tosses)
def test_chain_with_many_rollouts_and_a_cut_at_every_token_gives_the_truth(row):
    found = estimate(Chain(partition=EVERY_COIN, rollouts_per_cut=1500), tossed(row))
    ends = [VALUES[row[:t]] for t in range(4)]
    # The last segment is the last coin and the end.
    expected = np.diff(ends).tolist()
    assert found.advantages[0].tolist() == pytest.approx([*expected, expected[-1]], abs=0.07)


def test_what_a_chain_costs_counts_the_first_state_once_for_all_responses_to_a_problem():
    # 10 rollouts from states 4, 3 and 2 tokens before the end; 4 responses share the first: 10 * (4 / 4 + 3 + 2) for 4.
    credit = Chain(partition=EVERY_COIN, rollouts_per_cut=10, samples_per_problem=4)
    assert estimate(credit, tossed((HEADS, TAILS, HEADS))).generated_tokens == pytest.approx(1 + 60 / 4)


def test_a_group_is_the_trajectory_and_fresh_ones_undivided():
    mean = estimate(Group(samples_per_problem=2000), tossed((HEADS, HEADS, TAILS), (TAILS, TAILS, HEADS)))
    assert [row[0] for row in mean.advantages] == pytest.approx([1 - 0.648, -0.648], abs=0.04)
    assert all(len(set(row.tolist())) == 1 for row in mean.advantages)
    others = estimate(Group(samples_per_problem=2, baseline="leave_one_out"), tossed((HEADS, HEADS, TAILS)))
    assert others.advantages[0][0] in (0.0, 1.0)  # reward 1 minus that of the one other
    alone = estimate(Group(samples_per_problem=1), tossed((HEADS, HEADS, TAILS)))
    assert alone.advantages[0].tolist() == [0.0] * 4


@settings(max_examples=30, deadline=None)
@given(tosses, st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 5))
def test_a_planted_tree_contains_the_trajectory(row, tokens, branches, seed):
    sampled = tossed(row)
    world = stream(coin.world(), str(seed), Tree(branches=tuple(branches), segment_tokens=tokens))
    nodes = grow(world, sampled.problems, planted=dict(enumerate(sampled.trajectories)))
    path = [node for node in nodes if node.parent >= 0 and not any(node.path)]
    assert sum((node.sample.response_ids for node in path), ()) == (*row, EOS)
    assert [node.sample.finished for node in path] == [False] * (len(path) - 1) + [True]
    free = grow(world, sampled.problems)
    for node in nodes:
        children = [child for child in nodes if child.parent >= 0 and nodes[child.parent] is node]
        ended = node.sample.finished or len(node.path) == len(branches)
        assert len(children) == (0 if ended else branches[len(node.path)])
    # Siblings along the path are what the tree would have had anyway.
    first = {node.path: node.sample for node in free if len(node.path) == 1}
    assert all(node.sample == first[node.path] for node in nodes if len(node.path) == 1 and any(node.path))


def test_a_wide_tree_along_the_coins_gives_the_truth():
    # Level by level one coin; the node's value is the mean over 24 children, so about the exact value of the state.
    found = estimate(Tree(branches=(24, 24, 24), segment_tokens=1), tossed((HEADS, TAILS, HEADS)))
    # Its last segment is the last coin with the end.
    assert found.advantages[0].tolist() == pytest.approx([0.192, -0.24, 0.4, 0.4], abs=0.15)


def test_rows_have_what_readers_need():
    plan = Audit(
        tokens_per_trajectory=2,
        truth_rollouts=8,
        estimators={"group": Group(), "chain": Chain(), "tree": Tree(branches=(2, 2)), "critic": Critic()},
    )
    rows = audit(coin.world(), PROBLEMS, plan)
    assert rows == audit(coin.world(), PROBLEMS, plan)
    assert len(rows) == 2 * len(PROBLEMS) and {row["problem_id"] for row in rows} == {p.id for p in PROBLEMS}
    for row in rows:
        assert row["position"] in (0, 1, 2) and row["probability"] == pytest.approx(0.5, abs=0.11)
        assert list(row["estimates"]) == list(row["generated_tokens"]) == ["group", "chain", "tree", "critic"]
        assert -1 <= row["truth"] <= 1 and 0 <= row["truth_variance"] <= 0.5 / 7
    assert audit(stream(coin.world(), "another seed"), PROBLEMS, plan) != rows


def test_estimators_share_no_noise():
    """Two of the same kind make different errors; shared random numbers would make them equal."""
    credit = Chain(partition=EVERY_COIN, rollouts_per_cut=2)
    plan = Audit(tokens_per_trajectory=3, truth_rollouts=2, estimators={"one": credit, "other": credit})
    rows = audit(coin.world(), PROBLEMS, plan)
    one, other, truth = (
        np.array(each)
        for each in zip(*((r["estimates"]["one"], r["estimates"]["other"], r["truth"]) for r in rows), strict=True)
    )
    assert (one != other).any() and (one != truth).any()


def test_a_critic_is_asked_for_by_name():
    plan = Audit(estimators={"PPO's critic": Critic()})
    with pytest.raises(UserError, match=r"audit: estimators\.PPO's critic: needs a critic"):
        audit(replace(coin.world(), critic=None), PROBLEMS, plan)
