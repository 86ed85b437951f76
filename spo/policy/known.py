"""Sequences whose keys and values lie in pages: prompts that were computed, and responses that were sampled.

What a prompt has in common with any of them is not computed again, so that rollouts from a response need no pass over
it, nor children of a node one over their parent. Changed weights need another `Known`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spo.policy import pages
from spo.policy.compiled import PAGE_TOKENS
from spo.policy.decode import Row
from spo.policy.pages import Chains
from spo.policy.passes import Passes
from spo.types import Sample

#: Bytes of pages beyond which none is kept that no row reads.
KEPT_BYTES = 1 << 27

#: A chain as Python has it: pages, and how many tokens of each.
_Lists = tuple[list[int], list[int]]


class Ended(NamedTuple):
    """Chains of rows that have ended, by their numbers."""

    row: np.ndarray
    chains: Chains


class Known:
    """Sequences in the pages of `passes`, which it holds."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self._sorted: list[tuple[int, ...]] = []
        self._lists: dict[tuple[int, ...], _Lists] = {}
        self._later: list[tuple[Sequence[Row], Sequence[Sample], list[Ended]]] = []

    @property
    def full(self) -> bool:
        """Whether rows that end are to give back their pages."""
        return self.passes.pool.held_bytes > KEPT_BYTES

    @property
    def too_large(self) -> bool:
        """Whether it had better not wait for another call."""
        return self.passes.pool.bytes > 2 * KEPT_BYTES

    def chains(self, prompts: Sequence[tuple[int, ...]]) -> Chains:
        """Of prompts, each without the last token's keys and values; each has a holder, whom the caller releases."""
        self._catch_up()
        pool, lists, missing = self.passes.pool, [], []
        for number, prompt in enumerate(prompts):
            if prompt not in self._lists:
                start, (ids, counts) = self._longest(prompt)
                fresh = range(start, len(prompt), PAGE_TOKENS)
                pool.hold(np.array(ids, np.int32))
                self._add(
                    prompt,
                    ids + pool.take(len(fresh)).tolist(),
                    counts + [min(PAGE_TOKENS, len(prompt) - at) for at in fresh],
                )
                missing += [(number, at, prompt[at]) for at in range(start, len(prompt) - 1)]
            lists.append(self._lists[prompt])
        whole = pages.chains(lists)
        pool.hold(whole.entries())
        for at in range(0, len(missing), self.passes.most):
            owners, positions, tokens = np.array(missing[at : at + self.passes.most]).T.copy()
            self.passes.fill(tokens, positions, pages.truncate(whole.take(owners), positions + 1))
        return whole

    def add_later(self, rows: Sequence[Row], samples: Sequence[Sample], ended: list[Ended]) -> None:
        """Take over the holders of responses that were sampled; most calls are the last with their weights, and what
        is never asked for costs nothing more."""
        self._later.append((rows, samples, ended))

    def _catch_up(self) -> None:
        pool = self.passes.pool
        for rows, samples, ended in self._later:
            for numbers, chains in ended:
                for number, ids, counts, used in zip(numbers.tolist(), *chains, strict=True):
                    row = rows[number]
                    tokens = row.prompt[: row.prefix] + samples[number].response_ids[:-1]
                    if tokens in self._lists:
                        pool.release(ids[:used])
                    else:
                        self._add(tokens, ids[:used].tolist(), counts[:used].tolist())
        self._later = []
        if self.full:
            for ids, _ in self._lists.values():
                pool.release(np.array(ids, np.int32))
            self._sorted, self._lists = [], {}

    def _add(self, tokens: tuple[int, ...], ids: list[int], counts: list[int]) -> None:
        insort(self._sorted, tokens)
        self._lists[tokens] = ids, counts

    def _longest(self, prompt: tuple[int, ...]) -> tuple[int, _Lists]:
        """How many tokens of a prompt are known, and where: one of its neighbours in the alphabet has most of it."""
        at = bisect_left(self._sorted, prompt)
        around = self._sorted[max(0, at - 1) : at + 1]
        start, best = max(((_alike(other, prompt), other) for other in around), default=(0, ()))
        return start, _first(*self._lists[best], start) if start else ([], [])


def _alike(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Tokens with which both begin.

    >>> _alike((5, 6, 7), (5, 6, 8, 9))
    2
    """
    both = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(first), len(second)))


def _first(ids: list[int], counts: list[int], tokens: int) -> _Lists:
    """Pages and counts of the first `tokens` of a chain.

    >>> _first([7, 8, 9], [16, 3, 16], 18)
    ([7, 8], [16, 2])
    """
    kept = []
    for count in counts:
        if not tokens:
            break
        kept.append(min(count, tokens))
        tokens -= kept[-1]
    return ids[: len(kept)], kept
