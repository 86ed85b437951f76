"""The Llama/Qwen2 decoder as plain functions of a weight dictionary with Hugging Face names.

Used by the engine for training and sampling alike, without importing transformers (seconds a process on a CPU).
Shapes: B rows, L tokens, D hidden size, H query heads, G key/value heads, E head size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spo.errors import UserError
from spo.policy import products
from spo.policy.architecture import check_engine, head_size, key_heads, positive, rope_parameters
from spo.policy.forest import Forest
from spo.policy.forest import attend as attend_history
from spo.policy.model_folder import read_config
from spo.settings import Architecture

Weights = dict[str, Tensor]

#: Longest sequence whose attention scores are written out.
_PLAIN_TOKENS = 512
#: architecture.family -> what `config.json` says of it.
_FAMILIES = {
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
    },
}


@dataclass(frozen=True)
class Geometry:
    """The numbers of `config.json` that the computation needs."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary_size: int
    rope_theta: float
    norm_eps: float
    tied: bool
    max_position_tokens: int


def product_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name` (`float32` or `bfloat16`); float32 where a processor only imitates bfloat16.

    UserError for any other name.
    """
    if name not in ("float32", "bfloat16"):
        raise UserError(f"dtype: {name}: must be float32 or bfloat16")
    native = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if name == "bfloat16" and native else torch.float32


def geometry(folder: Path) -> Geometry:
    """Read `config.json`; raise UserError for a model that this implementation does not compute exactly."""
    path, config = folder / "config.json", read_config(folder)
    check_engine(config, path)
    return Geometry(
        hidden_size=positive(config, "hidden_size", path),
        layers=positive(config, "num_hidden_layers", path),
        heads=positive(config, "num_attention_heads", path),
        kv_heads=key_heads(config, path),
        head_size=head_size(config, path),
        vocabulary_size=positive(config, "vocab_size", path),
        rope_theta=float(rope_parameters(config)["rope_theta"]),
        norm_eps=config.get("rms_norm_eps", 1e-6),
        tied=bool(config.get("tie_word_embeddings", False)),
        max_position_tokens=positive(config, "max_position_embeddings", path, 2048),
    )


def model_config(architecture: Architecture, vocabulary_size: int, eos_id: int, pad_id: int) -> dict:
    """`config.json` of a new model."""
    return {
        **_FAMILIES[architecture.family],
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "head_dim": architecture.hidden_size // architecture.heads,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": architecture.max_position_tokens,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": architecture.rope_theta},
        "rope_theta": architecture.rope_theta,
        "attention_dropout": 0.0,
        "use_cache": True,
        "dtype": "float32",
        "vocab_size": vocabulary_size,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
        "bos_token_id": None,
    }


def initial_weights(architecture: Architecture, vocabulary_size: int, seed: int) -> Weights:
    """Normal(0, 0.02) matrices, output projections scaled by 1/sqrt(2 layers), zero biases, unit norms; float32."""
    generator = torch.Generator().manual_seed(seed)
    a, size = architecture, architecture.hidden_size
    head = size // a.heads
    output_scale = 0.02 / (2 * a.layers) ** 0.5

    def normal(rows: int, columns: int, std: float = 0.02) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * std

    weights = {"model.embed_tokens.weight": normal(vocabulary_size, size), "model.norm.weight": torch.ones(size)}
    for layer in range(a.layers):
        at = f"model.layers.{layer}"
        for name, rows in (("q", a.heads * head), ("k", a.kv_heads * head), ("v", a.kv_heads * head)):
            weights[f"{at}.self_attn.{name}_proj.weight"] = normal(rows, size)
            if a.family == "qwen2":
                weights[f"{at}.self_attn.{name}_proj.bias"] = torch.zeros(rows)
        weights[f"{at}.self_attn.o_proj.weight"] = normal(size, a.heads * head, output_scale)
        weights[f"{at}.mlp.gate_proj.weight"] = normal(a.intermediate_size, size)
        weights[f"{at}.mlp.up_proj.weight"] = normal(a.intermediate_size, size)
        weights[f"{at}.mlp.down_proj.weight"] = normal(size, a.intermediate_size, output_scale)
        weights[f"{at}.input_layernorm.weight"] = torch.ones(size)
        weights[f"{at}.post_attention_layernorm.weight"] = torch.ones(size)
    if a.family == "llama":
        weights["lm_head.weight"] = normal(vocabulary_size, size)
    return weights


def rope(geo: Geometry, positions: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (..., E/2) float32, for integer `positions` (...)."""
    half = geo.head_size // 2
    frequencies = geo.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=positions.device) / half)
    angles = positions.to(torch.float32).unsqueeze(-1) * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (..., E) in the two-halves layout of Llama; cos and sin broadcast as (..., E/2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def project(weights: Weights, geo: Geometry, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised hidden (B, L, D) -> queries (B, H, L, E), keys and values (B, G, L, E), before rotation."""
    at = f"model.layers.{layer}.self_attn"
    batch, length, _ = hidden.shape

    def heads(name: str, count: int) -> Tensor:
        out = F.linear(hidden, weights[f"{at}.{name}_proj.weight"], weights.get(f"{at}.{name}_proj.bias"))
        return out.view(batch, length, count, geo.head_size).transpose(1, 2)

    return heads("q", geo.heads), heads("k", geo.kv_heads), heads("v", geo.kv_heads)


def feed_forward(weights: Weights, geo: Geometry, layer: int, residual: Tensor, attended: Tensor) -> Tensor:
    """Add the attention output and the gated MLP to the residual stream; all (..., D)."""
    at = f"model.layers.{layer}"
    residual = residual + F.linear(attended, weights[f"{at}.self_attn.o_proj.weight"])
    hidden = norm(residual, weights[f"{at}.post_attention_layernorm.weight"], geo)
    gate = F.silu(F.linear(hidden, weights[f"{at}.mlp.gate_proj.weight"]))
    up = F.linear(hidden, weights[f"{at}.mlp.up_proj.weight"])
    return residual + F.linear(gate * up, weights[f"{at}.mlp.down_proj.weight"])


def norm(x: Tensor, weight: Tensor, geo: Geometry) -> Tensor:
    return unit(x, geo) * weight


def unit(x: Tensor, geo: Geometry) -> Tensor:
    """x (..., D) divided by its root mean square, which is taken in float32 at least."""
    return _Unit.apply(x, geo.norm_eps)


class _Unit(torch.autograd.Function):
    """As `F.rms_norm`, which on a processor is a dozen operations, and twice as many backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square_()
        scale = squares.div_(x.shape[-1]).add_(eps).rsqrt_()
        out = (x * scale).to(x.dtype)
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """With y = x s: dx = s (dy - y mean(y dy))."""
        out, scale = ctx.saved_tensors
        along = (grad * out).mean(dim=-1, keepdim=True)
        return torch.addcmul(grad, out, along, value=-1).mul_(scale.to(grad.dtype)), None


def logits(weights: Weights, geo: Geometry, hidden: Tensor) -> Tensor:
    """Return logits (..., V), float32 at least, from last hidden states (..., D)."""
    head = weights["model.embed_tokens.weight"] if geo.tied else weights["lm_head.weight"]
    normed = norm(hidden, weights["model.norm.weight"], geo)
    return products.linear(normed.flatten(0, -2), head).unflatten(0, hidden.shape[:-1])


def forward(
    weights: Weights, geo: Geometry, input_ids: Tensor, keep_kv: bool = False
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Causal pass over right-padded input_ids (B, L): hidden states before the final norm (B, L, D), and with `keep_kv`
    the rotated keys and the values of every layer, each (B, G, L, E)."""
    hidden = F.embedding(input_ids, weights["model.embed_tokens.weight"])
    cos, sin = (x.to(hidden.dtype) for x in rope(geo, torch.arange(input_ids.shape[1], device=input_ids.device)))
    kept = []
    for layer in range(geo.layers):
        normed = norm(hidden, weights[f"model.layers.{layer}.input_layernorm.weight"], geo)
        q, k, v = project(weights, geo, layer, normed)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if keep_kv:
            kept.append((k, v))
        hidden = feed_forward(weights, geo, layer, hidden, attend(q, k, v).transpose(1, 2).flatten(2))
    return hidden, kept


def forward_forest(weights: Weights, geo: Geometry, found: Forest) -> Tensor:
    """Hidden states (N, D) of distinct tokens before the final norm."""
    hidden = F.embedding(found.ids, weights["model.embed_tokens.weight"])
    rotated, scale = geo.heads + geo.kv_heads, geo.head_size**-0.5
    # Contiguous, so that a product with all heads is one loop.
    turns = torch.complex(*rope(geo, found.positions)).unsqueeze(1).expand(-1, rotated, -1).contiguous()
    for layer in range(geo.layers):
        normed = norm(hidden, weights[f"model.layers.{layer}.input_layernorm.weight"], geo)
        heads = F.linear(normed, *_joint_projection(weights, geo, layer)).unflatten(-1, (-1, geo.head_size))
        pairs = torch.view_as_complex(heads[:, :rotated].float().unflatten(-1, (-1, 2)))
        q, k = torch.view_as_real(pairs * turns).flatten(-2).to(heads.dtype).split((geo.heads, geo.kv_heads), dim=1)
        hidden = feed_forward(weights, geo, layer, hidden, attend_history(q, k, heads[:, rotated:], found, scale))
    return hidden


def _joint_projection(weights: Weights, geo: Geometry, layer: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that give queries, keys and values at once: the two halves of each head of queries and keys are
    interleaved, as pairs that rotate like complex numbers."""

    def joint(part: str) -> Tensor | None:
        q, k, v = (weights.get(f"model.layers.{layer}.self_attn.{name}_proj.{part}") for name in "qkv")
        if q is None:
            return None
        rotating = torch.cat((q, k)).unflatten(0, (-1, 2, geo.head_size // 2))
        return torch.cat((rotating.transpose(1, 2).flatten(0, 2), v))

    return joint("weight"), joint("bias")


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of q (B, H, L, E) over k and v (B, G, L, E): (B, H, L, E).

    In float32 up to `_PLAIN_TOKENS` by plain products, in which the query heads of one key head share one matrix: the
    fused kernel is slower on a CPU. Longer sequences need it for its memory, bfloat16 for its float32 attention logits.
    """
    batch, heads, length, size = q.shape
    group = heads // k.shape[1]
    if length > _PLAIN_TOKENS or q.dtype == torch.bfloat16:
        k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    hide = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    grouped = (q * size**-0.5).reshape(batch, -1, group * length, size)
    scores = (grouped @ k.transpose(-1, -2)).view(batch, -1, group, length, length) + hide
    return (scores.softmax(dim=-1).view(batch, -1, group * length, length) @ v).view(q.shape)
