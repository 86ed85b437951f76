"""Any Hugging Face causal language model as a policy: slower than the engine, and its judge in the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spo import seeds
from spo.errors import UserError
from spo.policy import forest, forest_hf, transformer
from spo.policy.sampling import choose
from spo.types import Request, Sample, Sampling


class HfPolicy:
    """A policy over `AutoModelForCausalLM` with float32 parameters, dropout off; `dtype` is that of the products in
    `token_logprobs`."""

    def __init__(self, model: torch.nn.Module, eos_id: int, source: Path, dtype: str = "float32") -> None:
        self.model, self.eos_id, self.source = model, eos_id, source
        self.train_dtype = transformer.product_dtype(dtype, model.device)
        self._weights = dict(model.named_parameters())
        forest_hf.install(model)

    @classmethod
    def open(cls, folder: Path, eos_id: int, dtype: str = "float32") -> HfPolicy:
        """Load a local model folder, to train in `dtype`; UserError if it is not one."""
        from transformers import AutoModelForCausalLM

        if not (folder / "config.json").is_file():
            raise UserError(f"{folder / 'config.json'}: no such file: {folder} is not a model folder")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        return cls(model.eval(), eos_id, folder, dtype)

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def save(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(self.source).save_pretrained(folder)

    def token_logprobs(self, input_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        low = self.train_dtype == torch.bfloat16
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=low):
            out, index = forest_hf.run(self.model, forest.contexts(input_ids))
        return forest.predictions(out.logits.flatten(0, 1).float() / temperature, index, input_ids)

    @torch.no_grad()
    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 256) -> list[list[Sample]]:
        jobs = [(r, s, request) for r, request in enumerate(requests) for s in range(len(request.keys))]
        jobs.sort(key=lambda job: (len(job[2].prompt_ids), job[0], job[1]))
        out: list[list[Sample | None]] = [[None] * len(request.keys) for request in requests]
        for start in range(0, len(jobs), batch_rows):
            batch = jobs[start : start + batch_rows]
            for (r, s, _), sample in zip(batch, self._decode(batch, sampling), strict=True):
                out[r][s] = sample
        return out

    def _decode(self, jobs: Sequence[tuple[int, int, Request]], sampling: Sampling) -> list[Sample]:
        """Left-padded batch with a growing cache; rows that are done leave it."""
        from transformers import DynamicCache

        if any(request.max_response_tokens < 1 for _, _, request in jobs):
            raise UserError("max_response_tokens: no room for a response: the prompt fills the context")
        prompts = [request.prompt_ids for _, _, request in jobs]
        longest, device = max(map(len, prompts)), self.model.device
        inputs = torch.tensor([(0,) * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        keys = np.array([request.keys[s] for _, s, request in jobs], np.uint64)
        limits = np.array([request.max_response_tokens for _, _, request in jobs])
        ids: list[list[int]] = [[] for _ in jobs]
        logprobs: list[list[float]] = [[] for _ in jobs]
        finished = np.zeros(len(jobs), bool)
        live, cache = np.arange(len(jobs)), DynamicCache()
        for step in range(int(limits.max())):
            positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
            logits = self.model(
                input_ids=inputs, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).logits[:, -1]
            chosen, chosen_logprobs = choose(logits, sampling, seeds.uniform(keys[live], step))
            tokens = chosen.numpy(force=True)
            for row, token, logprob in zip(live, tokens.tolist(), chosen_logprobs.tolist(), strict=True):
                ids[row].append(token)
                logprobs[row].append(logprob)
            finished[live] = tokens == self.eos_id
            going = ~finished[live] & (limits[live] > step + 1)
            if not going.any():
                break
            kept = torch.from_numpy(np.flatnonzero(going)).to(device)
            if len(kept) < len(live):
                cache.batch_select_indices(kept)
            live = live[going]
            inputs = chosen[kept].unsqueeze(-1)
            mask = torch.cat((mask[kept], mask.new_ones(len(kept), 1)), dim=-1)
        return [Sample(tuple(ids[i]), tuple(logprobs[i]), bool(finished[i])) for i in range(len(jobs))]
