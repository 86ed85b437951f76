"""GPUs of this machine, one process each: jobs that run side by side never share one by accident."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from spo import locks
from spo.errors import UserError

#: Between two looks at GPUs that other jobs hold.
RETRY_S = 1.0

#: Open as long as this process lives: the kernel's locks on its GPUs end with it, however it ends.
_held: list[IO[str]] = []


def claim(count: int) -> None:
    """Make `count` GPUs that no other job of this user has claimed the only ones that this process sees.

    To be called before CUDA starts. 0 hides all. Waits while others hold too many. Raises UserError where the machine,
    or what `CUDA_VISIBLE_DEVICES` leaves of it, has fewer.
    """
    if count == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    there = visible()
    if len(there) < count:
        raise UserError(
            f"resources: this job asks for {count} GPU{'s'[: count > 1]} and sees {len(there) or 'none'}; run it where "
            "there are as many, or lower `gpus` in the `resources` of its rule"
        )
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # that of nvidia-smi
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_wait(there, count))


def one_each(processes: int) -> list[str]:
    """Names of the GPUs seen, at least one for each of so many processes that share a run; none where there are none.

    Raises UserError where there are some, but fewer.
    """
    there = visible()
    if 0 < len(there) < processes:
        raise UserError(
            f"resources: {processes} processes share this run, each on a GPU of its own, and see {len(there)}; raise "
            "`gpus`, lower `processes`, or let Snakemake give more with `--resources gpu=N`"
        )
    return there


def visible() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` names, or else the numbers of all GPUs that nvidia-smi lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]


def _wait(names: Sequence[str], count: int) -> list[str]:
    told = False
    while True:
        taken = [(name, lock) for name in names if (lock := _lock(name)) is not None]
        for _, lock in taken[count:]:
            lock.close()
        if len(taken) >= count:
            _held.extend(lock for _, lock in taken[:count])
            print(f"on GPU {', '.join(name for name, _ in taken[:count])}", flush=True)
            return [name for name, _ in taken[:count]]
        for _, lock in taken:
            lock.close()
        if not told:
            print(f"waiting for {count} of {len(names)} GPUs; other jobs hold them", flush=True)
            told = True
        time.sleep(RETRY_S)


def _lock(name: str) -> IO[str] | None:
    """An open file that stands for a GPU, or None where another process has it. A cluster's job may number its GPUs
    from 0 whichever they are, so that its own number belongs to the name."""
    folder = Path(tempfile.gettempdir()) / f"spo-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    handle = (folder / f"{os.environ.get('SLURM_JOB_ID', 'here')}-{name.replace('/', '_')}").open("w")
    if locks.take(handle) is False:
        handle.close()
        return None
    return handle
