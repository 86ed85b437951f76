"""A worker process that evaluates what a model wrote, and can be killed: never a thread, never this process.

The worker starts with the first question, answers one at a time, and ends with this process. One that exceeds its
deadline is killed and a new one starts with the next question. Answers are remembered, those of a killed worker too.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from functools import lru_cache

from spo import start
from spo.errors import RunFailure

TIMEOUT_S = 2.0
START_TIMEOUT_S = 60.0
MOST_BYTES = 2**30  # address space of the worker
TIMEOUT, MEMORY, LOADED = "timeout", "memory", "loaded"

_lock = threading.RLock()
_worker: tuple[int, subprocess.Popen] | None = None  # with the id of the process that started it
_has_library = False  # whether that worker has loaded math-verify


@lru_cache(maxsize=20_000)
def ask(kind: str, first: tuple, second: tuple | str) -> str:
    """`equal` or `different`, or why there is no answer: `timeout`, `memory`.

    `kind` is `value` (do two trees of `parse` agree?), `identity` (for complex variables too?), `ratio` (up to a
    constant factor?), `close` (two constants within 0.001?) or `rounds to` (`second` is then a decimal number).

    >>> ask("value", ("^", ("number", "2"), ("number", "3")), ("number", "8"))
    'equal'
    """
    with _lock:
        return _asked(_running(), (kind, first, second))


def verify(reference: str, response: str) -> tuple[str, str | None]:
    """(outcome, what was extracted) of the library math-verify: as `ask`, or `no answer`, or `error` with its name."""
    global _has_library
    with _lock:
        worker = _running()
        if not _has_library:
            if _asked(worker, ("load", "", ""), START_TIMEOUT_S) != LOADED:
                raise RunFailure(
                    "grader math_verify: the library did not load. Install math-verify, see pyproject.toml."
                )
            _has_library = True
        outcome, _, extracted = _asked(worker, ("math_verify", reference, response)).partition("\t")
    return outcome, json.loads(extracted) if extracted else None


def _asked(worker: subprocess.Popen, question: tuple, timeout_s: float | None = None) -> str:
    """The answer of a worker; one that does not answer is killed."""
    try:
        worker.stdin.write(json.dumps(question).encode() + b"\n")
        worker.stdin.flush()
        answer = _line(worker, timeout_s or TIMEOUT_S)
    except BrokenPipeError:
        answer = ""
    if answer not in ("", MEMORY, TIMEOUT):
        return answer
    stop()
    return TIMEOUT if answer == TIMEOUT else MEMORY


def stop() -> None:
    """Kill the worker, if there is one; the next question starts another."""
    global _worker, _has_library
    with _lock:
        if _worker is not None and _worker[0] == os.getpid():
            process = _worker[1]
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        _worker, _has_library = None, False


def _running() -> subprocess.Popen:
    global _worker
    # A child of a fork must not share the pipes of its parent.
    if _worker is None or _worker[0] != os.getpid() or _worker[1].poll() is not None:
        stop()
        process = subprocess.Popen(
            start.command("spo.grading.worker", str(MOST_BYTES), str(TIMEOUT_S)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        _worker = (os.getpid(), process)
        if _line(process, START_TIMEOUT_S) != "ready":
            stop()
            raise RunFailure(
                f"the worker that grades expressions did not start: {sys.executable} -m spo.grading.worker"
            )
    return _worker[1]


def _line(process: subprocess.Popen, timeout_s: float) -> str:
    """The next line of the worker; `timeout` if there is none in time, and nothing if it has ended."""
    answers = select.poll()
    answers.register(process.stdout, select.POLLIN)
    return process.stdout.readline().decode().strip() if answers.poll(1000 * timeout_s) else TIMEOUT


atexit.register(stop)
