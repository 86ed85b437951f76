"""Decoding a batch of rows to the end: prompts once, rows in blocks by host, finished rows taken out now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spo import seeds
from spo.policy import fused, transformer
from spo.policy.fused import Decoder, Shared
from spo.policy.sampling import choose
from spo.policy.transformer import Geometry, Weights
from spo.types import Sample, Sampling

#: Tokens in one pass over prompts; bounds its memory, and the padding where prompts differ in length.
_PREFILL_TOKENS = 1024
#: Places for written tokens, added so many at a time: attention over places in close order is faster.
_GROW_TOKENS = 32
#: What reading a host's keys and values once more costs, in rows.
_BLOCK_COST_ROWS = 0.5
#: Rows are arranged anew when this share of them has ended: copying what the others wrote costs about a step.
_ENDED_SHARE = 0.15


@dataclass(frozen=True)
class Row:
    """One response to make: sample `sample` of request `request`, continuing the first `prefix` tokens of a prompt."""

    request: int
    sample: int
    prompt: tuple[int, ...]
    prefix: int
    key: int
    max_tokens: int


def decode(
    weights: Weights, geo: Geometry, rows: Sequence[Row], sampling: Sampling, end_ids: Sequence[int], batch_rows: int
) -> list[Sample]:
    """One sample a row, `batch_rows` at a time, those with long prompts together."""
    decoder = fused.prepare(weights, geo, max(row.prefix + row.max_tokens for row in rows))
    out: list[Sample | None] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].prompt))
    for start in range(0, len(rows), batch_rows):
        batch = order[start : start + batch_rows]
        samples = _decode(weights, decoder, [rows[i] for i in batch], sampling, end_ids)
        for i, sample in zip(batch, samples, strict=True):
            out[i] = sample
    return out


def _decode(
    weights: Weights, decoder: Decoder, rows: Sequence[Row], sampling: Sampling, end_ids: Sequence[int]
) -> list[Sample]:
    """Generate a response a row; `rows` are sorted by host prompt, longest first.

    Rows are independent, so what is in the batch is only a matter of speed. Row -1 is what idle places write to.
    """
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    number = {prompt: i for i, prompt in enumerate(prompts)}
    source = np.array([number[row.prompt] for row in rows])
    prefixes = np.array([row.prefix for row in rows])
    limits = np.array([row.max_tokens for row in rows] + [0])
    keys = np.array([row.key for row in rows] + [0], np.uint64)
    ids = np.zeros((len(limits), limits.max()), np.int64)
    logprobs = np.zeros(ids.shape, np.float32)
    lengths, finished = limits.copy(), np.zeros(len(limits), bool)

    hosts, logits = prefill(weights, decoder.geometry, prompts, source, prefixes)
    layers, _, kv_heads, size, _ = hosts[0].shape
    own_keys = logits.new_empty(layers, len(rows), kv_heads, size, 0)
    own_values = own_keys.transpose(-1, -2)
    live, arranged = np.arange(len(rows)), np.inf
    for step in range(ids.shape[1]):
        chosen, chosen_logprobs = choose(logits, sampling, seeds.uniform(keys[live], step))
        ids[live, step], logprobs[live, step] = chosen.numpy(force=True), chosen_logprobs.numpy(force=True)
        ended = np.isin(ids[live, step], end_ids) & (live >= 0)
        finished[live[ended]], lengths[live[ended]] = True, step + 1
        live = np.where(ended | (limits[live] <= step + 1), -1, live)
        going = np.flatnonzero(live >= 0)
        if not len(going):
            break
        if len(going) <= (1 - _ENDED_SHARE) * arranged:
            arranged = len(going)
            grid = arrange(source[live[going]])
            moved = torch.from_numpy(np.where(grid < 0, 0, going[grid]).ravel()).to(logits.device)
            grid = np.where(grid < 0, -1, live[going[grid]])
            context, live, chosen = shared(hosts, source, prefixes, grid), grid.ravel(), chosen[moved]
            own_keys, own_values = own_keys.index_select(1, moved), own_values.index_select(1, moved)
        if step == own_keys.shape[-1]:
            own_keys, own_values = F.pad(own_keys, (0, _GROW_TOKENS)), F.pad(own_values, (0, 0, 0, _GROW_TOKENS))
        positions = torch.from_numpy(np.where(live < 0, 0, prefixes[live] + step)).to(logits.device)
        logits = fused.step(decoder, context, own_keys, own_values, chosen, positions, step)
    return [
        Sample(tuple(ids[i, :n].tolist()), tuple(logprobs[i, :n].tolist()), bool(finished[i]))
        for i, n in enumerate(lengths[:-1])
    ]


def prefill(
    weights: Weights, geo: Geometry, hosts: Sequence[tuple[int, ...]], source: np.ndarray, prefixes: np.ndarray
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Keys (layers, hosts, G, E, S) and values (layers, hosts, G, S, E) of `hosts`, longest first, and logits (rows, V)
    after the first `prefixes[i]` tokens of host `source[i]`, for every row i."""
    longest, device = len(hosts[0]), weights["model.norm.weight"].device
    keys = torch.zeros(geo.layers, len(hosts), geo.kv_heads, geo.head_size, longest, device=device)
    values = torch.zeros(geo.layers, len(hosts), geo.kv_heads, longest, geo.head_size, device=device)
    last = torch.zeros(len(source), geo.hidden_size, device=device)
    start = 0
    while start < len(hosts):
        width = len(hosts[start])
        stop = min(len(hosts), start + max(1, _PREFILL_TOKENS // width))
        padded = torch.tensor([host + (0,) * (width - len(host)) for host in hosts[start:stop]], device=device)
        hidden, kept = transformer.forward(weights, geo, padded, keep_kv=True)
        for layer, (k, v) in enumerate(kept):
            keys[layer, start:stop, ..., :width] = fused.interleave(k, geo.head_size).transpose(-1, -2)
            values[layer, start:stop, :, :width] = v
        rows = np.flatnonzero((source >= start) & (source < stop))
        last[rows] = hidden[source[rows] - start, prefixes[rows] - 1]
        start = stop
    return (keys, values), transformer.logits(weights, geo, last)


def arrange(source: np.ndarray) -> np.ndarray:
    """Blocks (B, r) of row numbers, -1 where idle, for rows of hosts `source`, ascending: no block mixes two hosts.

    >>> arrange(np.array([0, 0, 0, 1, 1, 1, 2, 2])).tolist()
    [[0, 1, 2], [3, 4, 5], [6, 7, -1]]
    """
    counts = np.bincount(source)
    counts = counts[counts > 0]
    places = np.arange(1, counts.max() + 1)
    blocks = -(-counts // places[:, None])
    size = int(places[np.argmin(blocks.sum(axis=1) * (places + _BLOCK_COST_ROWS))])
    grid = np.full((int(blocks[size - 1].sum()), size), -1)
    first_block = np.repeat(np.cumsum(blocks[size - 1]) - blocks[size - 1], counts)
    within = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    grid[first_block + within // size, within % size] = np.arange(len(source))
    return grid


def shared(hosts: tuple[Tensor, Tensor], source: np.ndarray, prefixes: np.ndarray, grid: np.ndarray) -> Shared:
    """What the rows in `grid` (B, r), -1 where idle, read of their hosts, no farther than the longest prefix."""
    keys, values = hosts
    reach = np.where(grid < 0, 1, prefixes[grid])
    used = int(reach.max())
    hide = torch.from_numpy(np.where(np.arange(used) < reach[:, None, :, None, None], 0.0, -np.inf))
    block = torch.from_numpy(source[grid[:, 0]]).to(keys.device)
    return Shared(keys[..., :used].index_select(1, block), values[..., :used, :].index_select(1, block), hide.to(keys))
