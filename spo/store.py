"""Files: written whole or not at all, read with the line to blame. JSON and JSON lines only, UTF-8."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from spo import locks
from spo.errors import RunFailure, UserError

_MOST_LINKS = 40  # one after the other; as many as the kernel follows
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def check_id(name: str) -> str:
    """Return `name` if it may become part of a path, else raise UserError.

    >>> check_id("pupil-stories-spo_chain.int2-s1")
    'pupil-stories-spo_chain.int2-s1'
    """
    if not isinstance(name, str) or not _ID.fullmatch(name):
        shown = repr(name if len(str(name)) <= 40 else str(name)[:40] + "...")
        raise UserError(f"{shown} is not a valid name: use 1-100 of a-z 0-9 . _ - and begin with a letter or digit")
    return name


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put `data` at `path` atomically: a reader, or a run that resumes, sees the old file or the new one, never a part.

    Makes the folders above it. A link stays, and its target is replaced; a device, a pipe or an open descriptor such as
    `/dev/stdout` is written to. Raises RunFailure where the system refuses (full disk, no permission), and
    BrokenPipeError if nobody reads this process's output any more.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _descriptor(path)
        if descriptor is not None or _is_special(path):
            _write_through(descriptor if descriptor is not None else os.open(path, os.O_WRONLY), data)
        else:
            _replace(Path(os.path.realpath(path)) if path.is_symlink() else path, data)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and is_standard_output(path):
            raise  # as with `| head`: no failure
        raise RunFailure(f"cannot write {path} ({len(data)} bytes): {error.strerror or error}") from error


def permit_usual(path: str | Path) -> None:
    """Give a file the permissions that any new file gets; safetensors writes files that their owner alone can read."""
    mask = os.umask(0o077)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def is_standard_output(path: str | Path) -> bool:
    """Return whether what is written to `path` appears on this process's standard output."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8; half a surrogate pair, which has no UTF-8 form, as its escape."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Put one JSON value at `path` atomically; keys keep the order they were given in."""
    write_bytes(path, _encode(path, value, indent=1))


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Put one JSON object (dict or dataclass) a line at `path` atomically."""
    write_bytes(path, b"".join(_encode(path, row) for row in rows))


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold `folder` for one process; another one waits, and says so on stderr.

    Waiting is what a job needs whose predecessor was orphaned when the workflow was killed: it then finds the work
    done. Where the file system has no locks, a warning says so and nobody waits.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        if locks.take(file) is False:
            print(f"spo: {folder}: another process works here; waiting for it to end", file=sys.stderr, flush=True)
            locks.take(file, wait=True)
        yield


def read_json(path: str | Path) -> Any:
    """Return the JSON value in `path`; UserError names the file and what is wrong with it."""
    try:
        return _decode(_read(path), finite=True)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_jsonl(
    path: str | Path, required: Sequence[str] = (), check: Callable[[dict[str, Any]], object] = bool
) -> list[dict[str, Any]]:
    """Return the objects in `path` (gzip or plain), one per line.

    Skips blank lines and byte-order marks. A line ends with LF, CRLF or CR; the last one need not.
    Raises UserError `path:line: reason` for the first bad line, with the number of further ones: bad JSON, a key given
    twice, not an object, a `required` field that is missing or null, or a ValueError of `check(row)`.
    """
    bad: list[str] = []
    rows = list(good_rows(path, bad, required, check))
    if bad:
        raise UserError(first_of(bad))
    return rows


def good_rows(
    path: str | Path,
    bad: list[str],
    required: Sequence[str] = (),
    check: Callable[[dict[str, Any]], object] = bool,
    finite: bool = True,
) -> Iterator[dict[str, Any]]:
    """Yield the good lines of `path`, as `read_jsonl` does; append `path:line: reason` to `bad` for each bad one.

    `finite` False lets NaN and infinite numbers through, for `check` to judge.
    """
    # A JSON string may hold U+2028, U+0085 and others that splitlines takes for line ends, but never a raw CR or LF.
    for number, line in enumerate(_LINE_END.split(_read(path)), start=1):
        line = line.removeprefix(_BYTE_ORDER_MARK)  # files put together with `cat` have one in the middle
        if not line.strip():
            continue
        try:
            row = _row(line, required, finite)
            check(row)
        except ValueError as error:
            bad.append(f"{path}:{number}: {error}")
        else:
            yield row


def first_of(bad: Sequence[str]) -> str:
    """The first of some errors, with the number of further ones.

    >>> first_of(["a:1: not valid JSON", "a:2: expected a JSON object"])
    'a:1: not valid JSON (and 1 more bad lines)'
    """
    return bad[0] + (f" (and {len(bad) - 1} more bad lines)" if len(bad) > 1 else "")


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _row(line: bytes, required: Sequence[str], finite: bool) -> dict[str, Any]:
    row = _decode(line, finite)
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {_KINDS.get(type(row), 'a number')}")
    missing = [name for name in required if row.get(name) is None]
    if missing:
        raise ValueError(f"field {missing[0]!r} is missing or null")
    return row


_KINDS = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def _read(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        return data.removeprefix(_BYTE_ORDER_MARK)
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decode(data: bytes, finite: bool) -> Any:
    try:
        hooks = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
        return json.loads(data.decode(), object_pairs_hook=_unique, **hooks)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not valid JSON: nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; ValueError for a key given twice, of which `json` would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


def _finite(text: str) -> float:
    """Return a number of JSON; ValueError for one too large for float64, such as 1e999."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"not valid JSON: {text[:20]} is too large a number")
    return value


def _encode(path: str | Path, value: Any, indent: int | None = None) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=_plain)
    except ValueError:
        raise RunFailure(f"cannot write {path}: a value is not a finite number") from None
    # A lone surrogate in a sampled text has no UTF-8 form; the replacement is its JSON escape.
    return (text + "\n").encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not valid JSON: {name} is not a number")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError:
        _discard(temporary)
        raise


def _is_special(path: Path) -> bool:
    """Return whether `path`, or what it links to, is neither a file nor a folder: a device, pipe or socket."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _descriptor(path: Path) -> int | None:
    """A copy of the open descriptor of this process that `path` stands for: `/dev/stdout`, `/dev/fd/3`, links to them.

    Opening such a path again would begin at the start of a file to which a shell appends.
    """
    own = Path(f"/proc/{os.getpid()}/fd")
    for _ in range(_MOST_LINKS):
        folder = Path(os.path.realpath(path.parent))
        if folder == own and path.name.isdecimal():
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            return os.dup(int(path.name))
        if not path.is_symlink():
            return None
        path = folder / os.readlink(path)
    return None


def _write_through(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
