"""Passes of a model over batches of tokens by the compiled kernels: weights laid out for them, and room to work in."""

from __future__ import annotations

from ctypes import CDLL, byref

import numpy as np
import torch
from torch import Tensor

from spo import finite
from spo.errors import UserError
from spo.policy import transformer
from spo.policy.compiled import BLOCK_ROWS, PAGE_TOKENS, Batch, Layer, Model
from spo.policy.pages import Chains, Pool
from spo.policy.sampling import choose
from spo.policy.transformer import Geometry, Weights
from spo.types import Sampling


def panels(matrix: Tensor, width: int) -> Tensor:
    """Of a matrix (inputs, outputs), filled up with zeros: (panels, inputs, width).

    >>> panels(torch.tensor([[1, 2, 3], [4, 5, 6]]), 2).tolist()
    [[[1, 2], [4, 5]], [[3, 0], [6, 0]]]
    """
    filled = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % width))
    return filled.unflatten(1, (-1, width)).transpose(0, 1).contiguous()


class Passes:
    """A model as its weights are now, with keys and values in the pages of `pool`."""

    def __init__(self, kernels: CDLL, weights: Weights, geo: Geometry) -> None:
        self.kernels, self.geometry, self.most = kernels, geo, 0
        self.pool = Pool(geo.layers * geo.kv_heads * PAGE_TOKENS * (geo.head_size + _up(geo.head_size, PAGE_TOKENS)))
        root, embedding = geo.hidden_size**0.5, weights["model.embed_tokens.weight"]
        head = embedding if geo.tied else weights["lm_head.weight"]
        self._inner = weights["model.layers.0.mlp.down_proj.weight"].shape[1]
        self._layers = [_layer(weights, geo, number, kernels.panel) for number in range(geo.layers)]
        # A copy, or it would change with the weights while the rest does not.
        self._tensors = {
            "embedding": embedding.detach().clone(),
            "head": panels((head * weights["model.norm.weight"]).t() * root, kernels.panel),
        }
        self._model = Model(
            layers=geo.layers,
            kv_heads=geo.kv_heads,
            hidden_size=geo.hidden_size,
            intermediate_size=self._inner,
            vocabulary_size=geo.vocabulary_size,
            layer=(Layer * geo.layers)(*(Layer(*(x.data_ptr() for x in layer)) for layer in self._layers)),
            square=geo.hidden_size * geo.norm_eps,
        )
        #: What a pass reads of weights.
        self.weight_bytes = sum(x.nbytes for layer in (*self._layers, (self._tensors["head"],)) for x in layer)
        self.make_room(0, 0)

    def make_room(self, context_tokens: int, most: int) -> None:
        """For positions below `context_tokens`, and for `most` tokens at a time."""
        geo, panel, self.most = self.geometry, self.kernels.panel, max(most, self.most)
        asked, joint = (n * geo.head_size for n in (geo.heads, geo.heads + 2 * geo.kv_heads))
        cosines, sines = transformer.rope(geo, torch.arange(context_tokens))
        self._tensors |= {
            "cosines": cosines,
            "sines": sines,
            "hidden": torch.empty(self.most, _up(geo.hidden_size, panel)),
            "qkv": torch.empty(self.most, _up(joint, panel)),
            "attended": torch.empty(BLOCK_ROWS, _up(asked, panel)),
            "gated": torch.empty(BLOCK_ROWS, _up(self._inner, panel)),
        }
        for name, tensor in self._tensors.items():
            setattr(self._model, name, tensor.data_ptr())

    def fill(self, tokens: np.ndarray, positions: np.ndarray, chains: Chains) -> None:
        """Put keys and values of `tokens` (N) int64 at `positions` (N) int64 where chains end."""
        self._compute(tokens, positions, chains, None)

    def logits(self, tokens: np.ndarray, positions: np.ndarray, chains: Chains) -> Tensor:
        """Do so; logits (N, V, filled up to whole panels) after the tokens."""
        out = torch.empty(len(tokens), _up(self.geometry.vocabulary_size, self.kernels.panel))
        self._compute(tokens, positions, chains, out.data_ptr())
        return out

    def draw(self, logits: Tensor, sampling: Sampling, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`sampling.choose` on what `logits` gave, and which may be written over: ids (N) and log-probabilities."""
        count, words = len(logits), self.geometry.vocabulary_size
        if sampling.temperature > 0 and sampling.top_p < 1:
            ids, logprobs = choose(logits[:, :words], sampling, uniform)
            return ids.numpy(), logprobs.numpy()
        ids, logprobs = np.empty(count, np.int64), np.empty(count, np.float32)
        addresses = (array.ctypes.data for array in (uniform, ids, logprobs))
        self.kernels.draw(logits.data_ptr(), count, words, sampling.temperature, *addresses)
        finite.check(logprobs)
        return ids, logprobs

    def _compute(self, tokens: np.ndarray, positions: np.ndarray, chains: Chains, logits: int | None) -> None:
        count, width = chains.pages.shape
        if tokens.min() < 0 or tokens.max() >= self.geometry.vocabulary_size:
            raise UserError(f"prompt: a token outside the model's vocabulary of {self.geometry.vocabulary_size}")
        scores = torch.empty((width + 1) * PAGE_TOKENS * self.geometry.heads // self.geometry.kv_heads)
        arrays = [np.ascontiguousarray(array) for array in (self.pool.addresses, *chains, tokens, positions)]
        pointers = [array.ctypes.data for array in arrays]
        batch = Batch(count, width, self.pool.slab_shift, self.pool.page_floats, *pointers, scores.data_ptr())
        self.kernels.compute(byref(self._model), byref(batch), logits)


def _layer(weights: Weights, geo: Geometry, number: int, panel: int) -> tuple[Tensor, ...]:
    """The matrices of one layer with the weights of norms, the root of D and the divisor of scores in them."""
    at, root = f"model.layers.{number}", geo.hidden_size**0.5

    def normed(name: str, norm: str) -> Tensor:
        return (weights[f"{at}.{name}.weight"] * weights[f"{at}.{norm}.weight"]).t() * root

    qkv, biases = [], []
    for name, scale in (("q", geo.head_size**-0.5), ("k", 1.0), ("v", 1.0)):
        qkv.append(normed(f"self_attn.{name}_proj", "input_layernorm") * scale)
        bias = weights.get(f"{at}.self_attn.{name}_proj.bias", qkv[-1].new_zeros(qkv[-1].shape[1]))
        biases.append(bias * scale)
    halves = [panels(normed(f"mlp.{name}_proj", "post_attention_layernorm"), panel // 2) for name in ("gate", "up")]
    return (
        panels(torch.cat(qkv, dim=-1), panel),
        panels(torch.cat(biases).unsqueeze(0), panel),
        panels(weights[f"{at}.self_attn.o_proj.weight"].t(), panel),
        torch.cat(halves, dim=-1),
        panels(weights[f"{at}.mlp.down_proj.weight"].t(), panel),
    )


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
