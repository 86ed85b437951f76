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
        "commit of this page": _commit(),
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


def _commit() -> str:
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown (git is not installed)"
    if commit.returncode:
        return "unknown (not a git checkout)"
    return commit.stdout.strip() + (" with local changes" if changed.stdout.strip() else "")


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
