"""Processes that share a run, as forks of this one: what they do costs no imports, and any of them can be looked at."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from spo.errors import RunFailure, UserError
from spo.launch import MEETING
from spo.training import ranks


def fork(work: Callable[[int], None], folder: Path, count: int = 2) -> list[int]:
    """Start `work(rank)` in `count` processes that find each other in the new folder `folder`; their process ids.

    What they print is in `folder/{rank}.out`, an error's line included; they end as `python -m spo train` would.
    """
    folder.mkdir()
    return [_child(work, folder, rank, count) for rank in range(count)]


def _child(work: Callable[[int], None], folder: Path, rank: int, count: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        out = os.open(folder / f"{rank}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), MEETING: f"file://{folder}/meeting"}
        try:
            with ranks.joined():
                work(rank)
            code = 0
        except (UserError, RunFailure, KeyboardInterrupt) as error:
            print(f"spo: {error}")
            code = 2 if isinstance(error, UserError) else 1
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(children: list[int], within_s: float = 60.0) -> list[int]:
    """Exit codes, negative for a signal; AssertionError, and the end of all, where one lives longer."""
    codes: dict[int, int] = {}
    end = time.monotonic() + within_s
    while len(codes) < len(children) and time.monotonic() < end:
        for child in children:
            if child not in codes:
                gone, status = os.waitpid(child, os.WNOHANG)
                if gone:
                    codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    for child in children:
        if child not in codes:
            os.kill(child, 9)
            os.waitpid(child, 0)
    assert len(codes) == len(children), f"after {within_s} s still running: {[c not in codes for c in children]}"
    return [codes[child] for child in children]


def said(folder: Path) -> str:
    """What all of them printed."""
    return "".join(path.read_text() for path in sorted(folder.glob("*.out")))


def together(work: Callable[[int], None], folder: Path, count: int = 2) -> None:
    """`fork`, and all end well."""
    assert ended(fork(work, folder, count)) == [0] * count, said(folder)
