"""The benchmark of growth, in small: its rows, and its picture."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_one_row_a_point_and_slopes_from_the_third(tmp_path):
    output = tmp_path / "growth.csv"
    command = [sys.executable, "benchmarks/growth.py", "--tiny", "--variables", "prompts", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, env=os.environ, check=True, capture_output=True)
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert [(row["work"], row["value"]) for row in rows] == [
        (work, value) for work in ("sampling", "training") for value in ("1", "4", "16")
    ]
    assert [bool(row["time_slope"]) for row in rows] == [False, False, True] * 2
    # 4 rollouts of 16 tokens; training counts the 64 tokens of the prompt too.
    assert [int(row["tokens"]) for row in rows] == [64, 256, 1024, 128, 512, 2048]
    for row in rows:
        assert float(row["seconds"]) > 0 and float(row["memory_mib"]) >= 0 and int(row["rows"]) == 4 * int(row["value"])
        per_token = 1e6 * float(row["seconds"]) / int(row["tokens"])
        assert float(row["microseconds_per_token"]) == pytest.approx(per_token, rel=1e-2)


def test_the_picture_takes_curves_of_any_shape(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import growth_figure

    rows = [
        SimpleNamespace(
            work=work,
            variable=variable,
            value=value,
            seconds=0.01 * value,
            memory_mib=value - 1.0,  # nothing that can be told at first
            time_slope=1.0 if value > 4 else None,
            memory_slope=None,
        )
        for work in growth_figure.COLOURS
        for variable in growth_figure.VARIABLES
        for value in (1, 4, 16)
    ]
    growth_figure.draw(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
