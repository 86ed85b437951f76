"""One command in several processes, which share a run (`spo.training.ranks`); `torchrun` can start them as well.

`run` does what torchrun does on one machine, and keeps what a job of the workflow promises: one line and its exit code,
progress on the terminal, and after SIGTERM all the time that an iteration takes. torchrun ends every failure with a
report and code 1, closes descriptor 3, and gives 30 seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from spo import gpus, start
from spo.errors import UserError
from spo.settings import Train

#: Descriptor at which the workflow leaves the terminal.
TERMINAL = 3
#: What the others have to end by themselves once one process has failed; who waits for it notices at once.
GRACE_S = 30.0
#: Between two looks at the processes.
POLL_S = 0.1
#: Where processes that `run` starts find each other; those of torchrun know a port.
MEETING = "SPO_MEETING"
#: What torchrun and `run` tell a process about its place, besides `TORCHELASTIC_*`.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME")
VARIABLES += ("ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", MEETING)


class Place(NamedTuple):
    """Which of `count` processes this is, which of those on its machine, and where they find each other."""

    rank: int
    count: int
    local_rank: int
    local_count: int
    meeting: str


def place() -> Place | None:
    """What the environment says of this process; None where it is alone."""
    told = os.environ
    if "RANK" not in told or int(told.get("WORLD_SIZE", "1")) < 2:
        return None
    rank, count = int(told["RANK"]), int(told["WORLD_SIZE"])
    local = int(told.get("LOCAL_RANK", rank)), int(told.get("LOCAL_WORLD_SIZE", count))
    return Place(rank, count, *local, told.get(MEETING, "env://"))


def forget() -> None:
    """Take what `place` read out of the environment: vLLM, above all, would otherwise look for its own processes at the
    port of these, and wait for ever."""
    for name in list(os.environ):
        if name in VARIABLES or name.startswith("TORCHELASTIC_"):
            del os.environ[name]


def on_gpu(train: Train) -> bool:
    """Whether a run uses a GPU where there is one."""
    return train.backend != "engine" and train.memory.device != "cpu"


def check(train: Train, processes: int) -> None:
    """UserError where a run cannot be shared by several processes, so many of them on this machine."""
    if on_gpu(train):
        gpus.one_each(processes)
    if train.backend == "vllm" and train.memory.vllm_tensor_parallel > 1:
        raise UserError(
            f"memory.vllm_tensor_parallel: {train.memory.vllm_tensor_parallel}, but processes that share a run have a "
            "vLLM and a GPU each; set it to 1, or `processes` of `resources` to 1"
        )


def run(arguments: Sequence[str], processes: int) -> int:
    """`python -m spo ARGUMENTS` in so many processes: 0 where all end well, otherwise the highest exit code.

    Once one has failed, the others are ended. SIGTERM is passed on; Ctrl-C reaches them from the terminal.
    """
    with tempfile.TemporaryDirectory(prefix="spo-", ignore_cleanup_errors=True) as folder:
        children: list[subprocess.Popen] = []
        handlers = {
            signal.SIGTERM: lambda *_: [child.terminate() for child in children],
            signal.SIGINT: lambda *_: None,
        }
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            for rank in range(processes):
                children.append(_start(arguments, Place(rank, processes, rank, processes, f"file://{folder}/meeting")))
            _wait(children)
        finally:
            for child in children:
                child.kill()
                child.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)
    codes = [child.returncode for child in children]
    if any(codes) and max(codes) <= 0:  # none was left to say so
        print(f"spo: ended by {signal.Signals(-min(codes)).name}; the same command continues", file=sys.stderr)
        return 1
    return max(codes)


def _start(arguments: Sequence[str], at: Place) -> subprocess.Popen:
    numbers = zip(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), at[:4], strict=True)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    each = max(1, (int(threads) if threads.isdigit() else os.cpu_count() or 1) // at.count)
    environment = os.environ | {name: str(number) for name, number in numbers}
    return subprocess.Popen(
        start.command("spo", *arguments),
        env=environment | {MEETING: at.meeting, "OMP_NUM_THREADS": str(each)},
        pass_fds=(TERMINAL,) if at.rank == 0 and os.isatty(TERMINAL) else (),
    )


def _wait(children: Sequence[subprocess.Popen]) -> None:
    """Until all have ended, or for `GRACE_S` after one has failed."""
    failed_at: float | None = None
    while any(child.poll() is None for child in children):
        now = time.monotonic()
        if failed_at is None and any(child.returncode for child in children):
            failed_at = now
        if failed_at is not None and now - failed_at > GRACE_S:
            return
        time.sleep(POLL_S)
