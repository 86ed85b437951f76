"""The decoder in `kernels/`, compiled for this machine and a model's geometry when first needed, if it can be.

Libraries are kept in `$XDG_CACHE_HOME/spo` (`~/.cache/spo`), so that a machine has one for good. `$SPO_SAMPLER` says
what to do without a C compiler: `auto` samples by PyTorch alone, `compiled` refuses; `plain` never uses one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import POINTER, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

from spo.errors import UserError
from spo.policy.transformer import Geometry

#: Tokens in a page, and rows whose activations the kernels want room for beside those of a batch, as in `decoder.c`.
PAGE_TOKENS, BLOCK_ROWS = 16, 96
#: What is tried if `$CC` names no compiler.
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-std=gnu11", "-shared", "-fPIC")
_FOLDER = Path(__file__).with_name("kernels")
_CHOICES = ("auto", "compiled", "plain")


def _fields(numbers: str, addresses: str) -> list[tuple[str, type]]:
    return [(name, c_int64) for name in numbers.split()] + [(name, c_void_p) for name in addresses.split()]


class Layer(ctypes.Structure):
    """`Layer` of `decoder.c`; here and below, of what addresses point to the caller takes care."""

    _fields_ = _fields("", "qkv bias out gate_up down")


class Model(ctypes.Structure):
    """`Model` of `decoder.c`."""

    _fields_ = [
        *_fields("layers kv_heads hidden_size intermediate_size vocabulary_size", ""),
        ("layer", POINTER(Layer)),
        *_fields("", "embedding head cosines sines hidden qkv attended gated"),
        ("square", c_float),
    ]


class Batch(ctypes.Structure):
    """`Batch` of `decoder.c`."""

    _fields_ = _fields("rows table_width slab_shift page_floats", "slabs pages counts used tokens positions scores")


def kernels(geo: Geometry) -> ctypes.CDLL | None:
    """The kernels for a geometry; None if there are none and need not be. UserError if `$SPO_SAMPLER` asks for them in
    vain, or for something unheard of."""
    choice = os.environ.get("SPO_SAMPLER", "auto")
    if choice not in _CHOICES:
        raise UserError(f"SPO_SAMPLER: {choice}: must be one of {', '.join(_CHOICES)}")
    if choice == "plain":
        return None
    found = _kernels(geo.head_size, geo.heads // geo.kv_heads)
    if found is None and choice == "compiled":
        raise UserError(
            "SPO_SAMPLER: compiled: no C compiler works here, or what it makes cannot be loaded. Install gcc or clang, "
            "set XDG_CACHE_HOME or TMPDIR to a folder that programs may be loaded from, or set it to plain"
        )
    return found


@cache
def _kernels(head_size: int, group: int) -> ctypes.CDLL | None:
    """Return the kernels of a head size and of query heads per key head; None where they cannot be made or loaded."""
    sizes = (f"-DHEAD_SIZE={head_size}", f"-DGROUP={group}")
    sources = [path.read_bytes() for path in sorted(_FOLDER.iterdir())]
    digest = hashlib.sha256(repr((sources, FLAGS, sizes, _processor())).encode()).hexdigest()[:16]
    name, kept = f"decoder-{digest}.so", _cache()
    if kept is not None and _ours(kept / name) and (found := _loaded(kept / name)) is not None:
        return found
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), *COMPILERS))), None)
    if compiler is None:
        return None
    command = [compiler, *FLAGS, *sizes, str(_FOLDER / "decoder.c")]
    if kept is not None and (found := _compiled(command, kept, name, keep=True)) is not None:
        return found
    # No folder for good, or one that programs may not be loaded from: this process compiles its own.
    return _compiled(command, Path(tempfile.gettempdir()), name, keep=False)


def _cache() -> Path | None:
    """Return the folder for libraries, which this user alone may write to; None if there can be no such folder."""
    try:
        # A user of a container may have neither a home nor an entry in the list of users: RuntimeError.
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
            return folder
    except (OSError, RuntimeError):
        pass
    return None


def _ours(path: Path) -> bool:
    """Return whether the file at `path` is as `_compiled` left it, belongs to this user, and nobody else may write to
    it: it will be run, and loading half a library ends the process."""
    try:
        found, content = path.stat(), path.read_bytes()
    except OSError:
        return False
    alone = found.st_uid == os.getuid() and not found.st_mode & 0o022
    return alone and hashlib.sha256(content[:-32]).digest() == content[-32:]


def _compiled(command: list[str], folder: Path, name: str, keep: bool) -> ctypes.CDLL | None:
    """Return what `command` makes in a folder of its own below `folder`, where it may stay as `name`; None if it fails.

    It is written elsewhere first, since other processes may be making it too.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            made = Path(own) / name
            subprocess.run([*command, "-o", str(made), "-lm"], check=True, capture_output=True)
            content = made.read_bytes()
            made.write_bytes(content + hashlib.sha256(content).digest())  # what follows a library is not read
            made.chmod(0o700)
            found = _loaded(made)
            if found is not None and keep:
                os.replace(made, folder / name)
            return found
    except (OSError, subprocess.CalledProcessError):
        return None


def _loaded(path: Path) -> ctypes.CDLL | None:
    """Return the library at `path`; None if the system refuses it, or if it lacks our functions."""
    try:
        kernels = ctypes.CDLL(str(path))
        kernels.compute.argtypes = [POINTER(Model), POINTER(Batch), c_void_p]
        kernels.draw.argtypes = [c_void_p, c_int64, c_int64, c_float, c_void_p, c_void_p, c_void_p]
        kernels.compute.restype = kernels.draw.restype = None
        #: Columns of a matrix that lie together.
        kernels.panel = c_int64.in_dll(kernels, "panel_columns").value
    except (OSError, AttributeError, ValueError):
        return None
    return kernels


def _processor() -> str:
    """What tells processors with other instructions apart: homes are shared by the nodes of a cluster."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return f"{platform.machine()} {platform.processor()} {flags}"
