"""Keys and values in pages of a few tokens, shared by all that continue the same tokens, and used again once free.

A chain is a list of pages with the number of tokens that count of each: what a row of a batch reads. What is in a page
is told in `kernels/decoder.c`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Bytes of memory that are asked for at once, at most, where a few pages do not take more.
_SLAB_BYTES = 1 << 24
#: Places by which lists of pages grow.
_GROW_PAGES = 8


class Chains(NamedTuple):
    """N lists of at most P pages."""

    pages: np.ndarray
    """(N, P) int32; anything beyond the end of a list."""
    counts: np.ndarray
    """(N, P) int32: tokens of each; 0 beyond the end."""
    used: np.ndarray
    """(N) int32: pages."""

    def take(self, rows: np.ndarray) -> Chains:
        return Chains(self.pages[rows], self.counts[rows], self.used[rows])

    def entries(self) -> np.ndarray:
        """Ids of all pages of all rows, as often as they occur."""
        return self.pages[np.arange(self.pages.shape[1]) < self.used[:, None]]


def chains(lists: list[tuple[list[int], list[int]]]) -> Chains:
    """Of (pages, counts) a row.

    >>> chains([([7, 8], [16, 3]), ([9], [4])]).counts.tolist()
    [[16, 3], [4, 0]]
    """
    used = np.array([len(ids) for ids, _ in lists], np.int32)
    tables = np.zeros((2, len(lists), max(used, default=0)), np.int32)
    for n, row in enumerate(lists):
        tables[:, n, : used[n]] = row
    return Chains(*tables, used)


def truncate(whole: Chains, tokens: np.ndarray) -> Chains:
    """The first `tokens` (N) of chains.

    >>> whole = chains([([7, 8], [16, 3]), ([7, 8], [16, 3])])
    >>> truncate(whole, np.array([16, 18])).counts.tolist(), truncate(whole, np.array([16, 18])).used.tolist()
    ([[16, 0], [16, 2]], [1, 2])
    """
    before = np.cumsum(whole.counts, axis=1, dtype=np.int32) - whole.counts
    counts = np.clip(tokens[:, None] - before, 0, whole.counts).astype(np.int32)
    return Chains(whole.pages, counts, (counts > 0).sum(axis=1, dtype=np.int32))


def joined(first: Chains, second: Chains) -> Chains:
    """The rows of both."""
    width = max(first.pages.shape[1], second.pages.shape[1])
    tables = [(_wide(a, width), _wide(b, width)) for a, b in zip(first[:2], second[:2], strict=True)]
    return Chains(*map(np.concatenate, tables), np.concatenate((first.used, second.used)))


def extended(short: Chains, rows: np.ndarray, ids: np.ndarray) -> Chains:
    """Chains whose `rows` have one more page each, `ids`, without tokens; may change what it was given."""
    pages, counts, used = short
    if len(rows) and used[rows].max() == pages.shape[1]:
        pages, counts = (_wide(table, pages.shape[1] + _GROW_PAGES) for table in (pages, counts))
    pages[rows, used[rows]], counts[rows, used[rows]] = ids, 0
    used[rows] += 1
    return Chains(pages, counts, used)


def _wide(table: np.ndarray, width: int) -> np.ndarray:
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))


class Pool:
    """Pages of `page_floats` numbers; ids count up from 0, and memory is added as they run out."""

    def __init__(self, page_floats: int) -> None:
        self.page_floats = page_floats
        #: A slab has 2 ** slab_shift pages; `addresses` int64 says where each slab is.
        self.slab_shift = max(2, (_SLAB_BYTES // (4 * page_floats)).bit_length() - 1)
        self.addresses = np.zeros(0, np.int64)
        self._slabs: list[Tensor] = []
        self._free = self._holders = np.zeros(0, np.int32)

    def take(self, count: int) -> np.ndarray:
        """Ids (count) int32 of free pages, which have one holder now."""
        size = 1 << self.slab_shift
        while len(self._free) < count:
            slab, start = torch.empty(self.page_floats * size), len(self._slabs) * size
            self._slabs.append(slab)
            self.addresses = np.append(self.addresses, slab.data_ptr())
            self._free = np.concatenate((np.arange(start + size - 1, start - 1, -1, np.int32), self._free))
            self._holders = np.append(self._holders, np.zeros(size, np.int32))
        # The last is what was given back last, and is likelier to be near the processor still.
        kept = len(self._free) - count
        self._free, taken = self._free[:kept], self._free[kept:][::-1]
        self._holders[taken] = 1
        return taken

    def hold(self, ids: np.ndarray) -> None:
        """One more holder for each occurrence."""
        np.add.at(self._holders, ids, 1)

    def release(self, ids: np.ndarray) -> None:
        """One holder fewer for each occurrence; pages without any are free."""
        np.subtract.at(self._holders, ids, 1)
        touched = np.unique(ids)
        self._free = np.concatenate((self._free, touched[self._holders[touched] == 0]))

    @property
    def held(self) -> int:
        """Pages that somebody holds."""
        return len(self._holders) - len(self._free)

    @property
    def page_bytes(self) -> int:
        return 4 * self.page_floats

    @property
    def bytes(self) -> int:
        """Memory for pages, held or free."""
        return self.page_bytes * len(self._holders)

    @property
    def held_bytes(self) -> int:
        return self.page_bytes * self.held
