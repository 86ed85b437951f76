"""The two ways a command ends badly; `python -m spo` turns each into one line and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType


class UserError(Exception):
    """Misuse: a wrong key, file, name or state folder. One line that names it and the remedy; exit code 2."""


class RunFailure(Exception):
    """A run that was set up correctly and could not go on (non-finite loss, dead worker, full disk); exit code 1."""


class Interrupted(RunFailure):
    """Ctrl-C ended a run after it had saved its progress; exit code 130."""


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


#: Packages whose errors are about files, settings and networks of the user, and not about this program.
LIBRARIES = ("huggingface_hub", "datasets", "transformers", "tokenizers", "safetensors", "vllm", "fsspec", "pyarrow")
LIBRARIES += ("httpx", "httpcore", "requests", "urllib3", "jinja2", "sentencepiece", "hf_xet")


class Foreign(AbstractContextManager):
    """Turn whatever a library raises inside into one line, `subject: reason. remedy`, of class `kind`.

    Errors of this project, a lack of memory, and interrupts pass.

    >>> with Foreign("tokenizer.json", "Download it again."):
    ...     raise Exception("expected value\\nat line 1.")
    Traceback (most recent call last):
    spo.errors.UserError: tokenizer.json: expected value at line 1. Download it again.
    """

    def __init__(self, subject: object, remedy: str, kind: type[UserError | RunFailure] = UserError) -> None:
        self.subject, self.remedy, self.kind = subject, remedy, kind

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if _is_foreign(error):
            raise self.kind(f"{self.subject}: {said(error)}. {self.remedy}") from error


class Libraries(AbstractContextManager):
    """Turn what one of `LIBRARIES` raises inside, where no `Foreign` does, into RunFailure: the name and one line."""

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if _is_foreign(error) and (name := library(error)):
            raise RunFailure(f"{name}: {said(error)}") from error


def said(error: BaseException) -> str:
    """Return the message of an error as one line of 200 characters at most, its class if it has none.

    >>> said(ValueError("two\\n  lines.")), said(AssertionError())
    ('two lines', 'AssertionError')
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 200 else f"{text[:197]}...").rstrip(". ")


def library(error: BaseException) -> str | None:
    """Return which of `LIBRARIES` raised an error, itself or in something it called; None for anything else."""
    names = [type(error).__module__]
    trace = error.__traceback__
    frames = []
    while trace is not None:
        frames.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    for name in (*names, *reversed(frames)):
        package = name.partition(".")[0]
        if package in LIBRARIES:
            return package
        if package == "spo":
            return None
    return None


def _is_foreign(error: BaseException | None) -> bool:
    # A panic of a library written in Rust is no Exception.
    raised = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return raised and not isinstance(error, UserError | RunFailure) and not out_of_memory(error)
