"""Numbers of given responses under a model: what cutpoints, mask, loss and a critic's advantages are computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from spo.batching import micro_batches
from spo.policy import Policy


def score(
    policy: Policy, sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], temperature: float, max_tokens: int
) -> list[tuple[float, ...]]:
    """Log-probabilities (T) of each response after its prompt, under softmax(logits / temperature), float32."""
    return at_responses(lambda ids: policy.token_logprobs(ids, temperature)[0], sequences, max_tokens)


@torch.no_grad()
def at_responses(
    model: Callable[[torch.Tensor], torch.Tensor],
    sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    max_tokens: int,
) -> list[tuple[float, ...]]:
    """What `model` says at the token before each response token, (T) a (prompt, response), without gradients.

    `model` maps right-padded ids (B, L) to numbers (B, L or L-1); a pass has at most `max_tokens` padded
    ids, or one longer sequence.
    """
    out: list[tuple[float, ...]] = [()] * len(sequences)
    lengths = [len(prompt) + len(response) for prompt, response in sequences]
    for batch in micro_batches(lengths, max_tokens):
        longest = max(lengths[i] for i in batch)
        ids = torch.tensor([sequences[i][0] + sequences[i][1] + (0,) * (longest - lengths[i]) for i in batch])
        for row, i in zip(model(ids).tolist(), batch, strict=True):
            out[i] = tuple(row[len(sequences[i][0]) - 1 : lengths[i] - 1])
    return out
