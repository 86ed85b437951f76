from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from spo.analysis.slices import Study
from tests.finished_study import fill, make_study


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A finished study with three methods and three seeds; tests only read it."""
    root, study = tmp_path_factory.mktemp("study") / "results", make_study()
    fill(root, study, problems=200)
    return root, study


@pytest.fixture
def finished(tmp_path: Path) -> Callable[[Study], Path]:
    """Fill a fresh results folder with a study that the test may change."""

    def make(study: Study) -> Path:
        fill(tmp_path / "results", study, problems=40, iterations=10)
        return tmp_path / "results"

    return make
