"""Modules of the folder in which somebody works: none of them is imported, however a process is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spo import start

ROOT = Path(__file__).parents[2]
#: Of the standard library, of libraries that are installed, of Python's own customisation, and of this package.
NAMES = ("random", "fractions", "json", "queue", "string", "decimal", "numpy", "yaml", "sitecustomize", "spo_other")
#: Python needs these to find `-m` at all; a job of the workflow is safe from them, too.
EARLIER = ("types", "functools", "contextlib", "warnings", "spo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose modules leave a mark when they are imported."""
    for name in NAMES:
        spoil(tmp_path, name)
    (tmp_path / "answers.jsonl").write_text(r'{"answer": "\\frac{1}{2}", "response": "It is $\\boxed{\\frac{2}{4}}$."}')
    return tmp_path


def spoil(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(
        f"open({str(folder / 'imported')!r}, 'a').write('{name} ')\nraise SystemExit(9)\n"
    )


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_command_typed_there_and_its_grading_worker_import_none(folder: Path) -> None:
    grade = ("grade-file", "--grader", "math", "--input", "answers.jsonl", "--output", "graded.jsonl")
    run(folder, sys.executable, "-m", "spo", *grade)
    assert '"correct": true' in (folder / "graded.jsonl").read_text()
    run(folder, sys.executable, "-m", "spo", "check", str(ROOT / "config/config.yaml"))


def test_command_runs_this_package_whatever_lies_there(folder: Path) -> None:
    for name in EARLIER:
        spoil(folder, name)
    run(folder, *start.command("spo", "check", str(ROOT / "config/config.yaml")))


def test_a_job_of_the_workflow_imports_none(folder: Path) -> None:
    for name in EARLIER:
        spoil(folder, name)
    snakemake = Path(sys.executable).with_name("snakemake")
    overlay = ("--configfile", str(ROOT / "config/smoke.yaml"))
    run(folder, str(snakemake), "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", *overlay, "--", "plan")
    (log,) = folder.glob("**/logs/plan.log")
    assert log.stat().st_size


def test_processes_started_by_a_command_search_the_folder_neither(folder: Path) -> None:
    """Libraries start Python processes of their own, which inherit the environment."""
    close = "import spo; spo._close_working_folder(); import subprocess, sys\n"
    run(folder, sys.executable, "-c", close + "subprocess.run([sys.executable, '-c', 'import random'], check=True)")


def test_a_program_that_imports_the_package_keeps_its_path(folder: Path) -> None:
    run(folder, sys.executable, "-c", "import sys; before = [*sys.path]; import spo; assert sys.path == before")
