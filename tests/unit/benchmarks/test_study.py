"""The benchmark of the whole study, on a results folder of known times."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: job: start, seconds, CPU seconds at Snakemake's last reading, all on two cores
JOBS = {
    "train/a": (0.0, 100.0, "60"),  # read at 75 s: 0.8 of a core
    "train/b": (0.0, 40.0, "15"),  # read at 15 s: all of a core
    "score/a": (50.0, 0.4, "NA"),
    "report/report": (102.0, 8.0, "8"),
}
PHASES = {"a": [{}, {"sample": 50.0, "train": 30.0}, {"validate": 10.0}], "b": [{"train": 30.0}]}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/study.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


def test_shares_of_rules_phases_and_idle_cores_add_up(tmp_path):
    root = tmp_path / "results"
    for job, (start, seconds, cpu) in JOBS.items():
        path = root / "benchmarks" / f"{job}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t500\t{cpu}\n")
        os.utime(path, (0, 1e6 + start + seconds))
    for name, iterations in PHASES.items():
        path = root / "runs" / name / "timing.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"iteration": i, "seconds": s}) + "\n" for i, s in enumerate(iterations)))
    done = run(str(root), "--output", str(tmp_path / "study.csv"))
    assert done.returncode == 0, done.stderr
    assert "4 jobs in 1.8 minutes" in done.stdout
    rows = list(csv.DictReader((tmp_path / "study.csv").read_text().splitlines()))
    seconds = {(row["rule"], row["phase"]): float(row["seconds"]) for row in rows}
    assert seconds == {
        ("train", ""): 140.0,
        ("train", "train"): 60.0,
        ("train", "sample"): 50.0,
        ("train", "validate"): 10.0,
        ("train", "other"): 20.0,
        ("report", ""): 8.0,
        ("score", ""): 0.4,
        ("(no job)", "between jobs"): 63.6,  # 2 x 102 - 140.4
        ("(no job)", "at the end"): 8.0,
        ("(whole)", "2 cores"): 220.0,
    }
    for row in rows:
        assert float(row["share"]) == pytest.approx(float(row["seconds"]) / 220, rel=1e-3)
    by_rule = {row["rule"]: row for row in rows if not row["phase"]} | {"whole": rows[-1]}
    assert float(by_rule["train"]["busy"]) == pytest.approx(75 / 90, rel=1e-3)
    assert by_rule["score"]["busy"] == ""
    assert float(by_rule["whole"]["cpu_seconds"]) == pytest.approx(140 * 75 / 90 + 8, rel=1e-3)


def test_a_folder_without_jobs_is_one_line(tmp_path):
    done = run(str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no benchmark files" in done.stderr
