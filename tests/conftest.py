"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

# One thread a process: tests run side by side, and two threads on one busy core are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder with the public data sets, `$SPO_DATA`. Without it the test skips; with `$SPO_REQUIRE_DATA` it fails."""
    folder = os.environ.get("SPO_DATA")
    if folder:
        return Path(folder)
    if os.environ.get("SPO_REQUIRE_DATA"):
        pytest.fail("SPO_REQUIRE_DATA is set, but SPO_DATA does not name the folder with the public data sets")
    pytest.skip("needs public data sets: set SPO_DATA to their folder")


@pytest.fixture(scope="session")
def needs_vllm() -> None:
    """Where vLLM is not installed the test skips; with `$SPO_REQUIRE_VLLM` it fails."""
    if importlib.util.find_spec("vllm") is None:
        if os.environ.get("SPO_REQUIRE_VLLM"):
            pytest.fail("SPO_REQUIRE_VLLM is set, but vLLM is not installed")
        pytest.skip("needs vLLM: make test-vllm")


@pytest.fixture(scope="session")
def needs_compiler() -> None:
    """Skip the test if no C compiler works; with `$SPO_REQUIRE_COMPILER` it fails."""
    from spo.policy import compiled
    from spo.policy.transformer import Geometry

    if compiled.kernels(Geometry(32, 2, 2, 1, 16, 8, 1e4, 1e-6, True, 64)) is None:
        if os.environ.get("SPO_REQUIRE_COMPILER"):
            pytest.fail("SPO_REQUIRE_COMPILER is set, but no C compiler works here")
        pytest.skip("no C compiler works here")
