"""Stop texts: one rule for every backend, applied to what it sampled."""

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
    """A policy whose samples end, finished, before the first of `texts` that they write (spec §2.1 item 2).

    Each token is drawn by its position, so cutting a sample afterwards gives what stopping in time would have given.
    Tokens after the stop text are discarded. A stop text is searched in what a request writes, not across the end of
    its prompt.
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

    def rehearse(self, folder: Path) -> None:
        self.policy.rehearse(folder)


def stopping(policy: Policy, decode: Decode, texts: Sequence[str]) -> Policy:
    """Return `policy` with responses that end before any of `texts`; the policy itself if there are none."""
    return Stopping(policy, decode, texts) if texts else policy


def cut(sample: Sample, decode: Decode, texts: Sequence[str]) -> Sample:
    """Return a sample without the stop text and what follows it, as finished; the sample itself if it writes none.

    The text that is completed first counts; of several completed by one token, the one that begins first. Source: the
    official sampler keeps the stop text apart, so it is neither graded nor part of the response (spec §2.1 item 2).
    Deviation: a token that holds the first character of the stop text is dropped whole, with the characters before it.
    The official code cuts the text and tokenises it again.

    >>> letters = lambda ids: "".join(map(chr, ids))
    >>> cut(Sample(tuple(b"a\\n\\nb"), (-1.0,) * 4, False), letters, ["\\n\\n"])
    Sample(response_ids=(97,), sampler_logprobs=(-1.0,), finished=True)
    """
    ids = sample.response_ids

    def stopped(tokens: int) -> bool:
        written = decode(ids[:tokens])
        return any(text in written for text in texts)

    if not stopped(len(ids)):
        return sample
    complete = bisect.bisect_left(range(len(ids) + 1), True, key=stopped)
    written = decode(ids[:complete])
    start = min(written.index(text) for text in texts if text in written)
    kept = bisect.bisect_right(range(complete), start, key=lambda tokens: len(decode(ids[:tokens]))) - 1
    return Sample(ids[:kept], sample.sampler_logprobs[:kept], True, ids[kept:complete])
