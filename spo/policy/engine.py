"""The batched sampler for small Llama/Qwen2 models: what prompts have in common is computed once, finished rows leave.

A request's prompt that begins another request's prompt is not computed, so that Monte-Carlo rollouts from boundaries of
a response cost one pass over it at most. With a C compiler there is not even that: see `paged`. Without one, or on a
GPU, `decode` does what PyTorch can.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL
from pathlib import Path

import torch
from torch import Tensor

from spo import finite
from spo.errors import UserError, short_of_memory
from spo.policy import compiled, decode, forest, paged, saving, transformer
from spo.policy import weights as stored
from spo.policy.checksum import checksum
from spo.policy.decode import Row
from spo.policy.known import Known
from spo.policy.passes import Passes
from spo.policy.sampling import as_ids, check_prompts
from spo.policy.transformer import Geometry, Weights
from spo.types import Request, Sample, Sampling

#: Numbers of tokens in bfloat16 passes are rounded up to multiples of this.
_BF16_STEP_TOKENS = 16


class Engine:
    """A policy over a weight dictionary; parameters are float32 leaf tensors that an optimizer can update in place."""

    def __init__(
        self, geo: Geometry, weights: Weights, end_ids: int | Sequence[int], source: Path | None = None
    ) -> None:
        self.geometry, self.end_ids, self.source = geo, as_ids(end_ids), source
        #: Of activations and products in `token_logprobs`; parameters, gradients and log-probabilities stay float32.
        self.train_dtype = torch.float32
        self._weights = {name: tensor.detach().float().requires_grad_() for name, tensor in weights.items()}
        self._kept: tuple[object, Known] | None = None

    def train_in(self, dtype: str) -> None:
        """Compute `token_logprobs` in `float32` or `bfloat16`; float32 where a processor only imitates the latter."""
        self.train_dtype = transformer.product_dtype(dtype, self.device)

    @property
    def device(self) -> torch.device:
        return next(iter(self._weights.values())).device

    @property
    def sampler(self) -> str | None:
        """`compiled`, or None where PyTorch alone samples."""
        return None if self._kernels is None else "compiled"

    @property
    def _kernels(self) -> CDLL | None:
        return compiled.kernels(self.geometry) if self.device.type == "cpu" else None

    @property
    def round_to(self) -> int:
        """Kernels of bfloat16 products are compiled anew for each shape, so there had better be few."""
        return _BF16_STEP_TOKENS if self.train_dtype == torch.bfloat16 else 1

    @classmethod
    def open(cls, folder: Path, end_ids: int | Sequence[int], dtype: str = "float32", head: bool = True) -> Engine:
        """Load a model folder, to train in `dtype`; errors and `head` are those of `read_weights`."""
        engine = cls(transformer.geometry(folder), stored.read_weights(folder, head), end_ids, folder)
        engine.train_in(dtype)
        return engine

    def weights(self) -> Weights:
        return self._weights

    def save(self, folder: Path) -> None:
        saving.save_tensors(self._weights, folder)
        if self.source is not None:
            saving.save_rest(self.source, folder, dtype="float32")

    def rehearse(self, folder: Path) -> None:
        if self.source is not None:
            saving.save_rest(self.source, folder, dtype="float32")

    def token_logprobs(self, input_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        weights = {name: weight.to(self.train_dtype) for name, weight in self._weights.items()}
        found = forest.forest(forest.contexts(input_ids), self.round_to)
        hidden = transformer.forward_forest(weights, self.geometry, found)
        scaled = transformer.logits(weights, self.geometry, hidden) / temperature
        logprobs, entropy = forest.predictions(scaled, found.index, input_ids)
        with finite.explained(self._weights):
            finite.check(logprobs.detach(), "log-probabilities")
        return logprobs, entropy

    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        check_prompts(requests, self.geometry.vocabulary_size)
        rows, samples, kernels = plan(requests), [], self._kernels
        remedy = f"lower context_tokens or, of a protocol, batch_rows (now {batch_rows})"
        with torch.inference_mode(), short_of_memory(remedy), finite.explained(self._weights):
            if rows and kernels is None:
                samples = decode.decode(self._weights, self.geometry, rows, sampling, self.end_ids, batch_rows)
            elif rows:
                known = self._known(kernels)
                # What breaks off half way is nothing to build on.
                kept, self._kept = self._kept, None
                samples = paged.decode(known, rows, sampling, self.end_ids, batch_rows)
                self._kept = None if known.too_large else kept
        out: list[list[Sample | None]] = [[None] * len(request.keys) for request in requests]
        for row, sample in zip(rows, samples, strict=True):
            out[row.request][row.sample] = sample
        return out

    def _known(self, kernels: CDLL) -> Known:
        """What was computed with the weights as they are, by these kernels."""
        state = kernels, {name: checksum(weight) for name, weight in self._weights.items()}
        if self._kept is None or self._kept[0] != state:
            self._kept = None  # before the next is made, or memory would have to hold both
            self._kept = state, Known(Passes(kernels, self._weights, self.geometry))
        return self._kept[1]


def plan(requests: Sequence[Request]) -> list[Row]:
    """One row a sample, each pointing at the longest requested prompt that begins with its own, in alphabetical order.

    >>> [(row.request, row.prompt, row.prefix) for row in plan([Request((1, 2), (7,), 5), Request((1, 2, 3), (8,), 5)])]
    [(1, (1, 2, 3), 3), (0, (1, 2, 3), 2)]
    """
    host: dict[tuple[int, ...], tuple[int, ...]] = {}
    following: tuple[int, ...] = ()
    for prompt in sorted({request.prompt_ids for request in requests}, reverse=True):
        if not prompt:
            raise UserError("prompt: empty; a causal model needs at least one token to continue")
        if following[: len(prompt)] != prompt:
            following = prompt
        host[prompt] = following
    rows = [
        Row(r, s, host[request.prompt_ids], len(request.prompt_ids), key, request.max_response_tokens)
        for r, request in enumerate(requests)
        for s, key in enumerate(request.keys)
    ]
    if any(row.max_tokens < 1 for row in rows):
        raise UserError("max_response_tokens: no room for a response: the prompt fills the context")
    return sorted(rows, key=lambda row: (row.prompt, -row.prefix, row.request, row.sample))
