"""How a report came about: command, config, commit, versions, machine, time."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from spo.analysis import results
from spo.analysis.slices import Report

#: Packages whose versions decide the numbers.
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "pandas", "matplotlib", "snakemake")


def facts(settings: Report, root: Path) -> dict[str, str]:
    """Command, config, commit, versions, machine and time behind a report, each in words; empty where unknown."""
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return {
        "command": settings.command,
        "config digest": settings.config_digest,
        "commit of this page": commit(Path(__file__).parents[2]),
        "Python": platform.python_version(),
        "packages": versions,
        "machine": f"{_processor()}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}",
        "time": _time(root),
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _time(root: Path) -> str:
    if not (root / "benchmarks").exists():
        return "not measured (the jobs were not run by Snakemake)"
    jobs = results.benchmarks(root)
    span = float(jobs["ended"].max() - (jobs["ended"] - jobs["seconds"]).min())
    total = float(jobs["seconds"].sum())
    return (
        f"{span / 60:.1f} minutes from the start of the first job to the end of the last; {len(jobs)} jobs, "
        f"{total / 60:.1f} minutes when added up"
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit(root: Path) -> str:
    """Return the commit of the project that lies in `root`, in words.

    A repository around it, in which the code was unpacked or installed, says nothing about the code.
    """
    unknown = f"unknown (not a git checkout, version {_version('spo') or 'unknown'})"
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if top is None or not os.path.samefile(top, root):
            return unknown
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return "unknown (git is not installed)"
    return unknown if head is None else head + (" with local changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says in a folder; None if it refuses. Variables of a hook, such as GIT_DIR, name another one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    keywords = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 10}
    done = subprocess.run(["git", *arguments], **keywords)
    return None if done.returncode else done.stdout.strip()


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
