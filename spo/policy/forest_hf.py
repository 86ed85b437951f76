"""Models of transformers on forests: one row of distinct tokens, and an attention that knows their histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spo.policy.forest import attend, forest

if TYPE_CHECKING:
    from transformers.utils import ModelOutput

NAME = "spo_forest"
#: Families whose attention is nothing but softmax(q k) v over the whole history, and which pass keywords on to it.
FAMILIES = ("llama", "qwen2")


def install(model: torch.nn.Module) -> None:
    """Let `run` compute a model's distinct tokens only, if it is of a kind for which that is exact."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = model.config
    if config.model_type in FAMILIES and "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def run(model: torch.nn.Module, rows: Tensor) -> tuple[ModelOutput, Tensor]:
    """What `model` puts out for rows (B, L) of ids, right-padded with `prefixes.PADDING_ID`: tensors (X, Y, ..), and
    where in their X Y places a token of the rows has its own, (B, L) int64.

    After `install` it computes one row of distinct tokens; a model of another kind computes the rows themselves.
    """
    if model.config._attn_implementation != NAME:
        index = torch.arange(rows.numel(), device=rows.device).view(rows.shape)
        return model(input_ids=rows.clamp(min=0), use_cache=False), index
    found = forest(rows)
    # A mask of four dimensions is passed on as it is; this one is not looked at.
    mask = torch.zeros(1, 1, 1, 1, device=rows.device)
    ids, positions = found.ids.unsqueeze(0), found.positions.unsqueeze(0)
    out = model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False, forest=found)
    return out, found.index


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options
) -> tuple[Tensor, None]:
    """query (1, H, N, E), key and value (1, G, N, E) -> (1, N, H, E); ordinary rows by torch's own function."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    found = options.pop("forest", None)
    if found is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, found, options["scaling"]).view(1, *q.shape), None
