"""The commit that a report names is that of this project, or none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from spo.analysis import provenance


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def around(tmp_path) -> Path:
    """A repository with one commit."""
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "One")
    return tmp_path


def test_commit_is_that_of_the_project_itself(around):
    assert provenance.commit(around) == git(around, "rev-parse", "HEAD")
    (around / "a").write_text("2")
    assert provenance.commit(around) == git(around, "rev-parse", "HEAD") + " with local changes"


def test_commit_is_not_that_of_a_repository_around_the_project(around):
    inside = around / "unpacked" / "spo-0.1"
    inside.mkdir(parents=True)
    assert re.fullmatch(r"unknown \(not a git checkout, version .+\)", provenance.commit(inside))


def test_commit_is_not_that_of_a_hook_that_runs_this(around, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(around / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(around))
    assert "not a git checkout" in provenance.commit(tmp_path_factory.mktemp("plain"))


def test_commit_of_a_repository_without_commits_and_of_a_machine_without_git(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    assert "not a git checkout" in provenance.commit(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit(tmp_path) == "unknown (git is not installed)"
