"""Any Hugging Face causal language model as a policy: slower than the engine, and its judge in the tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from spo import finite, seeds, store
from spo.errors import Foreign, RunFailure, UserError, short_of_memory
from spo.policy import forest, forest_hf, loading, saving, transformer
from spo.policy import head as output
from spo.policy.critic import Critic
from spo.policy.model_folder import check_weights
from spo.policy.products import product
from spo.policy.sampling import as_ids, check_prompts, choose
from spo.prefixes import PADDING_ID
from spo.settings import Memory
from spo.types import Request, Sample, Sampling

if TYPE_CHECKING:
    from transformers import Cache


class HfPolicy:
    """A policy over `AutoModelForCausalLM`, dropout off; `dtype` is that of the products in `token_logprobs`.

    Ids may be on any device, and what comes back is on theirs: batches and losses stay on the processor, where they
    cost nothing beside the model, and whoever calls need not know where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        end_ids: int | Sequence[int],
        source: Path,
        dtype: str = "float32",
        memory: Memory = Memory(),
        parked: bool = False,
    ) -> None:
        """`parked`: the model never trains, and is on the processor but for `present` and `sample`."""
        self.device, self.memory = place(memory.device), memory
        self.model, self.end_ids, self.source = model.to("cpu" if parked else self.device), as_ids(end_ids), source
        self.train_dtype = transformer.product_dtype(dtype, self.device)
        self._weights = dict(model.named_parameters())
        forest_hf.install(model)
        self._layers = _recomputed_layers(model) if memory.gradient_checkpointing and not parked else []

    @classmethod
    def open(
        cls,
        folder: Path,
        end_ids: int | Sequence[int],
        dtype: str = "float32",
        memory: Memory = Memory(),
        parked: bool = False,
        head: bool = True,
    ) -> HfPolicy:
        """Load a local model folder, to train in `dtype`; raise UserError if it is not one, or has no such device.

        `head`: see `check_weights`.
        """
        check_weights(folder, "hf", head)
        if memory.weights == "bfloat16" and dtype != "bfloat16":
            raise UserError(f"memory.weights: bfloat16 needs `dtype: bfloat16`; it is {dtype}")
        product = transformer.product_dtype(dtype, place(memory.device))
        kept = product if memory.weights == "bfloat16" else torch.float32
        model = loading.load_causal(folder, kept, head)
        with short_of_memory("memory.device: the model does not fit there; use cpu, or memory.weights: bfloat16"):
            return cls(model.eval(), end_ids, folder, dtype, memory, parked)

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def save(self, folder: Path) -> None:
        with Foreign(folder, f"{saving.REMEDY}.", RunFailure):
            self._save(folder)

    def rehearse(self, folder: Path) -> None:
        with Foreign(self.source, "A model trained from it could not be saved. Use another one."):
            self._save(folder, state_dict={})

    def _save(self, folder: Path, **options: dict[str, Tensor]) -> None:
        from transformers import GenerationConfig

        # The start's own is copied as it is: the library reads some that it refuses to write.
        self.model.generation_config = GenerationConfig()
        self.model.save_pretrained(folder, max_shard_size="1000GB", **options)  # the workflow expects one file
        for path in folder.glob("*.safetensors"):
            store.permit_usual(path)
        (folder / "generation_config.json").unlink(missing_ok=True)
        saving.save_rest(self.source, folder, dtype=None)

    @contextmanager
    def present(self) -> Iterator[None]:
        """Have the model on its device inside; what a parked one leaves there afterwards is nothing."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        homes = [tensor.data for tensor in tensors]
        try:
            with short_of_memory("lower memory.vllm_gpu_share or set memory.weights: bfloat16"):
                for tensor, home in zip(tensors, homes, strict=True):
                    tensor.data = home.to(self.device)
            yield
        finally:
            for tensor, home in zip(tensors, homes, strict=True):
                tensor.data = home

    def token_logprobs(self, input_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        ids = input_ids.to(self.model.device)
        if self._head is None:
            out, index = self._forward(self.model, forest.contexts(ids))
            found = forest.predictions(out.logits.flatten(0, 1).float() / temperature, index, ids)
        else:
            found = self._predictions(*self.hidden(forest.contexts(ids)), ids, temperature)
        with finite.explained(self._weights):
            finite.check(found[0].detach(), "log-probabilities")
        return tuple(numbers.to(input_ids.device) for numbers in found)

    def hidden(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden states (N, D), after the final norm, of rows (B, L) on the model's device, and which of them a
        token of the rows has, (B, L)."""
        out, index = self._forward(self.model.base_model, rows)
        return out.last_hidden_state.flatten(0, 1), index

    def _predictions(self, hidden: Tensor, index: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """As `forest.predictions`, from hidden states: a token that several rows have in common is predicted once."""
        followed = ids[:, 1:] != PADDING_ID
        pairs = torch.stack((index[followed], ids[:, 1:][followed]))
        (sources, targets), place_of = torch.unique(pairs, dim=1, return_inverse=True)
        chunk = self.memory.head_chunk_tokens
        found = output.token_logprobs(hidden[sources], self._head, targets, temperature, chunk, self.train_dtype)
        empty = torch.zeros(followed.shape, dtype=found[0].dtype, device=ids.device)
        return tuple(empty.masked_scatter(followed, numbers[place_of]) for numbers in found)

    def _forward(self, module: nn.Module, rows: Tensor):
        recompute = torch.is_grad_enabled()
        for layer in self._layers:
            layer.training = recompute
        try:
            with torch.autocast(rows.device.type, torch.bfloat16, enabled=self.train_dtype == torch.bfloat16):
                return forest_hf.run(module, rows)
        finally:
            for layer in self._layers:
                layer.training = False

    @cached_property
    def _head(self) -> Tensor | None:
        """The weight (V, D) whose product with the last hidden states is the logits; None if a model does more.

        Some scale logits or cap them, some have a bias. It is found out by trying: a few tokens go through the model.
        """
        base, last = self.model.base_model, self.model.get_output_embeddings()
        if base is self.model or not isinstance(last, nn.Linear) or last.bias is not None:
            return None
        seen: list[Tensor] = []
        hooks = (
            base.register_forward_hook(lambda _, given, out: seen.append(out.last_hidden_state)),
            last.register_forward_hook(lambda _, given, out: seen.extend((given[0], out))),
        )
        try:
            with torch.no_grad():
                ids = torch.arange(4, device=self.model.device).unsqueeze(0)
                logits = self.model(input_ids=ids, use_cache=False).logits
        finally:
            for hook in hooks:
                hook.remove()
        if len(seen) != 3:
            return None
        hidden, given, out = seen
        return last.weight if torch.equal(given, hidden) and torch.equal(out.to(logits.dtype), logits) else None

    @torch.no_grad()
    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        check_prompts(requests, self.model.get_input_embeddings().weight.shape[0])
        size = min(batch_rows, self.memory.sample_rows)
        jobs = [(r, s, request) for r, request in enumerate(requests) for s in range(len(request.keys))]
        jobs.sort(key=lambda job: (len(job[2].prompt_ids), job[0], job[1]))
        out: list[list[Sample | None]] = [[None] * len(request.keys) for request in requests]
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            with (
                short_of_memory(f"lower memory.sample_rows or, of a protocol, batch_rows (now {size})"),
                self.present(),
                finite.explained(self._weights),
            ):
                samples = self._decode(batch, sampling)
            for (r, s, _), sample in zip(batch, samples, strict=True):
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
            logits = self._last_logits(inputs, mask, positions, cache)
            chosen, chosen_logprobs = choose(logits, sampling, seeds.uniform(keys[live], step))
            tokens = chosen.numpy(force=True)
            for row, token, logprob in zip(live, tokens.tolist(), chosen_logprobs.tolist(), strict=True):
                ids[row].append(token)
                logprobs[row].append(logprob)
            finished[live] = np.isin(tokens, self.end_ids)
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

    def _last_logits(self, inputs: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Logits (R, V) after the last of inputs (R, L), float32 where the head is one product."""
        module = self.model if self._head is None else self.model.base_model
        out = module(
            input_ids=inputs, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        if self._head is None:
            return out.logits[:, -1]
        return product(out.last_hidden_state[:, -1], self._head.t())


def place(device: str) -> torch.device:
    """Where a model goes for `memory.device`; UserError where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("memory.device: cuda: PyTorch finds no GPU here; use auto or cpu")
    return torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")


def open_critic(folder: Path, seed: int, dtype: str = "float32", memory: Memory = Memory()) -> Critic:
    """A critic on any causal backbone of transformers, with products in `dtype`; UserError if the folder holds none.

    Its head stays on the processor, as ids and values do.
    """
    policy = HfPolicy.open(folder, (), dtype, memory, head=False)
    prefix = f"{policy.model.base_model_prefix}."
    weights = {name: weight for name, weight in policy.weights().items() if name.startswith(prefix)}

    def hidden(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        states, index = policy.hidden(input_ids.to(policy.device))
        return states.to(input_ids.device), index.to(input_ids.device)

    return Critic(folder, weights, hidden, policy.model.config.hidden_size, seed)


def _recomputed_layers(model: nn.Module) -> list[nn.Module]:
    """Set up gradient checkpointing, and return the layers that do it while they are in training mode.

    The model itself stays in evaluation mode; UserError if it has no such layers, or drops activations of its own in
    training.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    name = type(model).__name__
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers or not model.supports_gradient_checkpointing:
        raise UserError(
            f"memory.gradient_checkpointing: {name} has no layers that can be computed again; set it to false"
        )
    dropped = [
        key for key, value in model.config.to_dict().items() if "drop" in key and isinstance(value, float) and value
    ]
    if dropped:
        raise UserError(
            f"memory.gradient_checkpointing: {name} would drop activations ({', '.join(dropped)} in its config.json); "
            "set it to false"
        )
    model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    return layers
