"""Numbers of given responses under a model: what cutpoints, mask, loss and a critic's advantages are computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from spo import prefixes
from spo.methods import share
from spo.policy import Policy
from spo.training import ranks


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

    `model` maps ids (B, L), right-padded with `prefixes.PADDING_ID`, to numbers (B, L or L-1); passes are those of
    `share.batches`.
    """
    out: list[tuple[float, ...]] = [()] * len(sequences)
    rows = [prompt + response for prompt, response in sequences]
    found: list[tuple[int, tuple[float, ...]]] = []
    for batch in ranks.part(share.batches(prefixes.pad(rows), max_tokens)):
        ids = torch.from_numpy(prefixes.pad([rows[i] for i in batch]))
        for numbers, i in zip(model(ids).tolist(), batch, strict=True):
            found.append((i, tuple(numbers[len(sequences[i][0]) - 1 : len(rows[i]) - 1])))
    for i, numbers in ranks.gathered(found):
        out[i] = numbers
    return out
