"""Policies: what samples responses and what assigns them probabilities. `BACKENDS` names the openers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spo.types import Request, Sample, Sampling

if TYPE_CHECKING:
    import torch


class Policy(Protocol):
    """A causal language model that can be sampled, differentiated and saved.

    `torch.Tensor` shapes use B rows of L token ids, right-padded with anything: a causal model never looks ahead.
    """

    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        """One list of samples a request, in order; at most `batch_rows` responses are generated at once."""

    def token_logprobs(self, input_ids: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(log-probability of token j+1 given tokens 0..j, entropy of that distribution), both float32 (B, L-1).

        The distribution is softmax(logits / temperature) over the whole vocabulary. Gradients flow when enabled.
        """

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The live trainable parameters by their Hugging Face names."""

    def save(self, folder: Path) -> None:
        """Write `config.json`, `model.safetensors` and the tokenizer files, as `from_pretrained` reads them."""


def _open_engine(folder: Path, eos_id: int) -> Policy:
    from spo.policy.engine import Engine

    return Engine.open(folder, eos_id)


def _open_hf(folder: Path, eos_id: int) -> Policy:
    from spo.policy.hf import HfPolicy

    return HfPolicy.open(folder, eos_id)


#: name in config (`backend:`) -> opener(model folder, end-of-sequence id)
BACKENDS: dict[str, Callable[[Path, int], Policy]] = {"engine": _open_engine, "hf": _open_hf}
