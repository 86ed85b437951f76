"""A model made ready for decoding on a CPU: matrices fused, transposed and scaled once, then few and large operations.

Rows that continue the same host prompt read one copy of its keys and values: they sit together in blocks, and a block's
queries meet the host's keys in a single product. Only what a row has written itself is stored by row.
Shapes: N = B blocks x r places, of which some may be idle; S host tokens, T written tokens, others as in `transformer`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spo.policy import transformer
from spo.policy.transformer import Geometry, Weights


@dataclass(frozen=True)
class Layer:
    """Matrices (inputs, outputs) of one layer in which neighbours are fused and the weights of norms contained.

    `qkv` (D, (H + 2 G) E) makes queries, already divided by sqrt(E), keys and values; `gate_up` both halves of the MLP.
    """

    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Decoder:
    """A model ready for decoding; a copy, to be made anew when weights have changed.

    Heads have their two halves interleaved, so that `turns` (positions, 1, E/2), complex numbers exp(i position
    frequency), rotate a head by one product; `floor` is sqrt(D epsilon).
    """

    geometry: Geometry
    embedding: Tensor
    layers: tuple[Layer, ...]
    head: Tensor
    turns: Tensor
    floor: Tensor


@dataclass(frozen=True)
class Shared:
    """Of B blocks of r places: their hosts' `keys` (layers, B, G, E, S) and `values` (layers, B, G, S, E), and `hide`
    (B, 1, r, 1, S), -inf past the prefix that a row continues, else 0."""

    keys: Tensor
    values: Tensor
    hide: Tensor


def interleave(heads: Tensor, size: int) -> Tensor:
    """Bring (..., heads x size) from halves to pairs: each head's (a0 a1 .. b0 b1 ..) becomes (a0 b0 a1 b1 ..).

    >>> interleave(torch.tensor([1, 2, 3, 4, 5, 6, 7, 8]), 4).tolist()
    [1, 3, 2, 4, 5, 7, 6, 8]
    """
    return heads.unflatten(-1, (-1, 2, size // 2)).transpose(-1, -2).reshape(heads.shape)


def prepare(weights: Weights, geo: Geometry, context_tokens: int) -> Decoder:
    """Fuse, scale and transpose the weights once, for contexts of up to `context_tokens`."""
    root = geo.hidden_size**0.5
    scales = [(geo.heads, geo.head_size**-0.5), (geo.kv_heads, 1.0), (geo.kv_heads, 1.0)]

    def layer(at: str) -> Layer:
        def normed(name: str, norm: str) -> Tensor:
            return (weights[f"{at}.{name}.weight"] * weights[f"{at}.{norm}.weight"]).t() * root

        parts, biases = [], []
        for name, (count, scale) in zip("qkv", scales, strict=True):
            part = normed(f"self_attn.{name}_proj", "input_layernorm") * scale
            bias = weights.get(f"{at}.self_attn.{name}_proj.bias", part.new_zeros(count * geo.head_size)) * scale
            parts.append(part if name == "v" else interleave(part, geo.head_size))
            biases.append(bias if name == "v" else interleave(bias, geo.head_size))
        gate_up = [normed(f"mlp.{name}_proj", "post_attention_layernorm") for name in ("gate", "up")]
        return Layer(
            qkv=torch.cat(parts, dim=-1),
            qkv_bias=torch.cat(biases),
            out=weights[f"{at}.self_attn.o_proj.weight"].t().contiguous(),
            gate_up=torch.cat(gate_up, dim=-1),
            down=weights[f"{at}.mlp.down_proj.weight"].t().contiguous(),
        )

    embedding = weights["model.embed_tokens.weight"]
    head = embedding if geo.tied else weights["lm_head.weight"]
    return Decoder(
        geometry=geo,
        embedding=embedding,
        layers=tuple(layer(f"model.layers.{i}") for i in range(geo.layers)),
        head=((head * weights["model.norm.weight"]).t() * root).contiguous(),
        turns=torch.complex(*transformer.rope(geo, torch.arange(context_tokens, device=head.device)))[:, None],
        floor=torch.tensor(root * geo.norm_eps**0.5, device=head.device),
    )


def step(
    decoder: Decoder, shared: Shared, keys: Tensor, values: Tensor, tokens: Tensor, positions: Tensor, written: int
) -> Tensor:
    """Logits (N, V) after `tokens` (N) at `positions` (N).

    keys (layers, N, G, E, T) and values (layers, N, G, T, E) are what the rows have written; those of `tokens` are put
    in place `written`, and later places are not read.
    """
    geo = decoder.geometry
    queries, rotated = geo.heads * geo.head_size, (geo.heads + geo.kv_heads) * geo.head_size
    pairs = (len(tokens), geo.heads + 2 * geo.kv_heads, geo.head_size // 2, 2)
    hidden, turns = decoder.embedding[tokens], decoder.turns[positions]
    # Views cost as much as small products; one call makes those of all layers.
    new = zip(keys[..., written].unbind(), values[..., written, :].unbind(), strict=True)
    hosts = zip(shared.keys.flatten(1, 2).unbind(), shared.values.flatten(1, 2).unbind(), strict=True)
    keys, values = keys[..., : written + 1], values[..., : written + 1, :]
    own = zip(keys.flatten(1, 2).unbind(), values.flatten(1, 2).unbind(), strict=True)
    for layer, (new_keys, new_values), host, row in zip(decoder.layers, new, hosts, own, strict=True):
        qkv = torch.addmm(layer.qkv_bias, _normed(hidden, decoder.floor), layer.qkv)
        turned = torch.view_as_complex(qkv.view(pairs))[:, : geo.heads + geo.kv_heads] * turns
        qk = torch.view_as_real(turned).view(len(tokens), rotated)
        new_keys.copy_(qk[:, queries:].view(new_keys.shape))
        new_values.copy_(qkv[:, rotated:].view(new_keys.shape))
        hidden.addmm_(attend(qk[:, :queries], *host, shared.hide, *row), layer.out)
        gate, up = torch.mm(_normed(hidden, decoder.floor), layer.gate_up).chunk(2, dim=-1)
        hidden.addmm_(F.silu(gate).mul_(up), layer.down)
    return torch.mm(_normed(hidden, decoder.floor), decoder.head)


def attend(q: Tensor, host_keys: Tensor, host_values: Tensor, hide: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of q (N, H E) over a host's tokens, as far as `hide` allows, and over the row's own: (N, H E).

    host_keys (B G, E, S), host_values (B G, S, E), keys (N G, E, T), values (N G, T, E).
    """
    count, size, host = len(q), keys.shape[1], hide.shape[4]
    blocks, _, places = hide.shape[:3]
    kv_heads = len(keys) // count
    group = q.shape[1] // (kv_heads * size)

    def by_block(x: Tensor) -> Tensor:
        """(N G, group, ...) or (N, H E) -> (B G, r group, ...)"""
        if kv_heads > 1:
            x = x.reshape(blocks, places, kv_heads, -1).transpose(1, 2)
        return x.reshape(blocks * kv_heads, places * group, -1)

    def by_row(x: Tensor) -> Tensor:
        """The inverse: (B G, r group, ...) -> (N G, group, ...)"""
        if kv_heads > 1:
            x = x.view(blocks, kv_heads, places, -1).transpose(1, 2)
        return x.reshape(count * kv_heads, group, -1)

    far = torch.bmm(by_block(q), host_keys)
    far.view(blocks, kv_heads, places, group, host).add_(hide)
    near = torch.bmm(q.reshape(count * kv_heads, group, size), keys)
    shares = torch.cat((by_row(far), near), dim=-1).softmax(dim=-1)
    mixed = by_row(torch.bmm(by_block(shares[..., :host]), host_values))
    return torch.baddbmm(mixed, shares[..., host:], values).view(count, -1)


def _normed(hidden: Tensor, floor: Tensor) -> Tensor:
    """Rows divided by sqrt(|row|^2 + D epsilon); the matrices contain the rest of the norm."""
    return hidden / torch.hypot(torch.linalg.vector_norm(hidden, dim=-1, keepdim=True), floor)
