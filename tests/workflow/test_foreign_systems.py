"""Snakemake on file systems without locks, and started without stderr."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.workflow.conftest import SMOKE, environment

NO_LOCKS = "#include <errno.h>\nint flock(int descriptor, int how) { errno = ENOLCK; return -1; }\n"
DATA = "results/smoke/data/stories/train.jsonl"


def test_a_folder_without_locks_is_one_warning(checkout, tmp_path):
    (tmp_path / "shim.c").write_text(NO_LOCKS)
    shim = tmp_path / "shim.so"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c"], check=True)
    (checkout.folder / ".snakemake/locks").mkdir(parents=True)
    ended = checkout.run("env", f"LD_PRELOAD={shim}", sys.executable, "-m", "snakemake", DATA, "-n", *SMOKE)
    assert ended.code == 0, ended.text
    assert ended.text.count("spo: .snakemake: this file system has no locks (No locks available)") == 1
    assert (checkout.folder / ".snakemake/locks").exists()  # who else works here is not known


def test_jobs_write_their_log_if_stderr_is_closed(checkout):
    command = f"exec {sys.executable} -m snakemake --cores 1 {DATA} {' '.join(SMOKE)} 2>&-"
    done = subprocess.run(["bash", "-c", command], cwd=checkout.folder, env=environment(), stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert (checkout.folder / DATA).exists()
    assert (checkout.folder / "results/smoke/logs/prepare/stories.log").exists()
