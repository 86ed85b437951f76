"""Texts at which a response ends: one rule for every backend, applied to what it sampled."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spo.policy import Policy
from spo.types import Request, Sample, Sampling

if TYPE_CHECKING:
    import torch

Decode = Callable[[Sequence[int]], str]


class Stopping:
    """A policy whose samples end, finished, with the token that completes one of `texts` (spec §2.1 item 2).

    A sample draws each token by its place, so that cutting it afterwards gives what ending it in time would have given.
    The tokens beyond are sampled in vain. Texts are looked for in what a request writes, not across its prompt's end.
    """

    def __init__(self, policy: Policy, decode: Decode, texts: Sequence[str]) -> None:
        self.policy, self.decode, self.texts = policy, decode, tuple(texts)

    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        sampled = self.policy.sample(requests, sampling, batch_rows)
        return [[cut(sample, self.decode, self.texts) for sample in samples] for samples in sampled]

    def token_logprobs(self, *arguments, **named) -> tuple[torch.Tensor, torch.Tensor]:
        return self.policy.token_logprobs(*arguments, **named)

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self.policy.weights()

    def save(self, folder: Path) -> None:
        self.policy.save(folder)


def stopping(policy: Policy, decode: Decode, texts: Sequence[str]) -> Policy:
    """`policy`, whose responses end at any of `texts`; itself where there are none."""
    return Stopping(policy, decode, texts) if texts else policy


def cut(sample: Sample, decode: Decode, texts: Sequence[str]) -> Sample:
    """A sample up to the token that completes one of `texts`, as finished; itself where none occurs.

    >>> letters = lambda ids: "".join(map(chr, ids))
    >>> cut(Sample(tuple(b"a\\n\\nb"), (-1.0,) * 4, False), letters, ["\\n\\n"])
    Sample(response_ids=(97, 10, 10), sampler_logprobs=(-1.0, -1.0, -1.0), finished=True)
    """
    ids = sample.response_ids

    def stopped(tokens: int) -> bool:
        written = decode(ids[:tokens])
        return any(text in written for text in texts)

    if not stopped(len(ids)):
        return sample
    kept = bisect.bisect_left(range(len(ids) + 1), True, key=stopped)
    return Sample(ids[:kept], sample.sampler_logprobs[:kept], True)
