"""Peak memory and speed of a training step at the paper's size, for each way to make a model fit into a GPU.

`python benchmarks/memory.py` prints a table and writes benchmarks/results/memory.csv; it needs a GPU. `--plan` prints
what parameter counts alone say and needs none, `--tiny` runs the same code on a small model; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import gc
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from spo.errors import RunFailure, short_of_memory
from spo.policy.hf import HfPolicy
from spo.settings import Group, Loss, Memory, Optimizer, Train
from spo.training.descent import Descent
from spo.training.optimize import policy_step
from spo.types import Episode

GIB = 2**30
#: Geometries of Rho-1B and TinyLlama, of Qwen2.5-1.5B and R1-Distill-Qwen, and of DeepSeekMath-7B.
MODELS = {
    "llama-1.1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
    },
    "qwen-1.5b": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "llama-7b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 30,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 102400,
    },
}
TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}
#: Ways to make a model fit, by name.
WAYS = {
    "float32": Memory(),
    "float32, recomputed": Memory(gradient_checkpointing=True),
    "bfloat16": Memory(weights="bfloat16"),
    "bfloat16, recomputed": Memory(weights="bfloat16", gradient_checkpointing=True),
    "bfloat16, recomputed, optimizer on cpu": Memory(
        weights="bfloat16", gradient_checkpointing=True, optimizer_device="cpu"
    ),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: medians, with the distance between the quartiles of the repeats; 0 where it did not fit.

    `state_gib`: weights, gradients and moments on the model's device, from the parameter count.
    """

    model: str
    way: str
    context_tokens: int
    step_tokens: int
    state_gib: float
    peak_gib: float
    tokens_per_s: float
    spread: float


def state_bytes(parameters: int, memory: Memory) -> tuple[int, int]:
    """Bytes of weights, gradients and moments that stay: (on the model's device, on the processor beside it).

    float32: weights 4, gradients 4, two moments 8. bfloat16: 2 more for what is computed with. Autocast makes copies of
    2 bytes a weight as well, during a pass. The reference is elsewhere but while it scores, when it has 4 or 2.

    >>> state_bytes(10, Memory()), state_bytes(10, Memory(weights="bfloat16", optimizer_device="cpu"))
    ((160, 0), (20, 160))
    """
    low = memory.weights == "bfloat16"
    if memory.optimizer_device == "cpu":
        return parameters * (2 if low else 4), parameters * 16
    return parameters * (18 if low else 16), 0


def build(geometry: dict, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """A model with random weights, made where it will be; `meta` only counts."""
    from transformers import AutoConfig, AutoModelForCausalLM

    options = dict(geometry)
    config = AutoConfig.for_model(options.pop("model_type"), max_position_embeddings=8192, **options)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def parameters(geometry: dict) -> int:
    return sum(weight.numel() for weight in build(geometry, torch.float32, "meta").parameters())


def episodes(rng: np.random.Generator, count: int, context_tokens: int, vocabulary: int) -> list[Episode]:
    """Responses that fill the context but for a short prompt."""
    prompt = min(128, context_tokens // 4)
    length = context_tokens - prompt
    return [
        Episode(
            f"p{i}",
            tuple(rng.integers(vocabulary, size=prompt).tolist()),
            tuple(rng.integers(vocabulary, size=length).tolist()),
            (-1.0,) * length,
            (1.0 if i % 2 else -1.0,) * length,
        )
        for i in range(count)
    ]


def measure(name: str, way: str, context_tokens: int, step_tokens: int, repeats: int) -> Row:
    """Optimizer steps of `step_tokens`, in micro-batches of 16,384; the first is not timed, but its peak counts."""
    geometry, memory = MODELS.get(name, TINY), WAYS[way]
    low = memory.weights == "bfloat16"
    train = Train(
        credit=Group(),
        loss=Loss(kl_coefficient=0.0),
        optimizer=Optimizer(micro_batch_tokens=min(16384, step_tokens)),
        dtype="bfloat16",
        memory=memory,
    )
    on_gpu = torch.cuda.is_available()
    state = state_bytes(parameters(geometry), memory)[0] / GIB
    nothing = Row(name, way, context_tokens, step_tokens, state, 0.0, 0.0, 0.0)
    try:
        with short_of_memory("nothing"):
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            model = build(geometry, torch.bfloat16 if low else torch.float32, "cuda" if on_gpu else "cpu")
            policy = HfPolicy(model, 1, Path("random"), train.dtype, memory)
            descent = Descent(policy.weights(), train.optimizer, 100, memory.optimizer_device)
            rng = np.random.default_rng(0)
            batch = episodes(rng, max(1, step_tokens // context_tokens), context_tokens, geometry["vocab_size"])
            spent = []
            for _ in range(repeats + 1):
                start = time.perf_counter()
                policy_step(policy, descent, batch, None, train, "clipped")  # reads its sums, so the GPU is done
                spent.append(time.perf_counter() - start)
    except RunFailure:
        return nothing
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    low, middle, high = np.quantile(len(batch) * context_tokens / np.array(spent[1:]), [0.25, 0.5, 0.75])
    return replace(nothing, peak_gib=peak / GIB, tokens_per_s=float(middle), spread=float(high - low))


def plan() -> None:
    """What stays in memory, from parameter counts."""
    print(f"{'model':<12} {'parameters':>13}  GiB that stay on the GPU, and in the processor's memory")
    for name, geometry in MODELS.items():
        count = parameters(geometry)
        for way in ("float32", "bfloat16", "bfloat16, recomputed, optimizer on cpu"):
            gpu, cpu = (size / GIB for size in state_bytes(count, WAYS[way]))
            print(f"{name:<12} {count:>13,}  {gpu:6.1f} {cpu:6.1f}  {way.replace(' recomputed,', '')}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["llama-1.1b", "qwen-1.5b"])
    parser.add_argument("--contexts", type=int, nargs="+", default=[2048, 4096], metavar="TOKENS")
    parser.add_argument("--step-tokens", type=int, default=65536, help="tokens of an optimizer step")
    parser.add_argument("--repeats", type=int, default=3, help="measured steps, after one to warm up")
    parser.add_argument("--plan", action="store_true", help="what parameter counts say, without a GPU")
    parser.add_argument("--tiny", action="store_true", help="a small model, on a processor too: to test this file")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "memory.csv")
    options = parser.parse_args(arguments)
    if options.plan:
        plan()
        return 0
    if options.tiny:
        options.models, options.contexts, options.step_tokens = ["tiny"], [64, 128], 256
    elif not torch.cuda.is_available():
        print("memory.py: PyTorch finds no GPU here; --plan and --tiny need none", file=sys.stderr)
        return 2
    options.output.parent.mkdir(parents=True, exist_ok=True)
    print(f"{'model':<12} {'context':>7} {'state':>7} {'peak GiB':>9} {'tokens/s':>16}  way")
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row.__dataclass_fields__)
        for name in options.models:
            for context_tokens in options.contexts:
                for way in WAYS:
                    row = measure(name, way, context_tokens, options.step_tokens, options.repeats)
                    gc.collect()
                    if torch.cuda.is_available():
                        torch.cuda.empty_cache()
                    writer.writerow(round(x, 3) if isinstance(x, float) else x for x in vars(row).values())
                    speed = f"{row.tokens_per_s:.0f} ± {row.spread:.0f}" if row.peak_gib else "does not fit"
                    print(
                        f"{name:<12} {context_tokens:>7} {row.state_gib:>7.1f} {row.peak_gib:>9.2f} {speed:>16}  {way}"
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
