"""The examples in the docstrings of the benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_examples(path):
    done = subprocess.run([sys.executable, "-m", "doctest", path], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
