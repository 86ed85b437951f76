"""Policies: what samples responses and what assigns them probabilities, and critics, which rate states. `BACKENDS` and
`CRITICS` name the openers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spo.errors import UserError
from spo.settings import Memory
from spo.types import Request, Sample, Sampling

if TYPE_CHECKING:
    import torch


class Policy(Protocol):
    """A causal language model that can be sampled, differentiated and saved.

    `torch.Tensor` shapes use B rows of L token ids, right-padded with `prefixes.PADDING_ID`. Padding need not be
    computed, nor a token again that has the same history in another row. A policy that may be kept off the GPU has a
    context manager `present`, inside which it is there.
    """

    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        """One list of samples a request, in order; at most `batch_rows` responses are generated at once."""

    def token_logprobs(self, input_ids: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(log-probability of token j+1 given tokens 0..j, entropy of that distribution), both float32 (B, L-1), on the
        device of `input_ids`, wherever the model is.

        The distribution is softmax(logits / temperature) over the whole vocabulary. Gradients flow when enabled. Where
        token j+1 is padding the numbers mean nothing, but are finite.
        """

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The live trainable parameters by their Hugging Face names."""

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and everything else that the start has, as `from_pretrained` reads them.

        Raises RunFailure, one line, if a library or the disk refuses.
        """

    def rehearse(self, folder: Path) -> None:
        """Write into `folder` all that `save` writes beside the weights; raise UserError if `save` would fail."""


class ValueModel(Protocol):
    """A network that says what every state of a response is worth, such as PPO's critic."""

    def values(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Value of the state after token j, (B, L) float32, for input_ids (B, L) as in `Policy`; gradients flow."""

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The live trainable parameters by their Hugging Face names, the head's under `value_head.*`."""

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`, which the opener in `CRITICS` reads again."""

    def rehearse(self, folder: Path) -> None:
        """Write into `folder` all that `save` writes beside the weights."""


def _open_engine(
    folder: Path, end_ids: int | Sequence[int], dtype: str = "float32", memory: Memory = Memory(), parked: bool = False
) -> Policy:
    from spo.policy.engine import Engine

    _check_engine(memory)
    return Engine.open(folder, end_ids, dtype)


def _open_hf(
    folder: Path, end_ids: int | Sequence[int], dtype: str = "float32", memory: Memory = Memory(), parked: bool = False
) -> Policy:
    from spo.policy.hf import HfPolicy

    return HfPolicy.open(folder, end_ids, dtype, memory, parked)


def _open_vllm(
    folder: Path, end_ids: int | Sequence[int], dtype: str = "float32", memory: Memory = Memory(), parked: bool = False
) -> Policy:
    from spo.policy.vllm import VllmPolicy

    return VllmPolicy.open(folder, end_ids, dtype, memory, parked)


def _check_engine(memory: Memory) -> None:
    if memory.device == "cuda":
        raise UserError(
            "memory.device: cuda: backend engine uses the processor; use backend hf or vllm, or device auto"
        )


#: name in config (`backend:`) -> opener(model folder, ids that end a response, dtype of products in `token_logprobs`,
#: memory, parked: a policy that never trains, such as the reference, is off the GPU where it is not needed)
BACKENDS: dict[str, Callable[..., Policy]] = {"engine": _open_engine, "hf": _open_hf, "vllm": _open_vllm}


def _critic_engine(folder: Path, seed: int, dtype: str = "float32", memory: Memory = Memory()) -> ValueModel:
    from spo.policy import critic

    _check_engine(memory)
    return critic.open_engine(folder, seed, dtype)


def _critic_hf(folder: Path, seed: int, dtype: str = "float32", memory: Memory = Memory()) -> ValueModel:
    from spo.policy import hf

    return hf.open_critic(folder, seed, dtype, memory)


#: backend -> opener(folder of a policy, whose copy gets a new head, or of a saved critic; seed of that head; dtype;
#: memory)
CRITICS: dict[str, Callable[..., ValueModel]] = {
    "engine": _critic_engine,
    "hf": _critic_hf,
    # vLLM samples; what trains beside it is the model of backend hf.
    "vllm": _critic_hf,
}
