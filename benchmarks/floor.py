"""What sampling takes at least: operations at the rate of the fastest matrix product here, bytes at that of reading."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spo.policy.transformer import Geometry
from spo.settings import Architecture
from spo.types import Request

#: About the keys and values of a batch: more than caches near a core hold.
BATCH_BYTES = 1 << 25
#: Rows of a product whose rate counts, and rows that a step could have at most.
PRODUCT_ROWS, STEP_ROWS = 512, 1024


@dataclass(frozen=True)
class Least:
    """Operations, and bytes read, of products with weights and of attention; prompts do not count."""

    weights_operations: float
    weights_bytes: float
    attention_operations: float
    attention_bytes: float

    def seconds(self, operations_per_s: float, weights_bytes_per_s: float, bytes_per_s: float) -> float:
        """Each part takes the longer of both; the parts wait for one another, layer by layer, and add up."""
        return max(self.weights_operations / operations_per_s, self.weights_bytes / weights_bytes_per_s) + max(
            self.attention_operations / operations_per_s, self.attention_bytes / bytes_per_s
        )


def median_seconds(act: Callable[[], object], repeats: int = 200) -> float:
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def product_rate(
    architecture: Architecture, rows: int = 256, repeats: int = 200, dtype: torch.dtype = torch.float32
) -> float:
    """Operations a second of `torch.mm` in the gate product of `rows` rows, the largest of a layer; median."""
    a = torch.randn(rows, architecture.hidden_size, dtype=dtype)
    b = torch.randn(architecture.hidden_size, 2 * architecture.intermediate_size, dtype=dtype)
    return 2 * a.numel() * b.shape[1] / median_seconds(lambda: torch.mm(a, b), repeats)


@torch.inference_mode()
def best_product_rate(architecture: Architecture) -> float:
    """That of `torch.mm`, or of oneDNN where PyTorch has it: on some processors one of them is twice as fast."""
    rate = product_rate(architecture, PRODUCT_ROWS)
    if torch.backends.mkldnn.is_available():
        a = torch.randn(PRODUCT_ROWS, architecture.hidden_size)
        b = torch.randn(2 * architecture.intermediate_size, architecture.hidden_size)
        packed = torch.ops.mkldnn._reorder_linear_weight(b, PRODUCT_ROWS)
        spent = median_seconds(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""))
        rate = max(rate, 2 * a.numel() * len(b) / spent)
    return rate


def read_rate(size_bytes: int) -> float:
    """Bytes a second in adding up so many bytes of numbers, again and again; median."""
    numbers = torch.ones(size_bytes // 4)
    return size_bytes / median_seconds(numbers.sum, 50)


def matrices(geo: Geometry, intermediate_size: int) -> int:
    """Weights that every token is multiplied with, those of the head included."""
    attention = geo.hidden_size * geo.head_size * 2 * (geo.heads + geo.kv_heads)
    return geo.layers * (attention + 3 * geo.hidden_size * intermediate_size) + geo.vocabulary_size * geo.hidden_size


def least(geo: Geometry, intermediate_size: int, requests: Sequence[Request]) -> Least:
    """A token takes 2 operations a weight of every matrix, and a layer 4 H E for each token of its context. Weights are
    read once a step, keys and values of a response's own tokens once a step, and those of a prompt's token once a step
    for all rows that have it, and what precedes it, in common.

    >>> geo = Geometry(4, 1, 2, 1, 2, 10, 1e4, 1e-6, True, 64)
    >>> least(geo, 3, [Request((1, 2), (7,), 1)])  # 2 (16 q + 16 k, v + 16 o + 36 mlp + 40 head); 4 x 4 x 3; 4 x 4 x 3
    Least(weights_operations=248.0, weights_bytes=496.0, attention_operations=48.0, attention_bytes=48.0)
    """
    weights, tokens, contexts, own, longest = matrices(geo, intermediate_size), 0.0, 0.0, 0.0, 0
    place_of: dict[tuple[int, int], int] = {}  # (place of the token before, token) in the tree of all prompts
    steps_of: dict[int, int] = {}
    for request in requests:
        count, samples, place = request.max_response_tokens, len(request.keys), 0
        written = samples * count * (count + 1) / 2
        tokens, own, longest = tokens + samples * count, own + written, max(longest, count)
        contexts += samples * count * len(request.prompt_ids) + written
        for token in request.prompt_ids:
            place = place_of.setdefault((place, token), len(place_of) + 1)
            steps_of[place] = max(steps_of.get(place, 0), count)
    return Least(
        weights_operations=2.0 * weights * tokens,
        weights_bytes=4.0 * weights * max(longest, tokens / STEP_ROWS),
        attention_operations=4.0 * geo.layers * geo.heads * geo.head_size * contexts,
        attention_bytes=8.0 * geo.layers * geo.kv_heads * geo.head_size * (own + sum(steps_of.values())),
    )
