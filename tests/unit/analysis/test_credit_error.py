"""The figure of credit error: known errors come out, and what a reader needs is on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spo.analysis import style
from spo.analysis.credit_error import credit_error, error_table
from spo.analysis.slices import Figure
from spo.errors import UserError
from tests.finished_study import write_jsonl

LABELS = ("near", "far N=1", "far N=2", "constant")
FILES = ("audits/credit/s1.jsonl", "audits/credit/s2.jsonl")


def rows_of(truths: list[float], estimates: dict[str, list[float]], variance: float = 0.0) -> pd.DataFrame:
    """One seed, one problem for each token."""
    frame = pd.DataFrame({"seed": 0, "problem_id": [f"p{i}" for i in range(len(truths))], "truth": truths})
    columns = {f"estimate {label}": row for label, row in estimates.items()}
    tokens = {f"tokens {label}": 1.0 + i for i, label in enumerate(estimates)}
    return frame.assign(truth_variance=variance, **columns, **tokens)


def test_error_and_correlation_by_hand():
    rows = rows_of([0.0, 1.0, 2.0], {"a": [0.5, 1.0, 1.5], "b": [1.0, 1.0, 1.0], "c": [1.0, 0.0, -1.0]})
    table = error_table(rows, ("a", "b", "c")).set_index("estimator")
    # a: (0.25 + 0 + 0.25) / 3; b: (1 + 0 + 1) / 3; c: (1 + 1 + 9) / 3
    assert table["error"].tolist() == pytest.approx([(1 / 6) ** 0.5, (2 / 3) ** 0.5, (11 / 3) ** 0.5])
    assert table["correlation"].tolist() == pytest.approx([1.0, 0.0, -1.0])
    assert table["generated_tokens"].tolist() == [1.0, 2.0, 3.0] and set(table["tokens"]) == {3}


def test_noise_of_the_truth_is_taken_off():
    rows = rows_of([0.0, 1.0], {"a": [0.5, 1.5]}, variance=0.09)
    assert error_table(rows, ("a",))["error"].item() == pytest.approx(0.4)  # 0.25 - 0.09 = 0.16
    rows = rows_of([0.0, 1.0], {"a": [0.1, 1.1]}, variance=0.09)
    assert error_table(rows, ("a",))["error"].item() == 0.0  # never the root of a negative number


def test_the_interval_covers_the_error_of_known_noise():
    """30 problems of 3 tokens with independent noise of 0.3: of 40 audits about 95 % should cover it."""
    covered = 0
    for seed in range(40):
        dice = np.random.default_rng(seed)
        truth = dice.normal(0, 0.2, 90)
        frame = pd.DataFrame({"seed": 0, "problem_id": np.repeat(np.arange(30), 3), "truth": truth})
        frame = frame.assign(truth_variance=0.0, **{"estimate a": truth + dice.normal(0, 0.3, 90), "tokens a": 1.0})
        row = error_table(frame, ("a",)).iloc[0]
        covered += row.error_low <= 0.3 <= row.error_high
    assert covered >= 34


def test_the_interval_knows_that_tokens_of_a_problem_go_together():
    """The same three errors in every token of a problem are one observation, not three."""
    dice = np.random.default_rng(1)
    errors = dice.normal(0, 0.3, 30)
    apart = rows_of([0.0] * 30, {"a": errors.tolist()})
    together = pd.concat([apart] * 3, ignore_index=True)
    one, three = (error_table(rows, ("a",)).iloc[0] for rows in (apart, together))
    assert three.error == pytest.approx(one.error)
    assert (three.error_low, three.error_high) == pytest.approx((one.error_low, one.error_high))


@pytest.fixture
def audited(tmp_path):
    dice = np.random.default_rng(0)
    for file in FILES:
        rows = []
        for problem in range(6):
            for position in (1, 4):
                truth = dice.normal(0, 0.3)
                estimates = {"near": truth + 0.02, "far N=1": truth + dice.normal(0, 0.5), "far N=2": truth + 0.2}
                rows.append(
                    {
                        "problem_id": f"p{problem}",
                        "position": position,
                        "probability": 0.5,
                        "truth": truth,
                        "truth_variance": 0.0001,
                        "estimates": {**estimates, "constant": 0.0},
                        "generated_tokens": dict(zip(LABELS, (1.0, 4.0, 7.5, 1.0), strict=True)),
                    }
                )
        write_jsonl(tmp_path / file, rows)
    return tmp_path


def test_the_figure_names_every_estimator_and_joins_families(audited):
    with style.styled():
        drawn = credit_error(Figure(draw="credit_error", title="Errors", files=FILES), audited)
    assert drawn.table["estimator"].tolist() == list(LABELS)
    assert drawn.table["family"].tolist() == ["near", "far", "far", "constant"]
    error, correlation = drawn.canvas.axes
    for axes in (error, correlation):
        written = {text.get_text() for text in axes.texts}
        assert {"near", "N=1", "far N=2", "constant"} <= written
        # a line a family, of as many points as the family has
        joined = [line for line in axes.lines if line.get_linestyle() == "-" and line.get_marker() == "None"]
        assert sorted(len(line.get_xdata()) for line in joined if len(line.get_xdata())) == [1, 1, 2]
    assert "24 tokens of 6 problems, 2 seeds" in drawn.caption and "near 0.017" in drawn.caption


def test_colours_of_families_can_be_chosen(audited):
    chosen = Figure(draw="credit_error", title="Errors", files=FILES, options={"colours": {"far": "#123456"}})
    with style.styled():
        drawn = credit_error(chosen, audited)
    assert "#123456" in {line.get_color() for line in drawn.canvas.axes[0].lines}


def test_a_missing_audit_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match=r"s1\.jsonl: missing; run `snakemake"):
        credit_error(Figure(draw="credit_error", title="Errors", files=FILES), tmp_path)
