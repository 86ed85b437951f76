"""Locks of the kernel on open files; they end with their process, however that ends."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import IO

_warned: set[str] = set()


def take(file: IO, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file; return True if this process has the lock and False if another one holds it.

    Return None on a file system that has no such locks (some network and cluster file systems), after one warning that
    names the folder: nothing is locked then, and work continues.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        _warn(os.path.dirname(file.name) or ".", error.strerror or str(error))
        return None
    return True


def _warn(folder: str, reason: str) -> None:
    if folder not in _warned:
        _warned.add(folder)
        words = f"spo: {folder}: this file system has no locks ({reason}); start nothing twice that works here"
        print(words, file=sys.stderr, flush=True)
