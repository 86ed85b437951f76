"""Jobs and GPUs: each sees its own, none shares. Names of GPUs stand in for GPUs, which no test needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spo import gpus
from spo.errors import UserError

PROGRAM = """
import os, sys
from spo import gpus
gpus.claim(int(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def start(folder: Path, count: int, names: str) -> subprocess.Popen:
    environment = os.environ | {"TMPDIR": str(folder), "CUDA_VISIBLE_DEVICES": names}
    command = [sys.executable, "-c", PROGRAM, str(count)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_jobs_side_by_side_have_gpus_of_their_own_and_wait_for_them(tmp_path: Path) -> None:
    first, second = start(tmp_path, 1, "4,7"), start(tmp_path, 1, "4,7")
    try:
        found = sorted([job.stdout.readline(), job.stdout.readline().strip()] for job in (first, second))
        assert found == [["on GPU 4\n", "4"], ["on GPU 7\n", "7"]]
        third = start(tmp_path, 2, "4,7")
        assert third.stdout.readline() == "waiting for 2 of 2 GPUs; other jobs hold them\n"
        first.kill()  # a lock ends with its process, however it ends
        second.kill()
        assert [third.stdout.readline() for _ in range(2)] == ["on GPU 4, 7\n", "4,7\n"]
    finally:
        for job in (first, second, third):
            job.kill()
            job.communicate()


def test_no_gpu_asked_for_is_none_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    gpus.claim(0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("names", "seen"), [("", "none"), ("3", "1")])
def test_too_few_gpus_are_one_line(monkeypatch: pytest.MonkeyPatch, names: str, seen: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    with pytest.raises(UserError, match=f"asks for 2 GPUs and sees {seen}; .*`gpus`") as caught:
        gpus.claim(2)
    assert "\n" not in str(caught.value)


def test_the_machine_is_asked_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []
    listing = tmp_path / "nvidia-smi"
    listing.write_text(
        "#!/bin/sh\necho 'GPU 0: H200 (UUID: GPU-a)'\necho '  MIG 1g'\necho 'GPU 1: H200 (UUID: GPU-b)'\n"
    )
    listing.chmod(0o755)
    assert gpus.visible() == ["0", "1"]


@pytest.mark.parametrize(("names", "there"), [("", []), ("4,7", ["4", "7"]), ("4,7,9", ["4", "7", "9"])])
def test_processes_of_a_run_have_a_gpu_each_or_none(monkeypatch: pytest.MonkeyPatch, names: str, there: list) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    assert gpus.one_each(2) == there


def test_fewer_gpus_than_processes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with pytest.raises(UserError, match="3 processes share this run, each on a GPU .* see 2; raise `gpus`") as caught:
        gpus.one_each(3)
    assert "\n" not in str(caught.value)
