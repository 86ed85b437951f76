"""The shell function that runs the command of each rule: what goes to the log, and what to the terminal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT

SCRIPT = ROOT / "workflow/scripts/job.sh"


def logged(folder: Path, command: str, *, redirected: str = "") -> subprocess.CompletedProcess[str]:
    program = f"source '{SCRIPT}'; logged job.log bash -c '{command}'"
    whole = ["bash", "-c", f'bash -c "$0" {redirected}', program]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True)


def test_logged_keeps_the_terminal_for_progress(tmp_path: Path) -> None:
    done = logged(tmp_path, "echo out; echo err >&2; echo progress >&3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "progress\n")
    assert (tmp_path / "job.log").read_text() == "out\nerr\n"


def test_logged_shows_the_lines_that_say_why_and_not_the_log(tmp_path: Path) -> None:
    done = logged(tmp_path, "seq 1000; echo spo: one; echo spo: two; exit 2")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "spo: one\nspo: two\n")
    assert len((tmp_path / "job.log").read_text().splitlines()) == 1002


def test_logged_shows_the_end_of_a_log_that_does_not_say_why(tmp_path: Path) -> None:
    done = logged(tmp_path, "echo spo: a warning; seq 1000; exit 3")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [str(number) for number in range(981, 1001)]


@pytest.mark.parametrize(("command", "code"), [("echo spo: why; exit 1", 1), ("exit 4", 4), ("true", 0)])
def test_logged_needs_no_terminal(tmp_path: Path, command: str, code: int) -> None:
    done = logged(tmp_path, f"echo line; {command}", redirected="2>&-")
    assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "job.log").read_text().startswith("line\n")
