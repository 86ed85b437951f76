"""Log-probabilities of given responses under a policy: what cutpoints, mask and loss are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spo.batching import micro_batches
from spo.policy import Policy


def score(
    policy: Policy, sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], temperature: float, max_tokens: int
) -> list[tuple[float, ...]]:
    """Log-probabilities (T) of each response after its prompt, under softmax(logits / temperature), float32."""
    out: list[tuple[float, ...]] = [()] * len(sequences)
    lengths = [len(prompt) + len(response) for prompt, response in sequences]
    for batch in micro_batches(lengths, max_tokens):
        longest = max(lengths[i] for i in batch)
        ids = torch.tensor([sequences[i][0] + sequences[i][1] + (0,) * (longest - lengths[i]) for i in batch])
        logprobs, _ = policy.token_logprobs(ids, temperature)
        for row, i in zip(logprobs.tolist(), batch, strict=True):
            out[i] = tuple(row[len(sequences[i][0]) - 1 : lengths[i] - 1])
    return out
