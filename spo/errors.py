"""The two ways a command ends badly; `python -m spo` turns each into one line and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Misuse: a wrong key, file, name or state folder. One line that names it and the remedy; exit code 2."""


class RunFailure(Exception):
    """A run that was set up correctly and could not go on (non-finite loss, dead worker, full disk); exit code 1."""


@contextmanager
def short_of_memory(remedy: str) -> Iterator[None]:
    """RunFailure with `remedy` where memory runs out inside, on a GPU or not; other errors pass.

    >>> with short_of_memory("lower optimizer.micro_batch_tokens"):
    ...     raise MemoryError
    Traceback (most recent call last):
    spo.errors.RunFailure: out of memory: lower optimizer.micro_batch_tokens
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        asked = re.search(r"tried to allocate (\d[\d.]* ?\w+)", str(error), re.IGNORECASE)
        amount = f" ({asked[1]} more were asked for)" if asked else ""
        raise RunFailure(f"out of memory{amount}: {remedy}") from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; PyTorch's is known by its name, since this module does not import it.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("CUDA error: out of memory"))
    (True, True)
    >>> out_of_memory(RuntimeError("sizes differ"))
    False
    """
    signs = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint({"MemoryError", "OutOfMemoryError"}) or any(sign in str(error) for sign in signs)
