"""Training state on disk: whole or absent, checked when read, refused when it belongs to another configuration.

A checkpoint is a folder `step-{done}` with the weights and Adam moments (safetensors), what the method carries over
(JSON lines) and `state.json`, which is written last and lists the checksum of every other file. One inside an iteration
is `step-{done}.{optimizer steps}`; it has what the iteration collected (safetensors, one file that its checkpoints
share) and how far training has come. Two are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spo import store
from spo.errors import RunFailure, UserError
from spo.training import pending as unfinished
from spo.training import ranks
from spo.training.pending import Pending
from spo.types import Episode

#: (iteration that made it, Episode)
Memory = tuple[tuple[int, Episode], ...]
#: Begins the names of tensors of `Pending.best`.
BEST = "best/"
#: Files of a checkpoint: what an iteration has collected.
COLLECTED = "collected.safetensors"
#: Append-only files of a run; a resumed run cuts them back to where its checkpoint was taken.
LOGS = ("metrics.jsonl", "timing.jsonl")
#: Their names in a safetensors file
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class State:
    """State of a run between two iterations: iterations `done`, weights and moments by name, memory, counters; inside
    an iteration also what is `pending`, whose `best` weights are among the tensors, behind `BEST`.

    Tensors that were read from a checkpoint are views of its file, which the system reads as they are copied. Each of
    several processes has its own ones to save.
    """

    done: int
    tensors: Mapping[str, Tensor]
    memory: Memory
    counters: dict[str, float]
    pending: Pending | None = None

    @property
    def folder(self) -> str:
        """Return the name of its folder; later ones are later in the alphabet."""
        inside = "" if self.pending is None else f".{self.pending.steps_done:07d}"
        return f"step-{self.done:06d}{inside}"


def claim(folder: Path, fingerprint: Mapping[str, object]) -> None:
    """Bind the folder to one configuration: write `fingerprint.json` the first time, compare it afterwards.

    Raises UserError naming the keys that differ; the folder stays as it is.
    """
    path = folder / "fingerprint.json"
    if not path.exists():
        store.write_json(path, fingerprint)
        return
    old, new = _flat(store.read_json(path)), _flat(dict(fingerprint))
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if differing:
        shown = ", ".join(f"{name} (was {old.get(name)}, now {new.get(name)})" for name in differing[:4])
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        remedy = _remedy(differing, old.get("sampler"))
        raise UserError(f"{folder}: state of another configuration: {shown}{more}; {remedy}")


def _remedy(differing: Sequence[str], sampler: object) -> str:
    """Say what makes a state folder fit again, whose sampler was `sampler`, or None for PyTorch alone.

    >>> _remedy(["sampler"], None)
    'set SPO_SAMPLER=plain to resume with the same sampler'
    >>> _remedy(["train.iterations"], None)
    'remove the folder to start from the beginning'
    """
    if list(differing) != ["sampler"]:
        return "remove the folder to start from the beginning"
    if sampler is None:
        return "set SPO_SAMPLER=plain to resume with the same sampler"
    return "install a C compiler (gcc or clang), or unset SPO_SAMPLER, to resume with the same sampler"


def save(folder: Path, state: State) -> None:
    """Write the checkpoint and drop all but the newest two. RunFailure if the disk refuses.

    Beside the tensors themselves this takes the memory of one of them, on the processor where it is on a GPU or in
    another process: the first of several writes those of all, and all wait until it has.
    """
    if ranks.first():
        _write(folder, state)
    else:
        ranks.hand_over(state.tensors)
    ranks.wait()


def _write(folder: Path, state: State) -> None:
    final, temporary = folder / state.folder, folder / "step-tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        sums = {"tensors.safetensors": _write_tensors(temporary / "tensors.safetensors", state.tensors)}
        store.write_jsonl(
            temporary / "memory.jsonl", ({"made": made, **asdict(episode)} for made, episode in state.memory)
        )
        sums["memory.jsonl"] = store.sha256_file(temporary / "memory.jsonl")
        if state.pending is not None:
            sums[COLLECTED] = _collected(folder, temporary / COLLECTED, state.pending)
        store.write_json(
            temporary / "state.json",
            {
                "done": state.done,
                "counters": state.counters,
                "logs": {name: _size(folder / name) for name in LOGS},
                "pending": None if state.pending is None else unfinished.to_json(state.pending),
                "sha256": sums,
            },
        )
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _sync(folder)
    except OSError as error:
        raise RunFailure(
            f"{error.filename or folder}: cannot save training state: {error.strerror}; free space, then rerun"
        ) from None
    for old in _checkpoints(folder)[2:]:
        shutil.rmtree(old, ignore_errors=True)


def _collected(folder: Path, path: Path, pending: Pending) -> str:
    """Have at `path` what an iteration has collected, from its last checkpoint if there is one; the SHA-256."""
    for earlier in _checkpoints(folder)[:1]:
        document = store.read_json(earlier / "state.json")
        if (document.get("pending") or {}).get("iteration") == pending.iteration:
            try:
                os.link(earlier / COLLECTED, path)
            except OSError:  # a file system without links
                shutil.copyfile(earlier / COLLECTED, path)
            return document["sha256"][COLLECTED]
    unfinished.write_collected(path, pending)
    _sync(path)
    return store.sha256_file(path)


def load(folder: Path) -> State | None:
    """The newest intact checkpoint, after cutting the run's logs back to it; None if there is none yet.

    A damaged checkpoint costs one line on stderr and the previous one is taken. If all are damaged: RunFailure, never a
    silent fresh start.
    """
    done = ranks.from_first(lambda: _resume(folder))
    return None if done is None else _read(folder / done)


def _resume(folder: Path) -> str | None:
    """Name of the newest intact checkpoint, once the logs are cut back to it."""
    candidates = _checkpoints(folder)
    for path in candidates:
        reason = _damage(path)
        if reason is None:
            for name, size in store.read_json(path / "state.json")["logs"].items():
                if (folder / name).exists():
                    os.truncate(folder / name, size)
            return path.name
        print(f"spo: {path}: {reason}; trying the checkpoint before it", file=sys.stderr)
    if candidates:
        raise RunFailure(f"{folder}: every checkpoint is damaged; remove the folder to start from the beginning")
    for name in LOGS:
        (folder / name).unlink(missing_ok=True)
    return None


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file, one tensor after the other; its SHA-256.

    The library's own writer copies every tensor of a GPU before it writes the first. Format: 8 bytes with the length of
    a JSON header, the header, the bytes of the tensors (https://huggingface.co/docs/safetensors).
    """
    blank, contents = ranks.collected(tensors)
    header, end = {}, 0
    for name, tensor in blank.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    # One place for all of them: what is taken and given back for each, an allocator may keep.
    room = torch.empty(max((t.numel() * t.element_size() for t in blank.values()), default=0), dtype=torch.uint8)

    def flat(tensor: Tensor) -> np.ndarray:
        own = room[: tensor.numel() * tensor.element_size()]
        own.view(tensor.dtype).view(tensor.shape).copy_(tensor)
        return own.numpy()

    written = map(flat, contents)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in chain((len(head).to_bytes(8, "little"), head), written):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _read(path: Path) -> State:
    from safetensors.torch import load_file

    document = store.read_json(path / "state.json")
    memory = []
    for row in store.read_jsonl(path / "memory.jsonl"):
        made, problem_id = row.pop("made"), row.pop("problem_id")
        memory.append((made, Episode(problem_id, **{name: tuple(values) for name, values in row.items()})))
    tensors, pending = load_file(path / "tensors.safetensors"), document.get("pending")
    if pending is not None:
        best = {name.removeprefix(BEST): t.clone() for name, t in tensors.items() if name.startswith(BEST)}
        pending = unfinished.read(path / COLLECTED, pending, best)
    return State(document["done"], tensors, tuple(memory), document["counters"], pending)


def _damage(path: Path) -> str | None:
    """Why a checkpoint cannot be trusted, or None."""
    try:
        sums = store.read_json(path / "state.json")["sha256"]
        wrong = [name for name, digest in sums.items() if store.sha256_file(path / name) != digest]
    except (UserError, KeyError, TypeError):
        return "incomplete"
    return f"{wrong[0]}: checksum differs" if wrong else None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-[0-9]*"), reverse=True)


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): list(value) if isinstance(value, tuple) else value}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
