"""The batched sampler for small Llama/Qwen2 models: each prompt is computed once, finished rows leave the batch.

A request's prompt that begins another request's prompt is not computed either: Monte-Carlo rollouts from the segment
boundaries of a response cost one pass over that response. Shapes as in `transformer`; R rows are responses in progress.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spo.errors import UserError
from spo.policy import transformer
from spo.policy.sampling import choose
from spo.policy.transformer import Geometry, Weights
from spo.types import Request, Sample, Sampling

#: Key/value slots added at a time; rows that stop early never pay for the longest context.
_GROW_TOKENS = 64
#: Rows are compacted when this share of them has finished: copying the cache costs about one decoding step.
_COMPACT_SHARE = 0.1
#: Lengths of bfloat16 passes are rounded up to multiples of this.
_BF16_STEP_TOKENS = 16


@dataclass(frozen=True)
class Row:
    """One response to make: sample `sample` of request `request`, continuing the first `prefix` tokens of a prompt."""

    request: int
    sample: int
    prompt: tuple[int, ...]
    prefix: int
    key: int
    max_tokens: int


class Engine:
    """A policy over a weight dictionary; parameters are float32 leaf tensors that an optimizer can update in place."""

    def __init__(self, geo: Geometry, weights: Weights, eos_id: int, source: Path | None = None) -> None:
        self.geometry, self.eos_id, self.source = geo, eos_id, source
        #: Of activations and products in `token_logprobs`; parameters, gradients and log-probabilities stay float32.
        self.train_dtype = torch.float32
        self._weights = {name: tensor.detach().float().requires_grad_() for name, tensor in weights.items()}

    def train_in(self, dtype: str) -> None:
        """Compute `token_logprobs` in `float32` or `bfloat16`; float32 where a processor only imitates the latter."""
        native = torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self.train_dtype = torch.bfloat16 if dtype == "bfloat16" and native else torch.float32

    @classmethod
    def open(cls, folder: Path, eos_id: int) -> Engine:
        """Load `config.json` and `model.safetensors`; UserError names what is missing or unsupported."""
        from safetensors.torch import load_file

        path = folder / "model.safetensors"
        geo = transformer.geometry(folder)
        if not path.is_file():
            raise UserError(
                f"{path}: no such file: the engine reads one safetensors file; use `backend: hf` for shards"
            )
        weights = load_file(path)
        if geo.tied:
            weights.pop("lm_head.weight", None)
        return cls(geo, weights, eos_id, folder)

    def weights(self) -> Weights:
        return self._weights

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if self.source is not None and self.source != folder:
            for path in sorted(self.source.glob("*.json")):
                if path.name not in ("manifest.json",):
                    shutil.copyfile(path, folder / path.name)
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._weights.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def token_logprobs(self, input_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        weights = {name: weight.to(self.train_dtype) for name, weight in self._weights.items()}
        length = input_ids.shape[1] - 1
        # Kernels of bfloat16 products are compiled anew for each shape, so there had better be few.
        spare = -length % _BF16_STEP_TOKENS if self.train_dtype == torch.bfloat16 else 0
        hidden, _ = transformer.forward(weights, self.geometry, F.pad(input_ids[:, :-1], (0, spare)))
        scaled = transformer.logits(weights, self.geometry, hidden[:, :length]).float() / temperature
        logprobs = torch.log_softmax(scaled, dim=-1)
        entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(dim=-1)
        return logprobs.gather(-1, input_ids[:, 1:].unsqueeze(-1)).squeeze(-1), entropy

    @torch.no_grad()
    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        rows = plan(requests)
        out: list[list[Sample | None]] = [[None] * len(request.keys) for request in requests]
        for start in range(0, len(rows), batch_rows):
            batch = rows[start : start + batch_rows]
            for row, sample in zip(batch, self._decode(batch, sampling), strict=True):
                out[row.request][row.sample] = sample
        return out

    def _prefill(self, rows: Sequence[Row]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Keys and values a layer (R, G, S, E), and the logits (R, V) that follow each row's prefix."""
        prompts = sorted({row.prompt for row in rows}, key=lambda prompt: (len(prompt), prompt))
        place = {prompt: i for i, prompt in enumerate(prompts)}
        longest = len(prompts[-1])
        padded = torch.tensor([prompt + (0,) * (longest - len(prompt)) for prompt in prompts])
        hidden, kv = transformer.forward(self._weights, self.geometry, padded, keep_kv=True)
        source = torch.tensor([place[row.prompt] for row in rows])
        last = torch.tensor([row.prefix - 1 for row in rows])
        used = int(last.max()) + 1
        keys = [k[:, :, :used].index_select(0, source) for k, _ in kv]
        values = [v[:, :, :used].index_select(0, source) for _, v in kv]
        return keys, values, transformer.logits(self._weights, self.geometry, hidden[source, last])

    def _decode(self, rows: Sequence[Row], sampling: Sampling) -> list[Sample]:
        """Generate one batch to the end; rows are independent, so the batch is only a matter of speed."""
        keys, values, logits = self._prefill(rows)
        count, capacity = len(rows), keys[0].shape[2]
        live = np.arange(count)
        sampling_keys = np.array([row.key for row in rows], np.uint64)
        prefixes = torch.tensor([row.prefix for row in rows])
        limits = np.array([row.max_tokens for row in rows])
        longest = int(limits.max())
        ids = np.zeros((count, longest), np.int64)
        logprobs = np.zeros((count, longest), np.float32)
        lengths = np.zeros(count, np.int64)
        finished = np.zeros(count, bool)
        active = np.ones(count, bool)
        for step in range(longest):
            chosen, chosen_logprobs = choose(logits, sampling, sampling_keys[live], np.full(len(live), step))
            tokens, writing = chosen.numpy(), live[active]
            ids[writing, step], logprobs[writing, step] = tokens[active], chosen_logprobs.numpy()[active]
            lengths[writing], finished[writing] = step + 1, tokens[active] == self.eos_id
            active &= (tokens != self.eos_id) & (limits[live] > step + 1)
            if not active.any():
                break
            if active.sum() <= (1 - _COMPACT_SHARE) * len(active):
                kept = torch.from_numpy(np.flatnonzero(active))
                keys = [k.index_select(0, kept) for k in keys]
                values = [v.index_select(0, kept) for v in values]
                chosen, prefixes, live = chosen[kept], prefixes[kept], live[active]
                active = np.ones(len(live), bool)
            positions = prefixes + step
            needed = int(positions.max()) + 1
            if needed > capacity:
                capacity = needed + _GROW_TOKENS
                keys, values = _grown(keys, capacity), _grown(values, capacity)
            logits = self._step(chosen, positions, keys, values)
        return [
            Sample(tuple(ids[i, :n].tolist()), tuple(logprobs[i, :n].tolist()), bool(finished[i]))
            for i, n in enumerate(lengths)
        ]

    def _step(self, tokens: Tensor, positions: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """Logits (R, V) after `tokens` (R) at `positions` (R); writes their keys and values (R, G, S, E) in place."""
        geo, weights = self.geometry, self._weights
        count, used = len(tokens), int(positions.max()) + 1
        hidden = weights["model.embed_tokens.weight"][tokens].unsqueeze(1)
        cos, sin = (x.view(count, 1, 1, -1) for x in transformer.rope(geo, positions))
        row = torch.arange(count)
        hide = torch.zeros(count, 1, 1, used).masked_fill_(
            (torch.arange(used) > positions.unsqueeze(1)).view(count, 1, 1, used), float("-inf")
        )
        group = geo.heads // geo.kv_heads
        for layer in range(geo.layers):
            normed = transformer.norm(hidden, weights[f"model.layers.{layer}.input_layernorm.weight"], geo)
            q, k, v = transformer.project(weights, geo, layer, normed)
            keys[layer][row, :, positions] = transformer.rotate(k, cos, sin).squeeze(2)
            values[layer][row, :, positions] = v.squeeze(2)
            q = (transformer.rotate(q, cos, sin) * geo.head_size**-0.5).view(count, geo.kv_heads, group, geo.head_size)
            scores = q @ keys[layer][:, :, :used].transpose(-1, -2) + hide
            attended = scores.softmax(dim=-1) @ values[layer][:, :, :used]
            hidden = transformer.feed_forward(weights, geo, layer, hidden, attended.reshape(count, 1, -1))
        return transformer.logits(weights, geo, hidden.squeeze(1))


def plan(requests: Sequence[Request]) -> list[Row]:
    """One row a sample, each pointing at the longest requested prompt that begins with its own; long ones first.

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
    return sorted(rows, key=lambda row: (-len(row.prompt), row.prompt, -row.prefix, row.request, row.sample))


def _grown(tensors: list[Tensor], capacity: int) -> list[Tensor]:
    grown = []
    for old in tensors:
        new = old.new_zeros(old.shape[0], old.shape[1], capacity, old.shape[3])
        new[:, :, : old.shape[2]] = old
        grown.append(new)
    return grown
