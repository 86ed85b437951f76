"""How fast training steps are, in the shapes that methods train on: ours, TRL's, and what products alone would take.

`python benchmarks/training.py` prints a table and writes benchmarks/results/training.csv; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tables
import torch
from floor import matrices, product_rate
from rollouts import write_model

from spo import prefixes
from spo.batching import collate, micro_batches, take
from spo.policy import BACKENDS, transformer
from spo.policy.engine import Engine
from spo.settings import Architecture, Group, Loss, Optimizer, Train
from spo.training.descent import Descent
from spo.training.optimize import OBJECTIVES
from spo.types import Episode, Sampling

#: So small a rate that every repeat meets the same weights; a step's work does not depend on it.
RATE = 1e-12
#: Tokens of a forward pass, padded or distinct, as in the laptop study: larger ones are slower on a CPU.
PASS_TOKENS = 2048

#: One optimizer step on Episodes; returns the norm of the gradient.
Step = Callable[[Sequence[Episode]], float]


@dataclass(frozen=True)
class Row:
    """One line of the table: what a step takes one way. Ratios are medians over the repeats, seconds are of processor
    time, ± the distance between the quartiles; the floor is that of the way's dtype, on distinct tokens."""

    shape: str
    way: str
    dtype: str
    trl_over_this: float
    padded_over_this: float
    floor_over_this: float
    seconds: float
    spread: float
    floor_seconds: float
    rows: int
    padded_tokens: int
    distinct_tokens: int
    distinct_share: float


def responses(prompts: int, samples: int, prompt: tuple[int, int], response: tuple[int, int]) -> Callable:
    """`samples` responses to each of `prompts` prompts, of any length in the ranges."""

    def rows(rng: np.random.Generator, vocabulary: int) -> list[Episode]:
        starts = [_tokens(rng, prompt, vocabulary) for _ in range(prompts)]
        return [_episode(start, _tokens(rng, response, vocabulary), rng) for start in starts for _ in range(samples)]

    return rows


def tree(prompts: int, branches: Sequence[int], segment: int, leaf: tuple[int, int], most: int | None) -> Callable:
    """The nodes of a tree a prompt of 60 tokens, one Episode each, or `most` of all of them drawn at random."""

    def rows(rng: np.random.Generator, vocabulary: int) -> list[Episode]:
        nodes, episodes = [_tokens(rng, (60, 61), vocabulary) for _ in range(prompts)], []
        for level, count in enumerate(branches):
            span = leaf if level == len(branches) - 1 else (segment, segment + 1)
            pairs = [(node, _tokens(rng, span, vocabulary)) for node in nodes for _ in range(count)]
            episodes += [_episode(*pair, rng) for pair in pairs]
            nodes = [start + more for start, more in pairs]
        return [episodes[i] for i in rng.permutation(len(episodes))[:most]]

    return rows


SHAPES: dict[str, Callable[[np.random.Generator, int], list[Episode]]] = {
    "trl": responses(16, 8, (64, 65), (64, 65)),
    "grpo": responses(4, 4, (45, 76), (60, 161)),
    "tree_444": tree(2, (4, 4, 4), 40, (30, 91), most=32),
    "tree_666": tree(1, (6, 6, 6), 30, (40, 81), most=None),
}


def _tokens(rng: np.random.Generator, span: tuple[int, int], vocabulary: int) -> tuple[int, ...]:
    return tuple(rng.integers(2, vocabulary, int(rng.integers(*span))).tolist())


def _episode(prompt: tuple[int, ...], response: tuple[int, ...], rng: np.random.Generator) -> Episode:
    advantage = float(rng.normal())
    return Episode("p", prompt, response, (-4.0,) * len(response), (advantage,) * len(response))


class Padded:
    """The plain way: every token of every row, and padding."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def weights(self) -> transformer.Weights:
        return self.engine.weights()

    def token_logprobs(self, input_ids: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        weights = {name: weight.to(self.engine.train_dtype) for name, weight in self.engine.weights().items()}
        ids, width = input_ids.clamp(min=0), input_ids.shape[1] - 1
        inputs = torch.nn.functional.pad(ids[:, :-1], (0, -width % self.engine.round_to))
        hidden, _ = transformer.forward(weights, self.engine.geometry, inputs)
        scaled = transformer.logits(weights, self.engine.geometry, hidden[:, :width]) / temperature
        logprobs = torch.log_softmax(scaled, dim=-1)
        entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(dim=-1)
        return logprobs.gather(-1, ids[:, 1:, None]).squeeze(-1), entropy


def ours(policy, padded: bool = False) -> Step:
    """A step of the clipped objective without KL term."""
    settings = Train(
        credit=Group(samples_per_problem=4),
        problems_per_iteration=4,
        iterations=1,
        sampling=Sampling(),
        context_tokens=256,
        max_response_tokens=128,
        batch_episodes=16,
        optimizer=Optimizer(lr=RATE, micro_batch_tokens=PASS_TOKENS),
        loss=Loss(kl_coefficient=0.0),
    )
    descent = Descent(policy.weights(), settings.optimizer, 10**6)

    def step(episodes: Sequence[Episode]) -> float:
        plan = OBJECTIVES["clipped"].plan(collate(episodes, prefixes.PADDING_ID), settings)
        for rows in padded_passes(episodes) if padded else plan.groups:
            part = take(plan.batch, rows)
            logprobs, _ = policy.token_logprobs(part.input_ids, plan.temperature)
            plan.loss(logprobs, part).loss.backward()
        return descent.step()[0]

    return step


def padded_passes(episodes: Sequence[Episode]) -> list[tuple[int, ...]]:
    return micro_batches([len(e.prompt_ids) + len(e.response_ids) for e in episodes], PASS_TOKENS)


def trl_step(folder: Path, low: bool) -> Step:
    """`GRPOTrainer`'s own loss on the same tokens, backward pass and the same optimizer; rows of like length together.

    Nobody generates. bfloat16 is autocast's, as its option `bf16` has it.
    """
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    options = {"use_cpu": True, "report_to": [], "bf16": False, "gradient_checkpointing": False, "beta": 0.0}
    trainer = trl.GRPOTrainer(
        args=trl.GRPOConfig(str(folder), num_generations=2, per_device_train_batch_size=2, loss_type="bnpo", **options),
        model=model,
        processing_class=_tokenizer(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 2),
    )
    model.train()
    trainer.current_gradient_accumulation_steps = 1
    descent = Descent(dict(model.named_parameters()), Optimizer(lr=RATE), 10**6)

    def step(episodes: Sequence[Episode]) -> float:
        groups = padded_passes(episodes)
        for rows in groups:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = trainer._compute_loss(model, _inputs([episodes[i] for i in rows]))
            (loss / len(groups)).backward()
        return descent.step()[0]

    return step


def _inputs(episodes: Sequence[Episode]) -> dict[str, torch.Tensor]:
    """As TRL has them: prompts padded on the left, responses on the right."""
    prompts = prefixes.pad([episode.prompt_ids[::-1] for episode in episodes])[:, ::-1].copy()
    completions = prefixes.pad([episode.response_ids for episode in episodes])
    names = {"prompt": torch.from_numpy(prompts), "completion": torch.from_numpy(completions)}
    return {
        **{f"{name}_ids": ids.clamp(min=0) for name, ids in names.items()},
        **{f"{name}_mask": (ids != prefixes.PADDING_ID).long() for name, ids in names.items()},
        "advantages": torch.tensor([episode.advantages[0] for episode in episodes]),
    }


def _tokenizer():
    """TRL wants one; it is never asked."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "a": 2}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>")


#: way, dtype -> a step of the model in a folder
WAYS: dict[tuple[str, str], Callable[[Path], Step]] = {
    ("trl", "float32"): lambda folder: trl_step(folder, low=False),
    ("trl", "bfloat16"): lambda folder: trl_step(folder, low=True),
    ("padded", "float32"): lambda folder: ours(Padded(Engine.open(folder, -1)), padded=True),
    ("padded", "bfloat16"): lambda folder: ours(Padded(Engine.open(folder, -1, "bfloat16")), padded=True),
    ("hf", "float32"): lambda folder: ours(BACKENDS["hf"](folder, -1)),
    ("engine", "float32"): lambda folder: ours(Engine.open(folder, -1)),
    ("engine", "bfloat16"): lambda folder: ours(Engine.open(folder, -1, "bfloat16")),
}


def operations(folder: Path, intermediate_size: int, contexts: Sequence[int]) -> float:
    """Additions and multiplications of a step on distinct tokens that attend to so many: twice as many backward as
    forward."""
    geo = transformer.geometry(folder)
    per_token = 2 * matrices(geo, intermediate_size)
    return 3.0 * sum(per_token + 4 * geo.layers * geo.heads * geo.head_size * context for context in contexts)


def measure(shapes: Sequence[str], repeats: int, architecture: Architecture, vocabulary: int) -> list[Row]:
    """Ways take turns on the same Episodes, so that whatever else the machine does meets all; every turn has new
    Episodes, as every step of a run has, because kernels are compiled for shapes that they have not met."""
    out = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder, architecture, vocabulary)
        steps = {key: way(folder) for key, way in WAYS.items()}
        for shape in shapes:
            spent: dict[tuple[str, str], list[float]] = {key: [] for key in WAYS}
            drawn = [SHAPES[shape](np.random.default_rng(i), vocabulary) for i in range(repeats + 1)]
            for episodes in drawn:
                norms = {}
                for key, step in steps.items():
                    start = time.process_time()
                    norms[key] = step(episodes)
                    spent[key].append(time.process_time() - start)
                exact = [norm for (way, dtype), norm in norms.items() if way != "trl" and dtype == "float32"]
                assert max(exact) - min(exact) < 1e-4 * max(exact), f"all of ours have one gradient: {norms}"
            measured = {key: np.array(seconds[1:]) for key, seconds in spent.items()}
            out += _rows(shape, folder, drawn[1:], measured, architecture)
    return out


def _rows(
    shape: str,
    folder: Path,
    drawn: Sequence[Sequence[Episode]],
    spent: dict[tuple[str, str], np.ndarray],
    architecture: Architecture,
) -> list[Row]:
    """Numbers of tokens are means over the steps."""
    padded, distinct, work = np.zeros(len(drawn)), np.zeros(len(drawn)), np.zeros(len(drawn))
    for i, episodes in enumerate(drawn):
        rows = [episode.prompt_ids + episode.response_ids for episode in episodes]
        contexts = [len(prefix) for prefix in {row[:end] for row in rows for end in range(1, len(row))}]
        padded[i] = sum(len(group) * (max(len(rows[r]) for r in group) - 1) for group in padded_passes(episodes))
        distinct[i], work[i] = len(contexts), operations(folder, architecture.intermediate_size, contexts)
    out = []
    for (way, dtype), seconds in spent.items():
        low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        floor = work / product_rate(architecture, dtype=getattr(torch, dtype))
        ratios = (float(np.median(over / seconds)) for over in (spent["trl", dtype], spent["padded", dtype], floor))
        timing = (float(x) for x in (middle, high - low, np.median(floor)))
        counts = (len(drawn[0]), int(padded.mean()), int(distinct.mean()), float(distinct.mean() / padded.mean()))
        out.append(Row(shape, way, dtype, *ratios, *timing, *counts))
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--repeats", type=int, default=5, help="measured steps of each way, after one to warm up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "training.csv")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    table = measure(options.shapes, options.repeats, Architecture(), options.vocabulary)
    tables.write(options.output, table)
    print(f"{'shape':<9} {'way':<7} {'dtype':<9} {'trl/this':>8} {'padded/this':>11} {'floor/this':>10}  seconds")
    for row in table:
        ratios = f"{row.trl_over_this:>8.2f} {row.padded_over_this:>11.2f} {row.floor_over_this:>10.2f}"
        print(f"{row.shape:<9} {row.way:<7} {row.dtype:<9} {ratios}  {row.seconds:.3f} ± {row.spread:.3f}")
    for row in table:
        if row.way == "engine" and row.dtype == "float32":
            counts = f"{row.distinct_tokens} distinct of {row.padded_tokens} tokens ({row.distinct_share:.0%})"
            print(f"{row.shape}: {row.rows} rows, {counts}")


if __name__ == "__main__":
    main()
