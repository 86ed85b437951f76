"""Copies of the repository in which Snakemake runs for real."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "spo", "environment.yml", "pyproject.toml")
SMOKE = ("--configfile", "config/smoke.yaml")


@dataclass(frozen=True)
class Ended:
    """A command that came to its end."""

    code: int
    out: str
    err: str
    cpu_seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err

    def jobs(self) -> dict[str, int]:
        """Jobs of a dry run by rule."""
        lines = self.text.splitlines()
        found: dict[str, int] = {}
        if any(line.startswith("Job stats") for line in lines):
            start = next(number for number, line in enumerate(lines) if line.startswith("Job stats"))
            for line in lines[start + 3 :]:
                name, _, count = line.partition(" ")
                if name == "total" or not count.strip().isdigit():
                    break
                found[name] = int(count)
        return found


@dataclass(frozen=True)
class Checkout:
    """A working copy of the repository."""

    folder: Path

    def run(self, *command: str, timeout_s: float = 900) -> Ended:
        before = cpu_seconds_of_children()
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=timeout_s
        )
        return Ended(done.returncode, done.stdout, done.stderr, cpu_seconds_of_children() - before)

    def snakemake(self, *arguments: str, timeout_s: float = 900) -> Ended:
        return self.run(sys.executable, "-m", "snakemake", *arguments, timeout_s=timeout_s)

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace the first occurrence of each old text."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"{name} no longer has {old!r}"
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")

    def overlay(self, name: str, content: dict) -> tuple[str, str]:
        (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return "--configfile", name

    def files(self, *patterns: str) -> dict[str, bytes]:
        """Contents of files by relative path."""
        paths = [path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in sorted(paths)}


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    """The test's environment, with this repository's package and one thread a process."""
    names = {name: value for name, value in os.environ.items() if not name.startswith(("SNAKEMAKE", "PYTEST"))}
    return names | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def copy_to(folder: Path) -> Checkout:
    folder.mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / part, folder / part)
    return Checkout(folder)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh copy, nothing run in it yet."""
    return copy_to(tmp_path / "checkout")


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy in which Snakemake believes that the whole laptop study is done: every output is there, as a stand-in of a
    few bytes, and recorded with the parameters of today's config. Tests copy it before they change anything."""
    study = copy_to(tmp_path_factory.mktemp("finished") / "checkout")
    finish(study)
    return study


def finish(study: Checkout, *arguments: str) -> None:
    """Make Snakemake believe that a study is done: write stand-ins of all outputs and record today's parameters."""
    summary = study.snakemake("--summary", *arguments)
    assert summary.code == 0, summary.text
    for line in summary.out.splitlines()[1:]:
        path = study.folder / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("stand-in\n", encoding="utf-8")
    (study.folder / "results/config.json").write_text("{}", encoding="utf-8")
    touched = study.snakemake("--touch", "--forceall", "--cores", "1", *arguments)
    assert touched.code == 0, touched.text


@pytest.fixture
def finished(finished_study: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished study to change, with the times of its files."""
    shutil.copytree(finished_study.folder, tmp_path / "checkout")
    return Checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy in which the smoke overlay ran to its end, undisturbed. Read only."""
    study = copy_to(tmp_path_factory.mktemp("smoked") / "checkout")
    ended = study.snakemake("--cores", "2", *SMOKE)
    assert ended.code == 0, ended.text
    return study
