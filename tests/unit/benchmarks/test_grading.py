"""The benchmark of the graders, in small: its rows, and that grading is as fast as it has to be."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WAYS = {
    "gsm8k": {"gsm8k", "gsm8k_official", "final_line", "exact", "math_verify"},
    "math": {"math", "math_official", "exact", "math_verify"},
    "aime": {"aime", "exact", "math_verify"},
    "knights": {"knights", "exact"},
}


@pytest.mark.slow
def test_ten_thousand_ordinary_answers_take_less_than_a_minute(tmp_path):
    output = tmp_path / "grading.csv"
    command = [sys.executable, "benchmarks/grading.py", "--answers", "1000", "--repeats", "1", "--sets", *WAYS]
    subprocess.run([*command, "--output", str(output)], cwd=ROOT, env=os.environ, check=True, capture_output=True)
    rows = list(csv.DictReader(output.read_text().splitlines()))
    for share in ("0.0", "0.01"):
        own = [row for row in rows if row["hostile_share"] == share]
        assert {name: {row["way"] for row in own if row["set"] == name} for name in WAYS} == WAYS
    for row in rows:
        if row["way"] == "exact":
            assert float(row["floor_over_this"]) == 1.0
        elif row["way"] != "math_verify" and row["hostile_share"] == "0.0":
            assert float(row["floor_over_this"]) < 1 and float(row["seconds_for_10000"]) < 60
        if row["way"] == row["set"]:
            assert float(row["agreement"]) > 0.95
