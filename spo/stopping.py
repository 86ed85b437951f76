"""Signals that ask a job to stop: it finishes what it is doing, saves, and ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from spo.errors import Interrupted, RunFailure
from spo.launch import TERMINAL

SIGTERM, CTRL_C = "SIGTERM", "Ctrl-C"


class Asked:
    """Request to stop that this process has received: none, SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self.by: str | None = None

    def flags(self) -> list[bool]:
        """Return whether SIGTERM has, and whether Ctrl-C has."""
        return [self.by == SIGTERM, self.by == CTRL_C]


@contextmanager
def stopped_politely(unit: str, tell: bool = True) -> Iterator[Asked]:
    """Note SIGTERM and the first Ctrl-C inside; a second Ctrl-C raises KeyboardInterrupt at once.

    `unit` is what is finished before the end, for the line that the first Ctrl-C shows on a terminal if `tell` is True.
    A signal that the caller ignores, as `nohup` does, stays ignored.
    """
    asked = Asked()

    def term(*_: object) -> None:
        asked.by = asked.by or SIGTERM

    def interrupt(*_: object) -> None:
        asked.by = CTRL_C
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if tell:
            _tell(f"Ctrl-C: ends after this {unit}; press it again to end at once\n")

    handlers = {signal.SIGTERM: term, signal.SIGINT: interrupt}
    previous = {number: signal.getsignal(number) for number in handlers}
    try:
        for number, handler in handlers.items():
            if previous[number] is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stopped(flags: list[bool], where: str) -> RunFailure:
    """Return the error to raise once everything is saved; `flags` as `Asked.flags` gives them, of all processes.

    >>> stopped([True, False], "x: {by} after iteration 3")
    RunFailure('x: stopped by SIGTERM after iteration 3; the same command continues')
    """
    kind, by = (Interrupted, CTRL_C) if flags[1] else (RunFailure, SIGTERM)
    return kind(f"{where.format(by=f'stopped by {by}')}; the same command continues")


def _tell(line: str) -> None:
    """Write to the terminal: the one that the workflow leaves open, or that of the output."""
    for descriptor in (TERMINAL, 1):
        if os.isatty(descriptor):
            with suppress(OSError):  # the window was closed
                os.write(descriptor, line.encode())
            return
