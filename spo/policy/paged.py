"""Decoding with the compiled kernels: every row has pages of its own, so that rows come and go at any step.

A pass takes tokens that have nothing in common but the weights: the next ones of unfinished responses, or those of
prompts, which are rows like any other. Finished rows leave at once; waiting ones take their places, together with their
prompts, when enough are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spo import seeds
from spo.policy import pages
from spo.policy.compiled import PAGE_TOKENS
from spo.policy.decode import Row
from spo.policy.known import Ended, Known
from spo.policy.pages import Chains
from spo.types import Sample, Sampling

#: Waiting rows are let in when they can fill this share of all places, or when all that are left can come.
_REFILL_SHARE = 0.25
#: Tokens of prompts that are computed in one pass, where rows are fewer.
_PROMPT_TOKENS = 512
#: Rows that are enough for products to be fast. More at once help only while reading their keys and values takes less
#: than this many times as long as reading the weights: the caches hold those of few rows.
_ENOUGH_ROWS, _WEIGHTS_READ = 64, 4


@dataclass(frozen=True)
class Live:
    """N rows that are being written: numbers of rows; the tokens drawn last, which no page has yet; how many were
    drawn; what each row reads."""

    row: np.ndarray
    tokens: np.ndarray
    written: np.ndarray
    chains: Chains

    def take(self, which: np.ndarray) -> Live:
        return Live(self.row[which], self.tokens[which], self.written[which], self.chains.take(which))


class Decoding:
    """`rows` on their way: which wait, in order, which are being written, and what has been drawn."""

    def __init__(self, known: Known, rows: Sequence[Row], sampling: Sampling, end_ids: Sequence[int]) -> None:
        self.known, self.passes, self.pool = known, known.passes, known.passes.pool
        self.rows, self.sampling, self.end_ids, self.begun = rows, sampling, end_ids, 0
        self.keys = np.array([row.key for row in rows], np.uint64)
        self.prefixes = np.array([row.prefix for row in rows])
        self.limits = np.array([row.max_tokens for row in rows])
        self.finished = np.zeros(len(rows), bool)
        self.drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.ended: list[Ended] = []
        nothing = np.zeros(0, np.int64)
        self.live = Live(nothing, nothing, nothing, pages.chains([]))

    def let_in(self, count: int) -> None:
        """Begin the next `count` rows: each has its first token, or was that all."""
        row = np.arange(self.begun, self.begun + count)
        self.begun += count
        number = {prompt: i for i, prompt in enumerate(dict.fromkeys(self.rows[i].prompt for i in row))}
        whole = self.known.chains(list(number))
        owners = np.array([number[self.rows[i].prompt] for i in row])
        read = pages.truncate(whole.take(owners), self.prefixes[row])
        self.pool.hold(read.entries())
        self.pool.release(whole.entries())
        # Rows that continue the same tokens have the same logits at first: one row's last token is computed for all.
        states = owners * (1 + self.prefixes[row].max()) + self.prefixes[row]
        _, some, which = np.unique(states, return_index=True, return_inverse=True)
        lasts = self.prefixes[row[some]] - 1
        tokens = np.array([self.rows[row[i]].prompt[last] for i, last in zip(some, lasts, strict=True)])
        logits = self.passes.logits(tokens, lasts, read.take(some))
        new = self._draw(Live(row, row, np.zeros(count, np.int64), read), logits[torch.from_numpy(which)])
        own = pages.extended(new.chains, np.arange(len(new.row)), self.pool.take(len(new.row)))
        old = self.live
        arrays = ((old.row, new.row), (old.tokens, new.tokens), (old.written, new.written))
        self.live = Live(*map(np.concatenate, arrays), pages.joined(old.chains, own))

    def step(self) -> None:
        """One token for every row that is being written."""
        live, everyone = self.live, np.arange(len(self.live.row))
        chains = live.chains
        full = np.flatnonzero(chains.counts[everyone, chains.used - 1] == PAGE_TOKENS)
        if len(full):
            chains = pages.extended(chains, full, self.pool.take(len(full)))
        chains.counts[everyone, chains.used - 1] += 1
        logits = self.passes.logits(live.tokens, self.prefixes[live.row] + live.written - 1, chains)
        self.live = self._draw(replace(live, chains=chains), logits)

    def _draw(self, live: Live, logits: Tensor) -> Live:
        """Draw the next token of each row; what is left are the rows that go on."""
        uniform = seeds.uniform(self.keys[live.row], live.written)
        tokens, logprobs = self.passes.draw(logits, self.sampling, uniform)
        self.drawn.append((live.row, tokens, logprobs))
        at_end = np.isin(tokens, self.end_ids)
        self.finished[live.row[at_end]] = True
        live = replace(live, tokens=tokens, written=live.written + 1)
        going = ~at_end & (live.written < self.limits[live.row])
        if going.all():
            return live
        ended = live.take(~going)
        if self.known.full:
            self.pool.release(ended.chains.entries())
        else:
            self.ended.append(Ended(ended.row, ended.chains))
        return live.take(going)

    def samples(self) -> list[Sample]:
        """One a row, in their order, once all have ended."""
        row, ids, logprobs = (np.concatenate(parts) for parts in zip(*self.drawn, strict=True))
        order = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row)).tolist()
        ids, logprobs, finished = ids[order].tolist(), logprobs[order].tolist(), self.finished.tolist()
        spans = zip([0, *ends], ends, finished, strict=False)
        out = [Sample(tuple(ids[a:b]), tuple(logprobs[a:b]), end) for a, b, end in spans]
        self.known.add_later(self.rows, out, self.ended)
        return out


def decode(
    known: Known, rows: Sequence[Row], sampling: Sampling, end_ids: Sequence[int], batch_rows: int
) -> list[Sample]:
    """One sample a row, at most `batch_rows` being written at once; prompts of rows are in alphabetical order."""
    longest = max(row.prefix + row.max_tokens for row in rows)
    row_bytes = longest * known.passes.pool.page_bytes // PAGE_TOKENS
    batch_rows = min(batch_rows, max(_ENOUGH_ROWS, _WEIGHTS_READ * known.passes.weight_bytes // row_bytes))
    known.passes.make_room(longest, max(min(batch_rows, len(rows)), _PROMPT_TOKENS))
    state = Decoding(known, rows, sampling, end_ids)
    while state.begun < len(rows) or len(state.live.row):
        places, waiting = batch_rows - len(state.live.row), len(rows) - state.begun
        if waiting and places >= min(waiting, _REFILL_SHARE * batch_rows):
            state.let_in(min(places, waiting))
        if len(state.live.row):
            state.step()
    return state.samples()
