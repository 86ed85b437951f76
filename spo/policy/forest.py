"""Rows of token ids as a forest: a token with the same history in several rows is one token, and padding is none.

What a network does token by token it does on the N distinct tokens; only attention knows which token follows which.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spo import prefixes
from spo.policy.products import product, wide

#: Tokens of a row whose attention is one product, or this share of the longest row if that is more and `_MAX_PRODUCTS`
#: allow it. Fewer waste less on keys that a token must not see, more make fewer and larger products and gather a row's
#: keys less often.
_CHUNK_TOKENS, _CHUNK_SHARE = 64, 1 / 16
#: Chunks go together if the shortest context is at least this share of the longest.
_LIKE_LENGTH = 0.75
#: Products of a query with a key, per head, in one go, by type of device: they bound the memory of passes over long
#: rows. The caches of a CPU hold so many; on a GPU, where every kernel launch costs time, more at once are faster.
_MAX_PRODUCTS = {"cpu": 1 << 17, "cuda": 1 << 24}
#: Longest context whose attention weights are kept for the backward pass; beyond, they are computed again.
_KEPT_TOKENS = 512


class Chunks(NamedTuple):
    """C stretches of rows, of at most Q tokens each, which attend to at most the first K tokens of their rows."""

    queries: Tensor
    """(C, Q) int64: distinct tokens; 0 beyond the end of a stretch."""
    keys: Tensor
    """(C, K) int64: distinct tokens; 0 beyond the end of a row."""
    starts: Tensor
    """(C) int64: columns of the first queries."""
    hide: Tensor | None
    """(C, Q, K): 0 where a query sees a key, -inf where not; None for long contexts, where it takes too much memory to
    wait for the next layer."""


class Forest(NamedTuple):
    """N distinct tokens of B rows of at most L tokens."""

    ids: Tensor
    """(N) int64; 0 for those that only round their number up, at the end."""
    positions: Tensor
    """(N) int64: columns."""
    index: Tensor
    """(B, L) int64: which distinct token stands there; 0 in padding."""
    chunks: tuple[Chunks, ...]
    """Every distinct token is a query once."""
    slots: Tensor
    """(N) int64: where the token stands among the queries of all chunks, one after another."""


def forest(input_ids: Tensor, round_to: int = 1) -> Forest:
    """Find the distinct tokens of input_ids (B, L), right-padded with `prefixes.PADDING_ID`.

    Their number and the sizes of chunks are rounded up to multiples of `round_to`.

    >>> found = forest(torch.tensor([[5, 6, 7], [5, 6, 8], [5, -1, -1]]))
    >>> found.ids.tolist(), found.positions.tolist(), found.index.tolist()
    ([5, 6, 7, 8], [0, 1, 2, 2], [[0, 1, 2], [0, 1, 3], [0, 0, 0]])
    """
    given = input_ids.numpy(force=True)
    # A pass over nothing would leave nothing to differentiate.
    ids = given if (given != prefixes.PADDING_ID).any() else np.zeros((len(given), 1), np.int64)
    order = prefixes.alphabetical(ids)
    ids = ids[order]
    ends, starts = prefixes.lengths(ids), prefixes.shared_tokens(ids)
    columns = np.arange(ids.shape[1])
    own = (columns >= starts[:, None]) & (columns < ends[:, None])
    # The last row so far that has a column of its own there has it in common with all rows since.
    owner = np.maximum.accumulate(np.where(own, np.arange(len(ids))[:, None], 0), axis=0)
    index = np.where(columns < ends[:, None], (np.cumsum(ends - starts) - ends)[owner] + columns, 0)
    spare = -int(own.sum()) % round_to
    chunks = _chunks(index, starts, ends, round_to, _MAX_PRODUCTS.get(input_ids.device.type, _MAX_PRODUCTS["cuda"]))
    queries = np.concatenate([chunk[0].ravel() for chunk in chunks])
    slots = np.zeros(own.sum() + spare, np.int64)
    slots[queries[queries >= 0]] = np.flatnonzero(queries >= 0)
    placed = np.empty_like(index)
    placed[order] = index

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(input_ids.device)

    return Forest(
        ids=tensor(np.pad(ids[own], (0, spare))),
        positions=tensor(np.pad(np.nonzero(own)[1], (0, spare))),
        index=tensor(placed[:, : given.shape[1]]),
        chunks=tuple(_with_hide(Chunks(tensor(q.clip(0)), tensor(k), tensor(s), None)) for q, k, s in chunks),
        slots=tensor(slots),
    )


def contexts(input_ids: Tensor) -> Tensor:
    """The tokens of input_ids (B, L) that predict another, (B, L-1): all but the last of each row.

    >>> contexts(torch.tensor([[5, 6, 7], [8, 9, -1]])).tolist()
    [[5, 6], [8, -1]]
    """
    return input_ids[:, :-1].masked_fill(input_ids[:, 1:] == prefixes.PADDING_ID, prefixes.PADDING_ID)


def predictions(logits: Tensor, index: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """(log-probability of token j+1 of each row, entropy of its distribution), both (B, L-1), 0 in padding.

    logits (N, V) float32; index (B, L-1): which of the N belongs to token j of input_ids (B, L).
    """
    followed = input_ids[:, 1:] != prefixes.PADDING_ID
    sources, targets = index[followed], input_ids[:, 1:][followed]
    logprobs = torch.log_softmax(logits, dim=-1)
    entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(dim=-1)
    chosen = logprobs.flatten().index_select(0, sources * logits.shape[-1] + targets)
    empty = logits.new_zeros(followed.shape)
    return empty.masked_scatter(followed, chosen), empty.masked_scatter(followed, entropy[sources])


def _chunks(
    index: np.ndarray, starts: np.ndarray, ends: np.ndarray, round_to: int, max_products: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Queries (C, Q), -1 beyond the end of a stretch, keys (C, K) and starts (C) of each group of chunks.

    index (B, L) as in `Forest`; the columns [start, end) of a row are its own.
    """
    width = index.shape[1]
    pieces = -(-(ends - starts) // max(_CHUNK_TOKENS, min(int(_CHUNK_SHARE * width), max_products // width)))
    rows = np.repeat(np.arange(len(index)), pieces)
    piece = np.arange(len(rows)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first, last = (starts[rows] + (ends - starts)[rows] * (piece + i) // pieces[rows] for i in (0, 1))
    out = []
    for group in _alike(first, last):
        most = _round_up(int((last - first)[group].max()), round_to)
        longest = _round_up(int(last[group].max()), round_to)
        step = max(1, max_products // (most * longest))
        for start in range(0, len(group), step):
            part = group[start : start + step]
            at = first[part, None] + np.arange(most)
            queries = np.where(at < last[part, None], _take(index, rows[part], at), -1)
            keys = _take(index, rows[part], np.arange(longest)[None])
            out.append((queries, keys, first[part]))
    return out


def _alike(first: np.ndarray, last: np.ndarray) -> list[np.ndarray]:
    """Chunks with columns [first, last) in groups of like context, longest first."""
    order = np.lexsort((first, -last))
    groups, begin = [], 0
    for i in range(1, len(order) + 1):
        if i == len(order) or last[order[i]] < _LIKE_LENGTH * last[order[begin]]:
            groups.append(order[begin:i])
            begin = i
    return groups


def _take(index: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """index[row, column] for rows (C) and columns (C or 1, M); 0 beyond the last column."""
    inside = columns < index.shape[1]
    return np.where(inside, index[rows[:, None], np.where(inside, columns, 0)], 0)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _with_hide(chunk: Chunks) -> Chunks:
    return chunk if chunk.keys.shape[1] > _KEPT_TOKENS else chunk._replace(hide=_hide(chunk))


def _hide(chunk: Chunks) -> Tensor:
    most, longest, device = chunk.queries.shape[1], chunk.keys.shape[1], chunk.keys.device
    at = chunk.starts[:, None] + torch.arange(most, device=device)
    later = torch.arange(longest, device=device) > at[..., None]
    return torch.zeros(later.shape, device=device).masked_fill_(later, float("-inf"))


def attend(q: Tensor, k: Tensor, v: Tensor, found: Forest, scale: float) -> Tensor:
    """Attention of each distinct token to itself and its history: softmax(scale q k') v.

    q (N, H, E), k and v (N, G, E); (N, H * E). Products are taken in the dtype of the arguments, or that of autocast;
    attention logits, the mask, the softmax and its gradient in float32 at least, as `scaled_dot_product_attention` has
    them: logits may be in the hundreds (the key biases of Qwen2), where bfloat16 tells only whole numbers apart.
    Weights of contexts up to `_KEPT_TOKENS` are kept for the backward pass, others are computed again.
    """
    device = q.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else q.dtype
    with torch.autocast(device, enabled=False):  # which the backward pass would not know of
        return _Attention.apply(q.to(dtype), k.to(dtype), v.to(dtype), found, scale)


class _Attention(torch.autograd.Function):
    """Logits are masked in place, and gradients of tokens that chunks have in common are added up where they belong:
    autograd would copy both."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, found: Forest, scale: float) -> Tensor:
        ctx.found, ctx.scale, parts, kept, needed = found, scale, [], [], any(ctx.needs_input_grad)
        for chunk in found.chunks:
            queries, keys, values = _gather(q, k, v, chunk)
            weights = _weights(queries, keys, chunk, scale).to(q.dtype)
            parts.append(_flat(weights @ values, chunk.queries))
            kept.append(weights if needed and chunk.keys.shape[1] <= _KEPT_TOKENS else None)
        ctx.save_for_backward(q, k, v, *kept)
        return torch.cat(parts).index_select(0, found.slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """With weights P of values V, and O = P V: dV = P' dO, dP = dO V', dS = P (dP - sum of P dP).

        A key has a gradient from each chunk that reads it, as many as rows begin with it: their sum is float32.
        """
        q, k, v, *kept = ctx.saved_tensors
        places = sum(chunk.queries.numel() for chunk in ctx.found.chunks)
        grad = grad.new_zeros(places, grad.shape[1]).index_add_(0, ctx.found.slots, grad)
        of_q, of_k, of_v = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        of_k, of_v, start = of_k.to(wide(k.dtype)), of_v.to(wide(v.dtype)), 0
        for chunk, weights in zip(ctx.found.chunks, kept, strict=True):
            rows = slice(start, start + chunk.queries.numel())
            start = rows.stop
            queries, keys, values = _gather(q, k, v, chunk)
            exact = _weights(queries, keys, chunk, ctx.scale) if weights is None else weights.to(wide(q.dtype))
            weights = exact.to(q.dtype) if weights is None else weights
            of_out = _grouped(grad[rows].view(-1, *q.shape[1:]), chunk.queries, k.shape[1])
            of_scores = product(of_out, values.transpose(1, 2))
            torch.ops.aten._softmax_backward_data.out(of_scores, exact, -1, exact.dtype, grad_input=of_scores)
            of_scores = of_scores.to(q.dtype)
            _add(of_q, chunk.queries, of_scores @ keys)
            _add(of_k, chunk.keys, of_scores.transpose(1, 2) @ queries)
            _add(of_v, chunk.keys, weights.transpose(1, 2) @ of_out)
        return of_q.mul_(ctx.scale), of_k.mul_(ctx.scale).to(k.dtype), of_v.to(v.dtype), None, None


def _gather(q: Tensor, k: Tensor, v: Tensor, chunk: Chunks) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (C G, Q H / G, E), keys and values (C G, K, E): the query heads of one key head share one product."""
    kv_heads = k.shape[1]
    queries = _grouped(q.index_select(0, chunk.queries.flatten()), chunk.queries, kv_heads)
    keys, values = (_grouped(x.index_select(0, chunk.keys.flatten()), chunk.keys, kv_heads) for x in (k, v))
    return queries, keys, values


def _grouped(x: Tensor, tokens: Tensor, kv_heads: int) -> Tensor:
    """(C T, X, E) of tokens (C, T) -> (C G, T X / G, E)."""
    count, most = tokens.shape
    return x.view(count, most, kv_heads, -1, x.shape[-1]).transpose(1, 2).reshape(count * kv_heads, -1, x.shape[-1])


def _flat(x: Tensor, tokens: Tensor) -> Tensor:
    """(C G, T X / G, E) -> (C T, X E): the other way."""
    count, most = tokens.shape
    return x.view(count, -1, most, x.shape[1] // most, x.shape[-1]).transpose(1, 2).reshape(count * most, -1)


def _add(total: Tensor, tokens: Tensor, part: Tensor) -> None:
    """Add to total (N, X, E) what `part` (C G, T X / G, E) has for tokens (C, T)."""
    total.index_add_(0, tokens.flatten(), _flat(part, tokens).view(-1, *total.shape[1:]).to(total.dtype))


def _weights(queries: Tensor, keys: Tensor, chunk: Chunks, scale: float) -> Tensor:
    """(C G, Q H / G, K), float32 at least: what each query gives to each key; 0 where the key comes later."""
    (count, most), longest = chunk.queries.shape, chunk.keys.shape[1]
    hide = _hide(chunk) if chunk.hide is None else chunk.hide
    scores = product(queries, keys.transpose(1, 2))
    parts = scores.view(count, -1, most, queries.shape[1] // most, longest)
    torch.add(hide[:, None, :, None], parts, alpha=scale, out=parts)
    return torch.softmax(scores, dim=-1, out=scores)
