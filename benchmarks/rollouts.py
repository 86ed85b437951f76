"""How fast the backends sample, in the shapes in which methods ask, beside what a processor's products would allow.

`python benchmarks/rollouts.py` prints a table and writes benchmarks/results/rollouts.csv; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spo import seeds, store
from spo.policy import BACKENDS, Policy, transformer
from spo.policy.engine import Engine
from spo.policy.transformer import Geometry
from spo.settings import Architecture
from spo.types import Request, Sampling

#: Word-level tokens of the laptop study's tasks, roughly.
VOCABULARY = 230
#: No token: a random model would end responses anywhere, so their lengths are drawn here instead.
NO_EOS = -1


@dataclass(frozen=True)
class Row:
    """One line of the table: tokens a second by backend, medians, with the quartiles of what repeats differ by.

    `floor_tokens_per_s` is what the measured rate of matrix products alone would allow.
    """

    shape: str
    rows: int
    tokens: int
    engine_over_hf: float
    engine_over_floor: float
    engine_tokens_per_s: float
    engine_spread: float
    hf_tokens_per_s: float
    hf_spread: float
    floor_tokens_per_s: float


def several_samples(rng: np.random.Generator, prompts: int) -> list[Request]:
    """Four responses to each prompt: GRPO, and the trajectories of every method."""
    return [
        Request(prompt, (seeds.key("samples", p, s),), int(rng.integers(60, 140)))
        for p, prompt in enumerate(_sequence(rng, 45, 75) for _ in range(prompts))
        for s in range(4)
    ]


def monte_carlo(rng: np.random.Generator, prompts: int) -> list[Request]:
    """Five rollouts from each of five boundaries of four responses to each prompt: SPO-chain."""
    requests = []
    for r in range(4 * prompts):
        prompt, response = _sequence(rng, 45, 75), _sequence(rng, 60, 140)
        for cut in sorted(rng.choice(len(response) - 5, 5, replace=False).tolist()):
            for s in range(5):
                left = max(3, len(response) - cut + int(rng.integers(-30, 30)))
                requests.append(Request(prompt + response[:cut], (seeds.key("values", r, cut, s),), left))
    return requests


def tree_level(rng: np.random.Generator, prompts: int) -> list[Request]:
    """Four children of 40 tokens to each of eight nodes a prompt: the last level of SPO-tree."""
    nodes = (_sequence(rng, 45, 75) + _sequence(rng, 40, 41) for _ in range(8 * prompts))
    return [Request(node, tuple(seeds.key("tree", n, s) for s in range(4)), 40) for n, node in enumerate(nodes)]


SHAPES: dict[str, Callable[[np.random.Generator, int], list[Request]]] = {
    "samples": several_samples,
    "monte_carlo": monte_carlo,
    "tree": tree_level,
}


def _sequence(rng: np.random.Generator, least: int, most: int) -> tuple[int, ...]:
    return tuple(rng.integers(2, VOCABULARY, int(rng.integers(least, most))).tolist())


def write_model(folder: Path, architecture: Architecture, vocabulary: int = VOCABULARY) -> None:
    """A random model folder that both backends open."""
    config = transformer.qwen2_config(architecture, vocabulary, 1, 0)
    store.write_json(folder / "config.json", config)
    weights = transformer.initial_weights(architecture, vocabulary, 0)
    Engine(transformer.geometry(folder), weights, NO_EOS).save(folder)


def seconds(policy: Policy, requests: Sequence[Request]) -> float:
    """Of one call; the processor's time, which other programs disturb less than the clock's."""
    start = time.process_time()
    sampled = policy.sample(requests, Sampling())
    spent = time.process_time() - start
    assert all(
        len(s.response_ids) == r.max_response_tokens for r, row in zip(requests, sampled, strict=True) for s in row
    )
    return spent


def product_rate(
    architecture: Architecture, rows: int = 256, repeats: int = 200, dtype: torch.dtype = torch.float32
) -> float:
    """Operations a second in the gate product of `rows` rows, the largest of a layer; median."""
    a = torch.randn(rows, architecture.hidden_size, dtype=dtype)
    b = torch.randn(architecture.hidden_size, 2 * architecture.intermediate_size, dtype=dtype)
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        spent.append(time.perf_counter() - start)
    return 2 * a.numel() * b.shape[1] / float(np.median(spent))


def matrices(geo: Geometry, intermediate_size: int) -> int:
    """Weights that every token is multiplied with, those of the head included."""
    attention = geo.hidden_size * geo.head_size * 2 * (geo.heads + geo.kv_heads)
    return geo.layers * (attention + 3 * geo.hidden_size * intermediate_size) + geo.vocabulary_size * geo.hidden_size


def operations(geo: Geometry, intermediate_size: int, requests: Sequence[Request]) -> float:
    """Additions and multiplications to sample `requests`, prompts not counted.

    A token takes 2 a weight of every matrix it passes, and a layer 4 H E for each token of its context.

    >>> geo = Geometry(4, 1, 2, 1, 2, 10, 1e4, 1e-6, True, 64)
    >>> operations(geo, 3, [Request((1, 2), (7,), 1)])  # 2 (16 q + 16 k, v + 16 o + 36 mlp + 40 head) + 4 x 4 x 3
    296.0
    """
    weights = matrices(geo, intermediate_size)
    total = 0.0
    for request in requests:
        count, prompt = request.max_response_tokens, len(request.prompt_ids)
        contexts = count * prompt + count * (count + 1) / 2
        total += len(request.keys) * (count * 2 * weights + contexts * 4 * geo.layers * geo.heads * geo.head_size)
    return total


def measure(prompts: int, repeats: int, architecture: Architecture) -> list[Row]:
    """Backends take turns, so that whatever else the machine does meets both."""
    out = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder, architecture)
        policies = {backend: BACKENDS[backend](folder, NO_EOS) for backend in ("engine", "hf")}
        rate = product_rate(architecture)
        for shape, make in SHAPES.items():
            requests = make(np.random.default_rng(0), prompts)
            tokens = sum(len(request.keys) * request.max_response_tokens for request in requests)
            spent = np.array([[seconds(policies[b], requests) for b in ("engine", "hf")] for _ in range(repeats + 1)])[
                1:
            ]
            speed = tokens / spent
            low, middle, high = np.quantile(speed, [0.25, 0.5, 0.75], axis=0)
            floor = tokens * rate / operations(transformer.geometry(folder), architecture.intermediate_size, requests)
            out.append(
                Row(
                    shape,
                    sum(len(request.keys) for request in requests),
                    tokens,
                    float(np.median(spent[:, 1] / spent[:, 0])),
                    float(middle[0] / floor),
                    float(middle[0]),
                    float(high[0] - low[0]),
                    float(middle[1]),
                    float(high[1] - low[1]),
                    float(floor),
                )
            )
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=8, help="problems of an iteration")
    parser.add_argument("--repeats", type=int, default=5, help="measured calls of each backend, after one to warm up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rollouts.csv")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = measure(options.prompts, options.repeats, Architecture())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row.__dataclass_fields__)
        writer.writerows([round(x, 3) if isinstance(x, float) else x for x in vars(row).values()] for row in rows)
    print(
        f"{'shape':<12} {'rows':>5} {'tokens':>7} {'engine/hf':>10} {'engine/floor':>13}  tokens/s: engine, hf, floor"
    )
    for row in rows:
        ratios = f"{row.engine_over_hf:>10.2f} {row.engine_over_floor:>13.2f}"
        engine = f"{row.engine_tokens_per_s:.0f} ± {row.engine_spread:.0f}"
        hf = f"{row.hf_tokens_per_s:.0f} ± {row.hf_spread:.0f}"
        print(f"{row.shape:<12} {row.rows:>5} {row.tokens:>7} {ratios}  {engine}, {hf}, {row.floor_tokens_per_s:.0f}")


if __name__ == "__main__":
    main()
