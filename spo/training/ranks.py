"""Processes that share one run: which of them this is, and what they tell each other. A run alone tells nothing.

Every process goes through the same iterations with the same numbers. What takes time (samples, scores, verdicts,
gradients, updates) is divided between them and gathered again, so that whatever depends on it is decided everywhere
alike. The first one writes all files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from spo import gpus, launch
from spo.errors import RunFailure, UserError, out_of_memory

T = TypeVar("T")

#: Who waits for the first process to write a checkpoint, or to find the folder free, waits as long as that takes. That
#: a process has ended is noticed without this.
TIMEOUT = timedelta(days=30)


class _Group(NamedTuple):
    rank: int
    count: int
    connection: dist.ProcessGroup
    store: dist.Store


_group: _Group | None = None


@contextmanager
def joined(on_gpu: bool = False) -> Iterator[None]:
    """Be one of the processes that `spo.launch` or torchrun started, inside; alone, nothing.

    With `on_gpu` each takes one of the GPUs seen, where there are any; to be entered before CUDA starts. An error
    leaves by one process, whose line says what it was; the others end in silence, with exit code 1.
    """
    global _group
    at = launch.place()
    if at is None:
        launch.forget()
        yield
        return
    names = gpus.one_each(at.local_count) if on_gpu else []
    if names:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[at.local_rank]
    store, _, _ = next(rendezvous(at.meeting, at.rank, at.count, timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if names and torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, store=dist.PrefixStore("run", store), rank=at.rank, world_size=at.count, timeout=TIMEOUT
    )
    launch.forget()
    _group = _Group(at.rank, at.count, dist.group.WORLD, store)
    # vLLM makes its process groups beside the default one, if there is one, together with whoever is in it. It must not
    # find this one: each process has a vLLM of its own.
    dist.group.WORLD = None
    try:
        yield
    except (UserError, RunFailure, OSError, KeyboardInterrupt):
        if _is_first_to_end(store):
            raise
        raise SystemExit(1) from None
    finally:
        connection, _group = _group.connection, None
        dist.destroy_process_group(connection)


def _is_first_to_end(store: dist.Store) -> bool:
    try:
        return store.add("ended", 1) == 1
    except RuntimeError:  # it was kept by a process that has ended
        return False


def count() -> int:
    """Number of processes."""
    return 1 if _group is None else _group.count


def rank() -> int:
    """Which of them this is, from 0."""
    return 0 if _group is None else _group.rank


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def part(items: Sequence[T]) -> Sequence[T]:
    """The part of `items` that is this process's to do: neighbours, and as many as others have, or one more.

    >>> part([1, 2, 3])
    [1, 2, 3]
    """
    return items[len(items) * rank() // count() : len(items) * (rank() + 1) // count()]


def owners(sizes: Mapping[str, int], processes: int) -> dict[str, int]:
    """Which process has each thing, so that sizes add up to about the same: large ones first, to whoever has least.

    >>> owners({"a": 3, "b": 5, "c": 2, "d": 4}, 2)
    {'a': 1, 'b': 0, 'c': 0, 'd': 1}
    """
    loads, found = [0] * processes, dict.fromkeys(sizes, 0)
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        found[name] = loads.index(min(loads))
        loads[found[name]] += sizes[name]
    return found


def gathered(own: list[T]) -> list[T]:
    """The lists of all processes, one after the other: of `part`, the whole."""
    if _group is None:
        return own
    rows: list[Any] = [None] * _group.count
    with _talking():
        dist.all_gather_object(rows, own, group=_group.connection)
    return [item for row in rows for item in row]


def added(sums: dict[str, float]) -> dict[str, float]:
    """Sums of all processes by name; a name that one lacks counts as 0 there."""
    if _group is None:
        return sums
    rows = gathered([sums])
    return {name: sum(row.get(name, 0.0) for row in rows) for name in dict.fromkeys(n for row in rows for n in row)}


def anywhere(flags: Sequence[bool]) -> list[bool]:
    """Of each flag, whether it is set in any process."""
    if _group is None:
        return list(flags)
    return [any(column) for column in zip(*gathered([tuple(flags)]), strict=True)]


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, which alone calls it."""
    return gathered([make()] if first() else [])[0]


def wait() -> None:
    """Until all processes are here."""
    gathered([])


def add_up(tensor: Tensor, owner: int) -> None:
    """Add the tensors of all processes into that of `owner`; elsewhere it is of no more use."""
    with _talking():
        dist.reduce(tensor, group_dst=owner, group=_group.connection)


def spread(tensor: Tensor, owner: int) -> None:
    """Make a tensor everywhere what it is in process `owner`."""
    with _talking():
        dist.broadcast(tensor, group_src=owner, group=_group.connection)


def hand_over(own: Mapping[str, Tensor]) -> None:
    """Give the first process, which calls `collected`, what this one has."""
    gathered([_shapes(own)])
    with _talking():
        for tensor in own.values():
            dist.send(tensor.detach().cpu().contiguous(), group_dst=0, group=_group.connection)


def collected(own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Iterator[Tensor]]:
    """For the first process, while the others call `hand_over`: the tensors of all by name, without their content, and
    the contents in the same order, in main memory, one at a time."""
    rows = gathered([_shapes(own)])
    shapes = {name: shape for row in rows for name, shape in row.items()}

    def contents() -> Iterator[Tensor]:
        yield from (tensor.detach().cpu() for tensor in own.values())
        for source, row in enumerate(rows[1:], start=1):
            for shape, dtype in row.values():
                tensor = torch.empty(shape, dtype=dtype)
                with _talking():
                    dist.recv(tensor, group_src=source, group=_group.connection)
                yield tensor

    blank = {name: torch.empty(shape, dtype=kind, device="meta") for name, (shape, kind) in shapes.items()}
    return blank, contents()


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


@contextmanager
def _talking() -> Iterator[None]:
    """RunFailure where another process is gone; what PyTorch then says differs by what was being done."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0][:160]
        raise RunFailure(f"another process of this run has ended ({reason}); the same command continues") from None
