"""Samples of an iteration that is being collected, kept on disk, so that a stopped run need not draw them again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from spo import seeds, store
from spo.methods import share
from spo.policy import Policy
from spo.training import ranks
from spo.training.pending import rows_from_arrays, rows_to_arrays
from spo.types import Request, Sample, Sampling

#: Samples of one file. Fewer would leave a GPU idle at the end of each.
PART_SAMPLES = 16384


class Sampled:
    """Samples of an iteration, in the order of its requests, read from the folder as far as they are there.

    An iteration asks for the same samples whenever it is repeated, since nothing in it is random but by counters.
    `drawn` is called after each part.
    """

    def __init__(self, folder: Path, drawn: Callable[[], None]) -> None:
        self.folder, self.drawn, self.calls = folder, drawn, 0

    def sample(self, policy: Policy, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        """Return samples as `share.sample` does."""
        self.calls += 1
        out: list[list[Sample]] = []
        for number, part in enumerate(_parts(requests)):
            path = self.folder / f"{self.calls:04d}-{number:06d}.safetensors"
            asked = f"{seeds.key(repr((part, sampling))):016x}"
            found = ranks.from_first(lambda path=path, asked=asked: _read(path, asked))
            if found is None:
                found = share.sample(policy, part, sampling)
                if ranks.first():
                    _write(path, asked, found)
                self.drawn()
            out += found
        return out

    def clear(self) -> None:
        """Remove the files, once what became of them is saved."""
        if ranks.first():
            shutil.rmtree(self.folder, ignore_errors=True)


def _parts(requests: Sequence[Request]) -> Iterator[list[Request]]:
    part: list[Request] = []
    samples = 0
    for request in requests:
        part.append(request)
        samples += len(request.keys)
        if samples >= PART_SAMPLES:
            yield part
            part, samples = [], 0
    if part:
        yield part


def _write(path: Path, asked: str, found: Sequence[Sequence[Sample]]) -> None:
    from safetensors.numpy import save_file

    flat = [sample for samples in found for sample in samples]
    arrays = {"counts": np.array([len(samples) for samples in found], np.int64)}
    for name in ("response_ids", "sampler_logprobs", "stop_ids"):
        arrays |= rows_to_arrays(name, [getattr(sample, name) for sample in flat])
    arrays["finished"] = np.array([sample.finished for sample in flat], np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(arrays, temporary, metadata={"asked": asked})
    store.permit_usual(temporary)
    temporary.replace(path)


def _read(path: Path, asked: str) -> list[list[Sample]] | None:
    """Samples of a file; None where there is none, or one of other requests."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            if file.metadata() != {"asked": asked}:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    fields = [rows_from_arrays(name, arrays) for name in ("response_ids", "sampler_logprobs")]
    columns = zip(*fields, arrays["finished"].tolist(), rows_from_arrays("stop_ids", arrays), strict=True)
    flat = iter([Sample(ids, logprobs, bool(finished), stop) for ids, logprobs, finished, stop in columns])
    return [[next(flat) for _ in range(count)] for count in arrays["counts"].tolist()]
