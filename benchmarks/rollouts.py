"""How fast responses are sampled, in the shapes in which methods ask: by us, by others, and at best.

`python benchmarks/rollouts.py` prints a table and writes benchmarks/results/rollouts.csv; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tables
import torch
from floor import BATCH_BYTES, best_product_rate, least, matrices, read_rate

from spo import seeds, store
from spo.errors import UserError
from spo.policy import BACKENDS, compiled, transformer
from spo.policy.engine import Engine
from spo.settings import Architecture
from spo.types import Request, Sampling

#: Word-level tokens of the laptop study's tasks, roughly.
VOCABULARY = 230
#: The end of a response, which `endless` makes impossible: a random model would end anywhere, so that lengths are drawn
#: here instead.
EOS = 1
#: Rows of a batch of `generate`; with more, copying its cache at every step takes longer than it saves.
GENERATE_ROWS = 256

Ids = tuple[int, ...]
#: Responses of the asked length, one list a request.
Sampled = list[list[Ids]]


@dataclass(frozen=True)
class Way:
    """A way to sample; `renew` changes the weights a little, after which nothing that was computed is of use."""

    sample: Callable[[Sequence[Request]], Sampled]
    renew: Callable[[], None]


@dataclass(frozen=True)
class Row:
    """One line of the table: tokens a second of processor time by one way, medians with quartiles, and what that is to
    others; None where a way is not installed. `prompts_share` of the time passes before the second token of any row."""

    shape: str
    way: str
    rows: int
    tokens: int
    engine_over_this: float | None
    this_over_floor: float | None
    tokens_per_s: float | None
    first_quartile: float | None
    third_quartile: float | None
    prompts_share: float | None
    note: str = ""


def several_samples(rng: np.random.Generator, prompts: int, sample: Callable[[Sequence[Request]], Sampled]):
    """Four responses to each prompt: GRPO, and the trajectories of every method."""
    return [
        Request(prompt, (seeds.key("samples", p, s),), int(rng.integers(60, 140)))
        for p, prompt in enumerate(_sequence(rng, 45, 75) for _ in range(prompts))
        for s in range(4)
    ]


def monte_carlo(rng: np.random.Generator, prompts: int, sample: Callable[[Sequence[Request]], Sampled]):
    """Five rollouts from each of five boundaries of these responses, just sampled: SPO-chain."""
    asked = several_samples(rng, prompts, sample)
    requests = []
    for r, (request, (response,)) in enumerate(zip(asked, sample(asked), strict=True)):
        for cut in sorted(rng.choice(len(response) - 5, 5, replace=False).tolist()):
            for s in range(5):
                left = max(3, len(response) - cut + int(rng.integers(-30, 30)))
                requests.append(Request(request.prompt_ids + response[:cut], (seeds.key("values", r, cut, s),), left))
    return requests


def tree_level(rng: np.random.Generator, prompts: int, sample: Callable[[Sequence[Request]], Sampled]):
    """Four children of 40 tokens to each of eight nodes a prompt, just sampled: the last level of SPO-tree, 2-4-4."""
    nodes = [_sequence(rng, 45, 75) for _ in range(prompts)]
    for level, branches in enumerate((2, 4, 4)):
        keys = [tuple(seeds.key("tree", level, n, s) for s in range(branches)) for n in range(len(nodes))]
        requests = [Request(node, key, 40) for node, key in zip(nodes, keys, strict=True)]
        if level < 2:
            sampled = zip(nodes, sample(requests), strict=True)
            nodes = [node + response for node, responses in sampled for response in responses]
    return requests


SHAPES: dict[str, Callable] = {"samples": several_samples, "monte_carlo": monte_carlo, "tree": tree_level}


def _sequence(rng: np.random.Generator, shortest: int, most: int) -> Ids:
    return tuple(rng.integers(2, VOCABULARY, int(rng.integers(shortest, most))).tolist())


def _anything(requests: Sequence[Request]) -> Sampled:
    """What nobody sampled, of the right lengths."""
    rng = np.random.default_rng(0)
    return [[_sequence(rng, r.max_response_tokens, r.max_response_tokens + 1) for _ in r.keys] for r in requests]


def write_model(folder: Path, architecture: Architecture, vocabulary: int = VOCABULARY) -> None:
    """A random model folder that every way opens."""
    config = transformer.model_config(architecture, vocabulary, 1, 0)
    store.write_json(folder / "config.json", config)
    weights = transformer.initial_weights(architecture, vocabulary, 0)
    Engine(transformer.geometry(folder), weights, EOS).save(folder)


def endless(folder: Path) -> None:
    """Change a model so that it never draws `EOS`: one number of every hidden state is always the same, positive, and
    the end's embedding, which a tied head multiplies with, has a negative one there."""
    policy = BACKENDS["engine"](folder, EOS)
    with torch.no_grad():
        for name, weight in policy.weights().items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[0] = 0.0
        policy.weights()["model.embed_tokens.weight"][:, 0] = 0.05
        policy.weights()["model.embed_tokens.weight"][EOS, 0] = -30.0
    policy.save(folder)


def _backend(name: str, sampler: str = "auto") -> Callable[[Path], Way]:
    def opened(folder: Path) -> Way:
        policy = BACKENDS[name](folder, EOS)
        os.environ["SPO_SAMPLER"] = sampler
        if name == "engine":
            compiled.kernels(policy.geometry)

        def sample(requests: Sequence[Request]) -> Sampled:
            os.environ["SPO_SAMPLER"] = sampler
            return [[s.response_ids for s in row] for row in policy.sample(requests, Sampling())]

        def renew() -> None:
            with torch.no_grad():
                policy.weights()["model.norm.weight"].mul_(1.0001)

        return Way(sample, renew)

    return opened


def _generate(folder: Path) -> Way:
    """`generate` of transformers as trainers call it: left-padded, every prompt as often as it has samples."""
    from transformers import AutoModelForCausalLM, StoppingCriteria

    class Lengths(StoppingCriteria):
        """Every row has a length of its own."""

        def __init__(self, ends: torch.Tensor) -> None:
            self.ends = ends

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            return input_ids.shape[1] >= self.ends

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    def sample(requests: Sequence[Request]) -> Sampled:
        jobs = sorted((len(r.prompt_ids), n, s) for n, r in enumerate(requests) for s in range(len(r.keys)))
        out: Sampled = [[()] * len(r.keys) for r in requests]
        for start in range(0, len(jobs), GENERATE_ROWS):
            batch = [(requests[n], n, s) for _, n, s in jobs[start : start + GENERATE_ROWS]]
            longest = max(len(r.prompt_ids) for r, _, _ in batch)
            padding = [longest - len(r.prompt_ids) for r, _, _ in batch]
            ids = torch.tensor([(0,) * pad + r.prompt_ids for pad, (r, _, _) in zip(padding, batch, strict=True)])
            ends = torch.tensor([longest + r.max_response_tokens for r, _, _ in batch])
            found = model.generate(
                ids,
                attention_mask=(torch.arange(longest) >= torch.tensor(padding)[:, None]).long(),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_length=int(ends.max()),
                pad_token_id=0,
                stopping_criteria=[Lengths(ends)],
            )
            for row, end, (_, n, s) in zip(found.tolist(), ends.tolist(), batch, strict=True):
                out[n][s] = tuple(row[longest:end])
        return out

    return Way(sample, lambda: None)


#: name -> opener(model folder); UserError where it cannot be had
WAYS: dict[str, Callable[[Path], Way]] = {
    "engine": _backend("engine", "compiled"),
    "engine_plain": _backend("engine", "plain"),
    "hf": _backend("hf"),
    "generate": _generate,
    "vllm": _backend("vllm"),
}


def seconds(way: Way, requests: Sequence[Request]) -> float:
    """Of one call; the processor's time, which other programs disturb less than the clock's."""
    start = time.process_time()
    sampled = way.sample(requests)
    spent = time.process_time() - start
    for request, row in zip(requests, sampled, strict=True):
        assert all(len(ids) == request.max_response_tokens for ids in row)
    return spent


def turn(way: Way, shape: str, prompts: int) -> tuple[float, float]:
    """Seconds of one call with new weights, after the calls that come before it with the same ones; and of one like it
    that asks for no second token."""
    spent = []
    for first_only in (False, True):
        way.renew()
        requests = SHAPES[shape](np.random.default_rng(0), prompts, way.sample)
        if first_only:
            requests = [Request(r.prompt_ids, r.keys, 1) for r in requests]
        spent.append(seconds(way, requests))
    return spent[0], spent[1]


def measure(prompts: int, repeats: int, architecture: Architecture, names: Sequence[str]) -> list[Row]:
    """Ways take turns, so that whatever else the machine does meets all alike."""
    ways, notes, out = {}, {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder, architecture)
        endless(folder)
        for way in names:
            try:
                ways[way] = WAYS[way](folder)
            except UserError as error:
                notes[way] = "not installed" if "not installed" in str(error) else str(error)
        geo = transformer.geometry(folder)
        for shape, make in SHAPES.items():
            spent = np.array([[turn(way, shape, prompts) for way in ways.values()] for _ in range(repeats + 1)])[1:]
            requests = make(np.random.default_rng(0), prompts, _anything)
            tokens = sum(len(request.keys) * request.max_response_tokens for request in requests)
            weights_bytes = 4 * matrices(geo, architecture.intermediate_size)
            rates = best_product_rate(architecture), read_rate(weights_bytes), read_rate(BATCH_BYTES)
            floor = tokens / least(geo, architecture.intermediate_size, requests).seconds(*rates)
            fast = "{:.0f} G operations/s, reads weights at {:.0f} GB/s, the rest at {:.0f}"
            print(f"{shape}: the core does", fast.format(*(rate / 1e9 for rate in rates)), flush=True)
            size = sum(len(request.keys) for request in requests), tokens
            for i, way in enumerate(ways):
                low, middle, high = (tokens / np.quantile(spent[:, i, 0], [0.75, 0.5, 0.25])).tolist()
                times = float(np.median(spent[:, i, 0] / spent[:, 0, 0]))
                share = float(np.median(spent[:, i, 1] / spent[:, i, 0]))
                out.append(Row(shape, way, *size, times, middle / floor, middle, low, high, share))
            times = float(np.median(tokens / spent[:, 0, 0] / floor))
            out.append(Row(shape, "floor", *size, times, 1.0, floor, floor, floor, 0.0))
            out += [Row(shape, way, *size, *(None,) * 6, note) for way, note in notes.items()]
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=8, help="problems of an iteration")
    parser.add_argument("--repeats", type=int, default=5, help="measured calls of each way, after one to warm up")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ratios are to the first of them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rollouts.csv")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    table = measure(options.prompts, options.repeats, Architecture(), options.ways)
    tables.write(options.output, table)
    print(f"{'shape':<12} {'way':<13} {'engine/this':>11} {'this/floor':>10}  {'tokens/s (quartiles)':<24} prompts")
    for row in table:
        numbers = row.note
        if not row.note:
            speed = f"{row.tokens_per_s:.0f} ({row.first_quartile:.0f} to {row.third_quartile:.0f})"
            numbers = f"{row.engine_over_this:>11.2f} {row.this_over_floor:>10.2f}  {speed:<24} {row.prompts_share:.2f}"
        print(f"{row.shape:<12} {row.way:<13} {numbers}")


if __name__ == "__main__":
    main()
