"""Episodes to padded tensors, and which of them go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spo import prefixes, seeds
from spo.errors import UserError
from spo.types import Episode


class Batch(NamedTuple):
    """B right-padded sequences of at most L tokens. Column j of the (B, L-1) fields describes token j+1, the one that
    logits at j predict; they are 0 or False outside the response."""

    input_ids: Tensor
    """(B, L) int64: prompt, response, padding."""
    lengths: Tensor
    """(B) int64: tokens of prompt and response."""
    response_mask: Tensor
    """(B, L-1) bool: True at response tokens."""
    old_logprobs: Tensor
    """(B, L-1) float32: under the policy that sampled the response."""
    advantages: Tensor
    """(B, L-1) float32."""
    ref_logprobs: Tensor | None
    """(B, L-1) float32: under the reference policy; None without KL term."""


def collate(episodes: Sequence[Episode], pad_id: int, ref_logprobs: Sequence[Sequence[float]] | None = None) -> Batch:
    """Pad episodes into one Batch; ref_logprobs, if given, has one sequence (T) an episode.

    Raises UserError for an empty prompt: nothing would predict the first response token.

    >>> episode = Episode("p1", (5, 6), (7, 8), (-0.5, -0.1), (1.0, -1.0))
    >>> batch = collate([episode], pad_id=0)
    >>> batch.response_mask.tolist(), batch.advantages.tolist()
    ([[False, True, True]], [[0.0, 1.0, -1.0]])
    """
    if not episodes:
        raise ValueError("no episodes")
    lengths = [len(episode.prompt_ids) + len(episode.response_ids) for episode in episodes]
    input_ids = torch.full((len(episodes), max(lengths)), pad_id, dtype=torch.int64)
    mask = torch.zeros(input_ids[:, 1:].shape, dtype=torch.bool)
    for row, episode in enumerate(episodes):
        if not episode.prompt_ids:
            raise UserError(f"problem {episode.problem_id}: its prompt has no tokens; check the dataset's `prompt`")
        input_ids[row, : lengths[row]] = torch.tensor(episode.prompt_ids + episode.response_ids)
        mask[row, len(episode.prompt_ids) - 1 : lengths[row] - 1] = True
    return Batch(
        input_ids=input_ids,
        lengths=torch.tensor(lengths),
        response_mask=mask,
        old_logprobs=spread([episode.old_logprobs for episode in episodes], mask),
        advantages=spread([episode.advantages for episode in episodes], mask),
        ref_logprobs=None if ref_logprobs is None else spread(ref_logprobs, mask),
    )


def spread(rows: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    """Numbers of response tokens, one sequence (T) a row, at the T positions where `mask` is True in that row.

    mask (B, L-1) as in `Batch`; (B, L-1) float32, 0 where it is False. ValueError if a row has another count.

    >>> spread([[0.5, 0.25]], torch.tensor([[False, True, True]])).tolist()
    [[0.0, 0.5, 0.25]]
    """
    if [len(row) for row in rows] != mask.sum(dim=-1).tolist():
        raise ValueError("each row must have one number for each response token")
    flat = torch.tensor([number for row in rows for number in row], dtype=torch.float32)
    return torch.zeros(mask.shape).masked_scatter(mask, flat)


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """The given rows of a Batch, padded to the longest of them only.

    >>> short = Episode("p1", (5,), (7,), (-0.5,), (1.0,))
    >>> long = Episode("p2", (5, 6), (7, 8), (-0.5, -0.1), (1.0, -1.0))
    >>> take(collate([short, long], pad_id=0), [0]).input_ids.tolist()
    [[5, 7]]
    """
    index = torch.as_tensor(rows, dtype=torch.int64, device=batch.lengths.device)
    width = int(batch.lengths[index].max())
    of_responses = (None if field is None else field[index, : width - 1] for field in batch[2:])
    return Batch(batch.input_ids[index, :width], batch.lengths[index], *of_responses)


def micro_batches(
    lengths: Sequence[int], max_tokens: int, max_episodes: int | None = None, sort: bool = True
) -> list[tuple[int, ...]]:
    """Indices of sequences for one forward pass each: number x longest <= max_tokens, or a single longer sequence.

    `sort` puts sequences of like length together, longest first; without it the given order is kept, as the official
    code's equal micro-batches need.

    >>> micro_batches([3, 9, 4, 5, 30], max_tokens=12)
    [(4,), (1,), (3, 2), (0,)]
    >>> micro_batches([3, 9, 4, 5, 30], max_tokens=99, max_episodes=2, sort=False)
    [(0, 1), (2, 3), (4,)]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)) if sort else range(len(lengths))
    groups: list[tuple[int, ...]] = []
    group: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if group and ((len(group) + 1) * longest > max_tokens or len(group) == max_episodes):
            groups.append(tuple(group))
            group, longest = [], lengths[index]
        group.append(index)
    return [*groups, tuple(group)] if group else groups


def shared_batches(ids: np.ndarray, max_tokens: int, max_episodes: int | None = None) -> list[tuple[int, ...]]:
    """Indices of rows for one forward pass each, rows that begin alike together: at most `max_tokens` distinct tokens
    (those with the same history count once, padding not at all) or a single longer row.

    ids (B, L): right-padded with `prefixes.PADDING_ID`.

    >>> shared_batches(prefixes.pad([(5, 6, 7), (8, 9, 9, 9), (5, 6, 6), (5, 6)]), max_tokens=4)
    [(3, 2, 0), (1,)]
    """
    order = prefixes.alphabetical(ids)
    lengths = prefixes.lengths(ids[order])
    fresh = lengths - prefixes.shared_tokens(ids[order])
    groups, tokens = [], 0
    for row, length, new in zip(order.tolist(), lengths.tolist(), fresh.tolist(), strict=True):
        if not groups or tokens + new > max_tokens or len(groups[-1]) == max_episodes:
            groups.append([])
            tokens, new = 0, length
        groups[-1].append(row)
        tokens += new
    return [tuple(group) for group in groups]


def shuffled_batches(count: int, batch_size: int, key: int) -> list[tuple[int, ...]]:
    """One epoch over `count` things in an order that depends on `key` alone; the last batch may be smaller.

    >>> [len(batch) for batch in shuffled_batches(7, 3, seeds.key(1, "order", 0))]
    [3, 3, 1]
    """
    order = seeds.generator(key).permutation(count).tolist()
    return [tuple(order[start : start + batch_size]) for start in range(0, count, batch_size)]
