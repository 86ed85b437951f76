from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spo.analysis import stats
from spo.errors import UserError


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(3, 30, 0.0346, 0.2562), (10, 30, 0.1923, 0.5122), (368, 500, 0.6957, 0.7727), (310, 500, 0.5767, 0.6615)],
)
def test_wilson_matches_published_intervals(correct, n, low, high):
    assert stats.wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_the_ends_and_other_levels():
    # With nothing correct the upper end is z² / (n + z²) = 3.8415 / 13.8415.
    assert stats.wilson(0, 10) == (0.0, pytest.approx(0.27753, abs=1e-5))
    assert stats.wilson(10, 10) == (pytest.approx(0.72247, abs=1e-5), 1.0)
    assert stats.wilson(5, 10, level=0.5) > stats.wilson(5, 10, level=0.95)
    for wrong in ((-1, 10), (11, 10), (0, 0)):
        with pytest.raises(UserError, match="is not a share"):
            stats.wilson(*wrong)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_stays_within_bounds(case):
    correct, n = case
    low, high = stats.wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    mirrored = stats.wilson(n - correct, n)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)


def test_mean_over_seeds_by_hand():
    # Seed means 0.75 and 0.25: variance 0.125, /2 = 0.0625 with 1 degree of freedom. Problem means 1, 0.5, 0.5, 0:
    # variance 1/6, /4 = 0.041667 with 3. Sum 0.104167, degrees 0.104167² / (0.0625² / 1 + 0.041667² / 3) = 2.41935.
    correct = np.array([[1, 1, 1, 0], [1, 0, 0, 0]])
    variance, freedom = stats._variance(correct.mean(axis=0), correct)
    assert variance == pytest.approx(0.1041667, abs=1e-7)
    assert freedom == pytest.approx(2.41935, abs=1e-5)
    estimate = stats.mean_over_seeds(correct)
    # Effective draws 0.25 / 0.104167 = 2.4; Wilson with t = 3.66137 and share 0.5 is 0.5 ± t/2 / sqrt(n + t²).
    t = 3.66137
    half = t / 2 / (2.4 + t**2) ** 0.5
    assert estimate == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-5)


def test_one_seed_gives_wilson_and_certainty_gives_wilson():
    one = np.array([[1.0] * 10 + [0.0] * 20])
    assert stats.mean_over_seeds(one) == pytest.approx((1 / 3, *stats.wilson(10, 30)))
    assert stats.mean_over_seeds(np.ones((3, 20))) == (1.0, stats.wilson(20, 20)[0], 1.0)


def test_seeds_that_disagree_widen_the_interval():
    generator = np.random.default_rng(0)
    level = generator.random((1, 400)) < 0.5
    agreeing = np.repeat(level, 3, axis=0)
    disagreeing = generator.random((3, 400)) < np.array([[0.3], [0.5], [0.7]])
    widths = [high - low for _, low, high in map(stats.mean_over_seeds, (agreeing, disagreeing))]
    assert widths[1] > 2 * widths[0]


def test_paired_difference_by_hand():
    # Problem gaps 0.5, 1, 0.5, 0.5: mean 0.625, variance 0.0625, /4 = 0.015625 (3). Seed means of the first 0.75, 1:
    # variance 0.03125, /2 = 0.015625 (1); of the second 0.25, 0.25: 0 (1). Sum 0.03125; degrees of freedom
    # 0.03125² / (0.015625² / 3 + 0.015625²) = 4 / (4/3) = 3. Standard error 0.176777, t(3) = 3.18245.
    first, second = np.array([[1, 1, 1, 0], [1, 1, 1, 1]]), np.array([[1, 0, 0, 0], [0, 0, 1, 0]])
    difference = stats.paired_difference(first, second)
    assert difference.value == 0.625
    assert (difference.low, difference.high) == pytest.approx((0.625 - 0.562584, 0.625 + 0.562584), abs=1e-5)
    assert difference.p_value == pytest.approx(0.03846, abs=1e-4)
    assert difference.told_apart


def test_paired_difference_is_tighter_than_two_intervals_on_shared_problems():
    generator = np.random.default_rng(3)
    ease = generator.random(500)
    base = (ease < 0.5).astype(float)[None]
    better = (ease < 0.56).astype(float)[None]
    difference = stats.paired_difference(better, base)
    assert difference.told_apart
    assert stats.mean_over_seeds(better).low < stats.mean_over_seeds(base).high


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_paired_difference_is_antisymmetric(first_seeds, second_seeds, problems, seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 2, (first_seeds, problems))
    second = generator.integers(0, 2, (second_seeds, problems))
    there, back = stats.paired_difference(first, second), stats.paired_difference(second, first)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)
    assert there.told_apart == (there.p_value < 0.05) or there.p_value == pytest.approx(0.05, abs=1e-6)


def test_paired_difference_needs_the_same_problems():
    with pytest.raises(UserError, match="3 problems against 4"):
        stats.paired_difference(np.ones((1, 3)), np.ones((1, 4)))
    with pytest.raises(UserError, match="matrix of seeds by problems"):
        stats.paired_difference(np.ones(3), np.ones(3))


def test_difference_of_runs_by_hand():
    # Means 0.6 and 0.35; variances 0.01 / 3 and 0.005 / 2: error 0.076376, degrees of freedom
    # 0.0058333² / (0.0033333² / 2 + 0.0025² / 1) = 2.88235; t = 3.25721.
    difference = stats.difference_of_runs(np.array([0.5, 0.6, 0.7]), np.array([0.3, 0.4]))
    half = 3.25721 * 0.076376
    assert difference[:3] == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-4)
    # One method against 0 is Student's t, as in mean_of_runs.
    alone = np.array([0.5, 0.6, 0.7])
    assert stats.difference_of_runs(alone)[:3] == pytest.approx(stats.mean_of_runs(alone))


def test_difference_of_runs_needs_two_seeds_to_tell_anything():
    for arms in (([0.9], [0.1, 0.2]), ([0.9, 0.8], [0.1]), ([0.9],)):
        difference = stats.difference_of_runs(*map(np.array, arms))
        assert (difference.low, difference.high, difference.p_value) == (-np.inf, np.inf, 1.0)
        assert not difference.told_apart
    assert stats.difference_of_runs(np.array([0.5, 0.5]), np.array([0.2, 0.2])) == pytest.approx((0.3, 0.3, 0.3, 0))


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04, and the last at least the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.4, 0.3], [0.6, 0.6]),
        ([0.7, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert stats.holm(np.array(p_values)).tolist() == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_keeps_the_order_and_never_lowers(p_values, random):
    adjusted = stats.holm(np.array(p_values))
    assert (adjusted >= np.array(p_values)).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()
    places = random.sample(range(len(p_values)), len(p_values))
    assert stats.holm(np.array(p_values)[places]).tolist() == pytest.approx(adjusted[places].tolist())


@pytest.mark.parametrize("seed_spread", [0.0, 0.15, 0.5])
def test_intervals_cover_the_truth_with_three_seeds(seed_spread):
    """Accuracy of new seeds on new problems, and a difference that is 0: inside at least 91 times of 100 each."""
    generator = np.random.default_rng(11)
    truth = _share(*(generator.normal(0, scale, 200_000) for scale in (seed_spread, 1.5, 1.0))).mean()
    inside, trials = np.zeros(2), 300
    for _ in range(trials):
        ease = generator.normal(0, 1.5, 200)
        first, second = (_runs(generator, ease, seed_spread) for _ in range(2))
        _, low, high = stats.mean_over_seeds(first)
        inside += [low <= truth <= high, not stats.paired_difference(first, second).told_apart]
    assert (inside / trials >= 0.91).all(), inside / trials


def _share(*effects: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-sum(effects)))


def _runs(generator: np.random.Generator, ease: np.ndarray, seed_spread: float) -> np.ndarray:
    chance = _share(generator.normal(0, seed_spread, (3, 1)), ease, generator.normal(0, 1, (3, len(ease))))
    return generator.random((3, len(ease))) < chance


def test_mean_of_runs_by_hand():
    # Mean 0.6, standard deviation 0.1, t(2) = 4.30265: half width 4.30265 × 0.1 / sqrt(3) = 0.248414.
    assert stats.mean_of_runs(np.array([0.5, 0.6, 0.7])) == pytest.approx((0.6, 0.351586, 0.848414), abs=1e-6)
    assert stats.mean_of_runs(np.array([0.4])) == (0.4, 0.4, 0.4)


def test_iqm_drops_a_quarter_at_each_end():
    assert stats.iqm(np.array([0, 1, 2, 3, 4, 5, 6, 100])) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_bootstraps_repeat_exactly_and_follow_the_seed():
    scores = np.random.default_rng(5).random((6, 3))
    again = [stats.stratified_bootstrap(scores, resamples=200) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != stats.stratified_bootstrap(scores, seed=1, resamples=200)
    arms = (np.random.default_rng(1).random((3, 50)), np.random.default_rng(2).random((3, 50)))
    pair = [stats.hierarchical_bootstrap(arms, _gap, resamples=200) for _ in range(2)]
    assert pair[0] == pair[1]


def test_stratified_bootstrap_never_mixes_tasks():
    # Runs agree within each task and tasks differ, so resampling within tasks changes nothing.
    scores = np.array([[0.1, 0.9]] * 4)
    assert stats.stratified_bootstrap(scores, np.mean, resamples=50) == (0.5, 0.5, 0.5)


def test_hierarchical_bootstrap_draws_the_same_problems_for_both_arms():
    # The arms are equal, so any shared draw of problems leaves a gap of exactly 0.
    arm = np.random.default_rng(0).random((1, 40))
    assert stats.hierarchical_bootstrap((arm, arm), _gap, resamples=50) == (0.0, 0.0, 0.0)


def test_hierarchical_bootstrap_agrees_with_the_formula_where_both_hold():
    generator = np.random.default_rng(9)
    arms = tuple((generator.random((1, 2000)) < share).astype(float) for share in (0.6, 0.5))
    formula, drawn = stats.paired_difference(*arms), stats.hierarchical_bootstrap(arms, _gap, resamples=1000)
    assert (drawn.low, drawn.high) == pytest.approx((formula.low, formula.high), abs=0.004)


def _gap(first: np.ndarray, second: np.ndarray) -> float:
    return float(first.mean() - second.mean())
