"""Work of an iteration that the processes of a run divide between them: each does a part, and all have the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from spo import prefixes
from spo.batching import shared_batches
from spo.policy import Policy
from spo.training import ranks
from spo.types import Problem, Request, Sample, Sampling

#: (problem, response ids, whether the response ended by itself)
Answer = tuple[Problem, Sequence[int], bool]


def sample(policy: Policy, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
    """As `Policy.sample`. Neighbours stay together, since their prompts begin alike."""
    if ranks.count() == 1:
        return policy.sample(requests, sampling)
    keys: dict[int, list[int]] = {}
    for r, key in ranks.part([(r, key) for r, request in enumerate(requests) for key in request.keys]):
        keys.setdefault(r, []).append(key)
    asked = [replace(requests[r], keys=tuple(own)) for r, own in keys.items()]
    drawn = [each for samples in policy.sample(asked, sampling) for each in samples] if asked else []
    everyones = iter(ranks.gathered(drawn))
    return [[next(everyones) for _ in request.keys] for request in requests]


def rewards(reward: Callable[[Problem, Sequence[int], bool], float], answers: Sequence[Answer]) -> list[float]:
    """The reward of each answer. One process grades it for all: a verdict can depend on a time limit."""
    return ranks.gathered([reward(*answer) for answer in ranks.part(answers)])


def batches(ids: np.ndarray, max_tokens: int, max_episodes: int | None = None) -> list[tuple[int, ...]]:
    """As `shared_batches`, with at least one for each process where there are as many rows."""
    if ranks.count() > 1:
        rows = ids[prefixes.alphabetical(ids)]
        max_tokens = fair(max_tokens, int((prefixes.lengths(rows) - prefixes.shared_tokens(rows)).sum()))
    return shared_batches(ids, max_tokens, max_episodes)


def fair(max_tokens: int, tokens: int) -> int:
    """`max_tokens` of a batch or, of several processes, no more than the share of each in all `tokens`.

    >>> fair(100, 50)
    100
    """
    return max_tokens if ranks.count() == 1 else min(max_tokens, -(-tokens // ranks.count()))
