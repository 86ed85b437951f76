"""Requirements of continuous integration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def environment_of_tests(tmp_path: Path, given: dict[str, str], beside: bool) -> dict[str, str]:
    """Return what `.ci/run`, in a checkout with data beside it or not, hands to `make`, which only prints it here."""
    (tmp_path / "repository" / ".ci").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    script = Path(shutil.copy(ROOT / ".ci" / "run", tmp_path / "repository" / ".ci" / "run"))
    make = tmp_path / "bin" / "make"
    make.write_text("#!/bin/sh\nenv\n")
    make.chmod(0o755)
    if beside:
        (tmp_path / "shared" / "data").mkdir(parents=True)
    path = f"{make.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", script], env={"PATH": path} | given, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.mark.parametrize("beside", [True, False])
def test_run_takes_the_named_data(tmp_path, beside):
    found = environment_of_tests(tmp_path, {"SPO_DATA": "/somewhere"}, beside)
    assert (found["SPO_DATA"], found["SPO_REQUIRE_DATA"]) == ("/somewhere", "1")


def test_run_takes_the_data_beside_the_checkout(tmp_path):
    found = environment_of_tests(tmp_path, {}, beside=True)
    assert (found["SPO_DATA"], found["SPO_REQUIRE_DATA"]) == (str(tmp_path / "shared" / "data"), "1")


def test_run_needs_no_data_but_a_compiler(tmp_path):
    found = environment_of_tests(tmp_path, {}, beside=False)
    assert "SPO_DATA" not in found and "SPO_REQUIRE_DATA" not in found
    assert found["SPO_REQUIRE_COMPILER"] == "1"
