from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.analysis import series
from spo.errors import UserError
from tests.finished_study import make_study


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.sampled_from([1, 3, 9]))
def test_running_means_stay_within_the_values_and_as_many(values, window):
    smooth = series.running_mean(np.array(values), window)
    assert len(smooth) == len(values)
    assert smooth.min() >= min(values) - 1e-9
    assert smooth.max() <= max(values) + 1e-9
    if window == 1:
        assert smooth.tolist() == pytest.approx(values)


def test_a_series_is_smoothed_within_seeds_and_then_averaged():
    rows = pd.DataFrame(
        {
            "method": "grpo",
            "seed": [1, 1, 1, 2, 2, 2, 2],
            "iteration": [1, 2, 3, 1, 2, 3, 4],
            "reward": [0.0, 3.0, 6.0, 2.0, 5.0, np.nan, 11.0],
        }
    )
    table = series.series_table(make_study(("grpo",), seeds=2).arms, rows, "reward", window=3)
    seeds, means = (table[table["kind"] == kind] for kind in ("seed", "mean"))
    assert seeds["value"].tolist() == [0.0, 3.0, 6.0, 2.0, 5.0, 11.0]
    # Both seeds have iterations 1 and 2, and a window of three spans both: 1.5 and 3.5, so 2.5. With two runs the half
    # width is t(0.975, 1) times the standard error, 12.706 * 1.
    assert means["iteration"].tolist() == [1, 2]
    assert means["value"].tolist() == [2.5, 2.5]
    assert means["high"].tolist() == pytest.approx([2.5 + 12.706] * 2, abs=1e-3)
    assert means["seeds"].tolist() == [2, 2]


def test_seeds_without_a_common_iteration_are_one_line():
    rows = pd.DataFrame({"method": "grpo", "seed": [1, 2], "iteration": [1, 2], "reward": [0.0, 1.0]})
    with pytest.raises(UserError, match="grpo: no iteration at which every seed has 'reward'"):
        series.series_table(make_study(("grpo",), seeds=2).arms, rows, "reward")
