"""Files of weights: which of them a model folder uses, and the names and shapes in them. Nothing here imports torch."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spo.errors import UserError

#: First bytes of the text that Git LFS leaves in place of a large file.
LFS_POINTER = b"version https://git-lfs"
#: In the order in which transformers looks for them: one file, or the index of several.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
#: Names of weights in other formats, of adapters and of training state; no other file ends so.
OTHER_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.ggml", "*.ot")
OTHER_WEIGHTS += ("*.onnx", "*.onnx_data", "*.tflite", "*.mlmodel", "*.npz", "*.pdparams", "*.distcp")
#: Bytes per element of the dtypes of a safetensors header.
BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
BYTES |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
#: A header is a few hundred bytes per tensor; the library refuses longer ones as well.
_MOST_HEADER_BYTES = 100_000_000


class Stored(NamedTuple):
    """A tensor in a file: its dtype in the words of safetensors, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that hold a folder's weights; raise UserError if there are none, or not all of them."""
    for single, index in WEIGHTS:
        has_single, has_index = (folder / single).is_file(), (folder / index).is_file()
        if has_single and has_index:
            raise UserError(f"{folder}: both {single} and {index} are there. Remove the one that is not meant.")
        if has_single:
            return (folder / single,)
        if has_index:
            return _shards(folder / index)
    raise UserError(f"{folder / WEIGHTS[0][0]}: no such file, {_instead(folder)}")


def read_headers(files: tuple[Path, ...]) -> dict[str, Stored]:
    """Return all tensors of safetensors files by name; raise UserError for a damaged file or a name in two files."""
    owners: dict[str, Path] = {}
    tensors: dict[str, Stored] = {}
    for path in files:
        for name, stored in read_header(path).items():
            if name in owners:
                raise UserError(
                    f"{path}: {name} is in {owners[name].name} as well. Download the files of one version of the model."
                )
            owners[name], tensors[name] = path, stored
    return tensors


def read_header(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file by name, from its header alone.

    Format: 8 bytes with the length of a JSON header, the header, the bytes of the tensors
    (https://huggingface.co/docs/safetensors). Raises UserError unless header and size of the file agree.
    """
    size = check_no_pointer(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise damaged(path, "its header is incomplete")
        try:
            header = json.loads(file.read(length))
            entries = {name: _entry(value) for name, value in header.items() if name != "__metadata__"}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise damaged(path, "its header is not that of a safetensors file") from None
    at = 0
    for name, (stored, start, end) in sorted(entries.items(), key=lambda entry: entry[1][1:]):
        expected = math.prod(stored.shape) * BYTES.get(stored.dtype, 0)
        if start != at or end < start or (expected and end - start != expected):
            raise damaged(path, f"its header gives {name} a wrong place")
        at = end
    if 8 + length + at != size:
        raise damaged(path, f"it has {size} bytes, and its header describes {8 + length + at}")
    return {name: stored for name, (stored, _, _) in entries.items()}


def check_archive(path: Path) -> None:
    """Raise UserError unless a `.bin` file is complete; its names are read with torch alone (see `policy.weights`)."""
    check_no_pointer(path)
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK" and not zipfile.is_zipfile(path):
        raise damaged(path, "it is an incomplete archive")
    if start != b"PK" and start[:1] != b"\x80":
        raise damaged(path, "it is not a file that torch.save wrote")


def check_no_pointer(path: Path) -> int:
    """Return the size of a file; raise UserError if it is not readable, or a pointer that Git LFS left there."""
    try:
        with open(path, "rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise UserError(
                    f"{path}: a pointer of Git LFS and not the file itself. Run `git lfs pull` in that folder, or "
                    "download the model again with `hf download`."
                )
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None


def few(names: Sequence[str]) -> str:
    """Return the first of many names, and how many more there are.

    >>> few(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def damaged(path: Path, why: str) -> UserError:
    """Return the error of a file that was cut off or is something else."""
    return UserError(f"{path}: damaged: {why}. Download it again.")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, in which NaN and Infinity may occur, as Python writes them; else UserError."""
    check_no_pointer(path)
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}). Download it again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object. Download it again.")
    return found


def _entry(value: Mapping[str, Any]) -> tuple[Stored, int, int]:
    start, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(isinstance(number, int) for number in (start, end, *shape)) or min(shape, default=0) < 0:
        raise ValueError(value)
    return Stored(str(value["dtype"]), shape), start, end


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: no weight_map. Download it again.")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise UserError(f"{index}: weight_map: {outside[0]} is not a file of the folder. Download the model again.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index.parent / missing[0]}: no such file, though {index.name} names it"
            f"{f' ({len(missing)} of {len(names)} files are missing)' if len(missing) > 1 else ''}. "
            "Download the model again."
        )
    return tuple(index.parent / name for name in names)


def index_names(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (tensor, file) of the index that a folder's weights have; nothing if they are one file."""
    for single, index in WEIGHTS:
        if (folder / single).is_file():
            return
        if (folder / index).is_file():
            yield from read_object(folder / index)["weight_map"].items()
            return


def _instead(folder: Path) -> str:
    """Say what else is there, and what to do about it."""
    if any(folder.glob("model-*-of-*.safetensors")):
        return "and its shards have no model.safetensors.index.json. Download the model again."
    names = [name for both in WEIGHTS for name in both]
    for link in (folder / name for name in names):
        if link.is_symlink() and not link.exists():
            return f"but a link to {link.readlink()}, which is not there. Download the model again."
    others = sorted(path.name for pattern in OTHER_WEIGHTS for path in folder.glob(pattern) if path.is_file())
    if others:
        return (
            f"but {others[0]}. Convert the weights: load the folder with transformers, and `save_pretrained` writes "
            "safetensors."
        )
    return "and no other weights. Download the model again."
