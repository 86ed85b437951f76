"""Value models for PPO: the backbone of a policy and one linear head that rates every state (spec §4.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from spo import finite
from spo.policy import forest, transformer
from spo.policy.saving import save_tensors, write_config
from spo.policy.tensor_files import read_object

HEAD = ("value_head.weight", "value_head.bias")


class Critic:
    """A value model over a weight dictionary with Hugging Face names, the head under `value_head.*`.

    `hidden` maps input_ids (B, L) to the backbone's last hidden states (N, D), after its final norm, and says which of
    them a token of input_ids has, (B, L); it reads the very tensors of `backbone`. `seed` draws the head: normal with
    std 1/sqrt(D + 1), bias 0; a folder that a critic was saved to has its own, which is taken.
    """

    def __init__(
        self,
        source: Path,
        backbone: dict[str, Tensor],
        hidden: Callable[[Tensor], tuple[Tensor, Tensor]],
        size: int,
        seed: int,
    ) -> None:
        self.source, self._hidden = source, hidden
        weight, bias = saved_head(source) or initial_head(size, seed)
        head = dict(zip(HEAD, (weight.requires_grad_(), bias.requires_grad_()), strict=True))
        self._weights = backbone | head

    def values(self, input_ids: Tensor) -> Tensor:
        weight, bias = (self._weights[name] for name in HEAD)
        states, index = self._hidden(input_ids)
        values = F.linear(states.float(), weight, bias).squeeze(-1).index_select(0, index.flatten()).view(index.shape)
        with finite.explained(self._weights):
            finite.check(values.detach(), "a critic's values")
        return values

    def weights(self) -> dict[str, Tensor]:
        return self._weights

    def save(self, folder: Path) -> None:
        self.rehearse(folder)
        save_tensors(self._weights, folder)

    def rehearse(self, folder: Path) -> None:
        """Write into `folder` all that `save` writes beside the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        config = read_object(self.source / "config.json")
        # A model without head, in the words of transformers.
        config["architectures"] = [name.replace("ForCausalLM", "Model") for name in config.get("architectures") or []]
        write_config(folder / "config.json", config)


def open_engine(folder: Path, seed: int, dtype: str = "float32") -> Critic:
    """A critic on the engine's backbone, with products in `dtype`; UserError as `Engine.open`."""
    from spo.policy.engine import Engine

    engine = Engine.open(folder, end_ids=(), dtype=dtype, head=False)
    geo = engine.geometry
    weights = {name: w for name, w in engine.weights().items() if name != "lm_head.weight" and name not in HEAD}

    def hidden(input_ids: Tensor) -> tuple[Tensor, Tensor]:
        cast = {name: weight.to(engine.train_dtype) for name, weight in weights.items()}
        found = forest.forest(input_ids, engine.round_to)
        last = transformer.forward_forest(cast, geo, found)
        return transformer.norm(last, cast["model.norm.weight"], geo), found.index

    return Critic(folder, weights, hidden, geo.hidden_size, seed)


def initial_head(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight (1, D) and bias (1) of a new head over hidden states of `size` D, float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, size, generator=generator) / (size + 1) ** 0.5, torch.zeros(1)


def saved_head(folder: Path) -> tuple[Tensor, Tensor] | None:
    """The head in a folder that `Critic.save` wrote; None in a policy's folder."""
    from safetensors import safe_open

    path = folder / "model.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        return tuple(file.get_tensor(name) for name in HEAD) if names.issuperset(HEAD) else None
