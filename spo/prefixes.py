"""Which sequences begin alike: what training computes once and what belongs in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Fills rows beyond their last token; no token has this id.
PADDING_ID = -1


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of ids, right-padded with `PADDING_ID`: (B, L) int64.

    >>> pad([(5, 6), (7,)]).tolist()
    [[5, 6], [7, -1]]
    """
    out = np.full((len(rows), max(map(len, rows), default=0)), PADDING_ID, np.int64)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = ids
    return out


def lengths(ids: np.ndarray) -> np.ndarray:
    """Tokens of each row of right-padded ids (B, L): (B) int64."""
    return (ids != PADDING_ID).sum(axis=1)


def shared_tokens(ids: np.ndarray) -> np.ndarray:
    """Tokens at the beginning of each row that the row before it begins with too, (B) int64; 0 for the first.

    ids (B, L): right-padded.

    >>> shared_tokens(pad([(5,), (5, 6, 7), (5, 6, 8), (4,)])).tolist()
    [0, 1, 2, 0]
    """
    same = (ids[1:] == ids[:-1]) & (ids[1:] != PADDING_ID)
    return np.concatenate((np.zeros(min(1, len(ids)), np.int64), np.logical_and.accumulate(same, axis=1).sum(axis=1)))


def alphabetical(ids: np.ndarray) -> np.ndarray:
    """Row numbers in the order of a dictionary, (B) int64, a row before those that continue it.

    In this order the tokens that a row does not share with the row before it, it shares with none before it: the sum of
    lengths minus `shared_tokens` is the number of distinct tokens, a token and its whole history counting as one thing.

    ids (B, L): right-padded.

    >>> alphabetical(pad([(7,), (5, 6), (5,)])).tolist()
    [2, 1, 0]
    """
    return np.lexsort(ids.T[::-1]) if ids.shape[1] else np.arange(len(ids))
