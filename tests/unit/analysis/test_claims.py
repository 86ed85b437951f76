"""Verdicts at the edges of their rules, and each statistic on a results folder small enough to compute by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.analysis import claims, stats, tables
from spo.analysis.claims_table import MEASURED, RULES, UNITS
from spo.analysis.slices import OF_ONE_METHOD, STATISTIC_READS, Arm, Claim, Evidence, Run, Study, Table
from spo.analysis.stats import Difference
from spo.errors import UserError
from tests.finished_study import write_jsonl

YES, NO, OPEN = "replicates", "does not replicate", "cannot be told"
#: Student's t at 97.5 % with 1 and 2 degrees of freedom.
T1, T2 = 12.70620, 4.30265


# ---- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "low", "high", "expected"),
    [
        ("above", 0.1, 9.0, YES),
        ("above", 0.0, 9.0, OPEN),
        ("above", -1.0, 2.9, NO),
        ("above", -1.0, 3.0, OPEN),
        ("above", -9.0, -8.0, NO),
        ("above", 0.1, 0.2, YES),  # too small to matter, but sure
        ("not_below", -2.9, 9.0, YES),
        ("not_below", -3.0, 9.0, OPEN),
        ("not_below", -9.0, -0.1, NO),
        ("not_below", -9.0, 0.0, OPEN),
        ("not_below", -2.0, -1.0, YES),  # below, but by less than matters
        ("similar", -2.9, 2.9, YES),
        ("similar", -3.0, 2.9, OPEN),
        ("similar", -2.9, 3.0, OPEN),
        ("similar", 3.0, 9.0, NO),
        ("similar", -9.0, -3.0, NO),
        ("similar", 2.9, 9.0, OPEN),
        ("similar", 1.0, 2.0, YES),
        ("above", -math.inf, math.inf, OPEN),
        ("not_below", -math.inf, math.inf, OPEN),
        ("similar", -math.inf, math.inf, OPEN),
    ],
)
def test_verdicts_at_the_edges(rule, low, high, expected):
    assert claims.verdict(rule, Difference(0.0, low, high, 0.5), relevant=3) == expected


@given(st.floats(-50, 50), st.floats(0.01, 50), st.floats(0.1, 20))  # an interval without width has no verdict
def test_a_narrower_interval_never_turns_a_verdict_round(middle, half, relevant):
    for rule in RULES:
        wide, narrow = (
            claims.verdict(rule, Difference(middle, middle - h, middle + h, 0.5), relevant) for h in (half, half / 2)
        )
        if wide == YES:
            assert narrow == YES
        if wide == NO:
            # `above` and `not_below` may find a difference that is sure and smaller than what matters.
            assert narrow == NO or (rule != "similar" and narrow == YES and abs(middle) < relevant)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([YES], YES), ([YES, YES], YES), ([YES, OPEN], OPEN), ([OPEN, NO], NO), ([YES, NO], NO), ([NO], NO)],
)
def test_one_part_that_does_not_replicate_decides(parts, expected):
    assert claims.whole(parts) == expected


# ---- a results folder ------------------------------------------------------------------------------------------------


def study(seeds: int = 2, contexts: tuple[int, ...] = (64, 256)) -> Study:
    def arm(method: str) -> Arm:
        runs = tuple(Run(run=f"{method}{seed}", seed=seed) for seed in range(1, seeds + 1))
        return Arm(method=method, label=method.upper(), colour="#000000", runs=runs)

    return Study(
        name="one", title="the one", dataset="tales", protocol="greedy", contexts=contexts, arms=(arm("a"), arm("b"))
    )


def evidence(statistic: str, **changes) -> Evidence:
    second = None if statistic in OF_ONE_METHOD else "b"
    known = {"statistic": statistic, "study": study(), "first": "a", "second": second, "rule": "above", "relevant": 3.0}
    return Evidence(**(known | changes))


def graded(root: Path, run: str, verdicts: dict[int, str]) -> None:
    """`verdicts[context]` has a 1 for each problem answered right, such as `1011`."""
    rows = [
        {"problem_id": f"p{place}", "sample": 0, "context": context, "correct": right == "1"}
        for context, row in verdicts.items()
        for place, right in enumerate(row)
    ]
    write_jsonl(root / "evals" / run / "tales" / "greedy" / "graded.jsonl", rows)


def run(root: Path, name: str, rows: list[dict], seconds: list[float] | None = None) -> None:
    """metrics.jsonl and timing.jsonl: iteration i has `rows[i]`, and has taken `seconds[i]` in all."""
    folder = root / "runs" / name
    write_jsonl(
        folder / "metrics.jsonl",
        [{"iteration": i, "sampled_tokens_total": 1000 * i, **row} for i, row in enumerate(rows)],
    )
    totals = seconds or [float(i) for i in range(len(rows))]
    write_jsonl(
        folder / "timing.jsonl",
        [{"iteration": i, "seconds": {"validate": 1.0}, "seconds_total": total} for i, total in enumerate(totals)],
    )


def validated(*accuracies: float | None) -> list[dict]:
    return [{} if a is None else {"validation_accuracy": a, "validation_n": 40} for a in accuracies]


def points(root: Path, part: Evidence) -> tuple[Difference, claims.Effect]:
    effect = claims.STATISTICS[part.statistic](root, part)
    return effect.difference, effect


# ---- test accuracy ---------------------------------------------------------------------------------------------------


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    graded(tmp_path, "a1", {64: "1000", 256: "1110"})
    graded(tmp_path, "a2", {64: "1100", 256: "1111"})
    graded(tmp_path, "b1", {64: "0000", 256: "1000"})
    graded(tmp_path, "b2", {64: "0000", 256: "0010"})
    return tmp_path


def test_accuracy_is_the_paired_difference_in_points(answered):
    difference, effect = points(answered, evidence("accuracy"))
    # As in test_paired_difference_by_hand: 0.625 with an interval of half width 0.562584.
    assert difference[:3] == pytest.approx((62.5, 62.5 - 56.2584, 62.5 + 56.2584), abs=1e-3)
    assert (effect.unit, effect.n, effect.counted, effect.seeds) == ("points", 4, "problems", 2)


def test_accuracy_has_a_context(answered):
    # At 64 tokens: a has 1/4 and 2/4, b has none: a lead of 3/8.
    assert points(answered, evidence("accuracy", context=64))[0].value == pytest.approx(37.5)


def test_accuracy_against_the_base(answered):
    graded(answered, "tiny", {256: "1100"})
    base = Arm(method="base", label="base", colour="#000000", runs=(Run(run="tiny"),))
    alone = dataclasses.replace(study(), base=base, arms=study().arms[:1])
    difference, effect = points(answered, evidence("accuracy", study=alone, second="base"))
    # (3/4 + 4/4) / 2 - 2/4
    assert difference.value == pytest.approx(37.5)
    assert effect.seeds == 2


def test_context_gain_is_the_lead_here_minus_the_lead_there(answered):
    difference, _ = points(answered, evidence("context_gain"))
    # Leads 3/8 at 64 tokens and 5/8 at 256.
    assert difference.value == pytest.approx(-25.0)
    # What a problem gains from 256 to 64 tokens: a1 (0,-1,-1,0), a2 (0,0,-1,-1), b1 (-1,0,0,0), b2 (0,0,-1,0). Means
    # of a (0,-.5,-1,-.5) minus b (-.5,0,-.5,0): (.5,-.5,-.5,-.5), variance .25, /4 = .0625 with 3 degrees of freedom.
    # Seeds of each arm agree (-.5, -.5; -.25, -.25), so they add nothing: error .25, t(3) = 3.18245.
    assert difference.high == pytest.approx(-25 + 25 * 3.18245, abs=1e-3)


# ---- learning curves -------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    run(tmp_path, "a1", validated(0.2, None, 0.6), [0, 2, 4])
    run(tmp_path, "a2", validated(0.2, None, 0.8), [0, 2, 4])
    run(tmp_path, "b1", validated(0.2, None, 0.4, None, 0.5), [0, 1, 3, 5, 8])
    run(tmp_path, "b2", validated(0.2, None, 0.4, None, 0.7), [0, 1, 3, 5, 8])
    return tmp_path


def test_accuracy_at_equal_seconds_stops_where_the_first_run_ends(trained):
    difference, effect = points(trained, evidence("accuracy_at_equal_seconds"))
    # At 4 s: a has .6 and .8, b a fifth of the way from 3 s to 8 s: .42 and .46.
    assert difference.value == pytest.approx(26.0)
    # Variances .02/2 and .0008/2, a degree of freedom each: error sqrt(.0104), degrees .0104² / (.01² + .0004²).
    freedom = 0.0104**2 / (0.01**2 + 0.0004**2)
    assert freedom == pytest.approx(1.079872, abs=1e-6)
    assert difference.high - difference.value == pytest.approx(108.986, abs=1e-2)  # t = 10.6870
    assert (effect.n, effect.remark, effect.seeds) == (40, "at 4 s", 2)


def test_accuracy_at_equal_tokens(trained):
    difference, effect = points(trained, evidence("accuracy_at_equal_tokens"))
    # At 2,000 tokens, iteration 2: .7 - .4.
    assert difference.value == pytest.approx(30.0)
    assert effect.remark == "at 0.002 million tokens"


def test_late_accuracy_is_the_mean_of_the_last_two_validations(trained):
    difference, _ = points(trained, evidence("late_accuracy"))
    # a has one each after the start, .6 and .8; b (.4 + .5) / 2 and (.4 + .7) / 2.
    assert difference.value == pytest.approx(100 * (0.7 - 0.5))


# ---- costs -----------------------------------------------------------------------------------------------------------


def test_points_per_trajectory_is_what_the_first_saves(tmp_path):
    for name, counts in {"a1": (10, 30), "a2": (20, 20), "b1": (80, 80), "b2": (100, 60)}.items():
        run(tmp_path, name, [{}, *({"mc_points": n, "trajectories": 20} for n in counts)])
    difference, effect = points(tmp_path, evidence("points_per_trajectory"))
    # One point a trajectory against four, the same with each seed: 75 % saved, for sure.
    assert difference == pytest.approx((75.0, 75.0, 75.0, 0.0))
    assert (effect.unit, effect.n, effect.counted) == ("%", 2, "iterations")


def test_generation_seconds_compares_ratios(tmp_path):
    for name, (sample, score) in {"a1": (1.0, 1.0), "a2": (7.0, 1.0), "b1": (6.0, 2.0), "b2": (8.0, 0.0)}.items():
        rows = [{"validate": 9.0}, {"sample": sample, "score": score}, {"sample": sample, "score": score, "train": 5.0}]
        write_jsonl(
            tmp_path / "runs" / name / "timing.jsonl",
            [{"iteration": i, "seconds": row, "seconds_total": 0.0} for i, row in enumerate(rows)],
        )
    difference, effect = points(tmp_path, evidence("generation_seconds"))
    # 2 s and 8 s against 8 s and 8 s: geometric means 4 and 8, half saved. Logs of a differ by ln 4: their error is
    # ln 4 / 2 = ln 2 with one degree of freedom, so the ratio a / b is 0.5 times or divided by 2 to the T1.
    assert difference.value == pytest.approx(50.0)
    assert difference.high == pytest.approx(100 * (1 - 0.5 * 2**-T1), abs=1e-3)
    assert difference.low == pytest.approx(100 * (1 - 0.5 * 2**T1), rel=1e-4)
    assert effect.n == 2


def test_a_cost_that_is_nothing_cannot_be_compared(tmp_path):
    for name in ("a1", "a2", "b1", "b2"):
        run(tmp_path, name, [{}, {"mc_points": 5 * (name != "b2"), "trajectories": 5}])
    with pytest.raises(UserError, match=r"^claims: points_per_trajectory: run b2 has none; leave its method out"):
        claims.points_per_trajectory(tmp_path, evidence("points_per_trajectory"))


def test_one_seed_leaves_the_interval_open(tmp_path):
    for name, accuracy in {"a1": 0.9, "b1": 0.1}.items():
        run(tmp_path, name, validated(0.1, accuracy))
    part = evidence("late_accuracy", study=study(seeds=1))
    difference, effect = points(tmp_path, part)
    assert difference == (pytest.approx(80.0), -math.inf, math.inf, 1.0)
    assert effect.seeds == 1 and claims.verdict("above", difference, 3) == OPEN


# ---- overfitting -----------------------------------------------------------------------------------------------------


def alone(statistic: str, seeds: int = 2) -> Evidence:
    return evidence(statistic, study=dataclasses.replace(study(seeds), arms=study(seeds).arms[:1]))


def test_training_rise_and_distinct_fall_compare_the_tenths_at_the_ends(tmp_path):
    # 20 iterations, so two at each end: accuracies .1 and .3, then .5 and .9 in one seed; .7 and .9 in the other.
    for name, end in {"a1": (0.5, 0.9), "a2": (0.7, 0.9)}.items():
        accuracies = [0.1, 0.3, *[0.4] * 16, *end]
        run(tmp_path, name, [{}, *({"accuracy": a, "distinct_responses": 1 - a / 2} for a in accuracies)])
    rise, effect = points(tmp_path, alone("training_rise"))
    # .5 and .6: mean .55, error .05, t(1).
    assert rise[:3] == pytest.approx((55.0, 55 - 5 * T1, 55 + 5 * T1), abs=1e-3)
    assert (effect.n, effect.counted, effect.unit) == (20, "iterations", "points")
    fall, _ = points(tmp_path, alone("distinct_fall"))
    assert fall[:2] == pytest.approx((27.5, 27.5 - 2.5 * T1), abs=1e-3)


def test_validation_fall_is_from_where_the_other_seeds_are_best(tmp_path):
    run(tmp_path, "a1", validated(0.2, 0.6, 0.5, 0.3))
    run(tmp_path, "a2", validated(0.2, 0.4, 0.7, 0.5))
    run(tmp_path, "a3", validated(0.2, 0.8, 0.6, 0.5))
    difference, effect = points(tmp_path, alone("validation_fall", seeds=3))
    # Means of the others are best at: a1: (.6, .65), the third; a2: (.7, .55), the second; a3: (.5, .6), the third.
    # Falls .5 - .3, .4 - .5, .6 - .5: mean .0667, variance .02333, error .08819, t(2).
    assert difference.value == pytest.approx(100 / 15)
    assert difference.high - difference.value == pytest.approx(8.819 * T2, abs=1e-2)
    assert (effect.n, effect.seeds) == (40, 3)


def test_noise_alone_is_no_overfitting(tmp_path):
    """Flat curves with noise: a run's own best lies above its last; where others are best, it does not."""
    generator = np.random.default_rng(3)
    falls = []
    for trial in range(60):
        for seed in (1, 2, 3):
            run(tmp_path / str(trial), f"a{seed}", validated(*generator.normal(0.5, 0.03, 12)))
        falls.append(points(tmp_path / str(trial), alone("validation_fall", seeds=3))[0].value)
    # A trial's fall has a deviation of some 2.5 points, the mean of 60 one of 0.3; a run's own best would be 5 above.
    assert abs(np.mean(falls)) < 1.0


# ---- audits ----------------------------------------------------------------------------------------------------------


def audited(root: Path, seed: int, rows: list[tuple[str, float, float, float]]) -> str:
    """An audit file of (problem, truth, estimate A, estimate B)."""
    file = f"audits/credit/s{seed}.jsonl"
    content = [
        {
            "problem_id": problem,
            "position": place,
            "probability": 0.5,
            "truth": truth,
            "truth_variance": 0.01,
            "estimates": {"A 1": a, "B's": b},
            "generated_tokens": {"A 1": 3.0, "B's": 0.0},
        }
        for place, (problem, truth, a, b) in enumerate(rows)
    ]
    write_jsonl(root / file, content)
    return file


def of_audit(*files: str, **changes) -> Evidence:
    return evidence("credit_error", study=None, files=files, first="A 1", second="B's", **changes)


def test_credit_error_is_paired_over_tokens_and_drawn_over_problems_and_seeds(tmp_path):
    files = (
        # Differences of squared errors: .25 - 0, .09 - .01, of p1 on average .165; .04 - 0 of p2.
        audited(tmp_path, 1, [("p1", 0.5, 0.5, 0.0), ("p1", 0.3, 0.2, 0.0), ("p2", 0.2, 0.2, 0.0)]),
        # .16 - .04 of p1, 0 of p2; p3 is in one file only.
        audited(tmp_path, 2, [("p1", 0.4, 0.2, 0.0), ("p2", 0.0, 0.0, 0.0), ("p3", 1.0, 0.0, 1.0)]),
    )
    difference, effect = points(tmp_path, of_audit(*files))
    # Problem means .1425 and .02, seed means .1025 and .06: mean .08125.
    assert difference.value == pytest.approx(0.08125)
    # Problems: variance of (.1425, .02) / 2 = .1225² / 4; seeds: .0425² / 4; one degree of freedom each.
    terms = 0.1225**2 / 4, 0.0425**2 / 4
    expected = stats._t_interval(0.08125, sum(terms), sum(terms) ** 2 / (terms[0] ** 2 + terms[1] ** 2), 0.95)
    assert difference == pytest.approx(expected)
    assert (effect.unit, effect.n, effect.counted, effect.seeds) == ("squared error", 5, "tokens", 2)
    assert effect.remark == "cost A 1 3.0, B's 0.0"


def test_an_audit_without_the_estimator_or_with_too_little_is_one_line(tmp_path):
    file = audited(tmp_path, 1, [("p1", 0.5, 0.5, 0.0)])
    with pytest.raises(UserError, match=r"s1\.jsonl: no estimator 'C', only A 1, B's; delete it and run `snakemake"):
        claims.credit_error(tmp_path, dataclasses.replace(of_audit(file), first="C"))
    with pytest.raises(UserError, match=r"s1\.jsonl: fewer than two problems in the audits of all seeds"):
        claims.credit_error(tmp_path, of_audit(file))


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_says_each_claim_once_and_judges_every_part(answered, trained):
    two = Claim(
        name="both",
        text="A is above B",
        source="Fig. 1",
        parts=(evidence("accuracy"), evidence("late_accuracy", rule="similar", relevant=1)),
        note="B is new.",
    )
    file = [audited(answered, seed, [("p1", 0.5, 0.5, 0.0), ("p2", 0.5, 0.5, 0.1)]) for seed in (1, 2)]
    one = Claim(name="near", text="A knows better", source="§2", parts=(of_audit(*file, relevant=0.01),))
    tables.write("c", Table(make="claims_table", title="Claims", claims=(two, one)), answered, answered / "out/c")
    numbers = pd.read_csv(answered / "out/c.csv")
    assert numbers["claim"].tolist() == ["both", "both", "near"]
    assert numbers["verdict"].tolist() == [YES, OPEN, OPEN]
    assert numbers["claim_verdict"].tolist() == [OPEN, OPEN, OPEN]
    assert numbers["p_holm"].tolist() == pytest.approx(stats.holm(numbers["p_value"].to_numpy()).tolist(), rel=1e-4)
    lines = (answered / "out/c.md").read_text().splitlines()
    assert lines[2:4] == ["2 claims: 0 replicate, 0 do not, 2 cannot be told.", ""]
    assert lines[4] == (
        "| claim | replicates? | measured | difference [95 %] | replicates if | part | seeds | n | in | paper |"
    )
    assert lines[6] == (
        "| A is above B | cannot be told | test accuracy at 256 tokens: A − B | +62.5 [+6.2, +118.8] | "
        "above 0; fails below 3 | replicates | 2 | 4 problems | the one | Fig. 1 |"
    )
    assert lines[7].startswith("|  |  | last validation accuracies: A − B | +20.0 [−")
    assert lines[7].endswith("| 2 | 40 problems | the one |  |")
    assert lines[8].startswith(
        "| A knows better | cannot be told | squared error of advantages: B's − A 1, cost A 1 3.0, B's 0.0 | +0.205 ["
    )
    assert lines[8].endswith("| 2 | 4 tokens | audit credit | §2 |")
    caption = lines[-1]
    assert caption.startswith("A claim replicates if all its parts do")
    assert "Number of parts: 3." in caption and caption.endswith("B is new.")
    assert r"p{0.15\textwidth}" in (answered / "out/c.tex").read_text()


def test_a_table_without_claims_is_one_line(tmp_path):
    with pytest.raises(UserError, match="'Claims' has no claims to judge; add `claims:`"):
        tables.write("c", Table(make="claims_table", title="Claims"), tmp_path, tmp_path / "c")


def test_every_statistic_says_what_it_reads_and_measures():
    assert set(claims.STATISTICS) == set(STATISTIC_READS) == set(MEASURED)
    assert set(STATISTIC_READS) >= OF_ONE_METHOD


def test_every_statistic_reads_only_what_it_says(answered, trained):
    """Without the files of other kinds the numbers are the same; `spo.config` makes Snakemake wait for no more."""
    for statistic, reads in STATISTIC_READS.items():
        if statistic in ("accuracy", "late_accuracy", "context_gain"):
            folder = answered.parent / statistic
            for path in answered.rglob("*.jsonl"):
                if path.stem in reads:
                    copy = folder / path.relative_to(answered)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_text(path.read_text())
            assert points(folder, evidence(statistic))[0] == points(answered, evidence(statistic))[0]


def test_units_write_signs_as_readers_expect():
    assert set(UNITS) == {"points", "%", "squared error"}
    text = json.dumps([RULES[rule].format(relevant="3 %") for rule in RULES], ensure_ascii=False)
    assert text == '["above 0; fails below 3 %", "above −3 %; fails below 0", "within ±3 %; fails outside"]'
