"""A real, small world for tests: a task learnt in seconds, a tokenizer, a model folder, a run of each method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from spo import store
from spo.config import layers
from spo.policy import BACKENDS, CRITICS, Policy, transformer
from spo.policy import tokenizer as tokenizers
from spo.policy.engine import Engine
from spo.settings import (
    Accepted,
    Architecture,
    Chain,
    Critic,
    Group,
    Loss,
    Optimizer,
    Pairs,
    Partition,
    Replay,
    Train,
    Tree,
    changed,
)
from spo.training import rl
from spo.types import Problem, Sampling

ARCHITECTURE = Architecture(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=48, max_position_tokens=64)

BASE = Train(
    credit=Group(samples_per_problem=4),
    problems_per_iteration=4,
    iterations=4,
    sampling=Sampling(),
    context_tokens=20,
    max_response_tokens=10,
    batch_episodes=8,
    optimizer=Optimizer(lr=1e-3),
    loss=Loss(kl_coefficient=1e-3),
    unfinished_reward="graded",
    validate_every=2,
    validation_problems=8,
    checkpoint_every=1,
)
MASKED = replace(BASE.loss, probability_mask=0.9)
CHAIN = Chain(samples_per_problem=2, partition=Partition(interval=2), rollouts_per_cut=3)
TREE = Tree(branches=(2, 2, 2), segment_tokens=3, episodes_per_iteration=12, replay=Replay(max_per_problem=4))
#: A setting of each method, small enough for tests
METHODS = {
    "group": BASE,
    "chain": replace(BASE, credit=CHAIN, loss=MASKED),
    "tree": replace(BASE, credit=TREE, loss=MASKED),
    "critic": replace(BASE, credit=Critic(samples_per_problem=4, lam=0.95), epochs=2),
    "accepted": replace(BASE, credit=Accepted(samples_per_problem=4, keep_per_problem=3), epochs=2),
    "pairs": replace(BASE, credit=Pairs(samples_per_problem=4, pairs_per_problem=3)),
    "policy_iteration": replace(BASE, loss=replace(BASE.loss, objective="policy_iteration")),
}


def problems(count: int = 40) -> list[Problem]:
    """Three digits; a good response names the last of them."""
    rows = [(f"{i % 10} {(3 * i + 1) % 10} {(7 * i + 2) % 10}", (7 * i + 2) % 10) for i in range(count)]
    return [Problem(f"t{i}", f"Digits: {text}.", str(answer)) for i, (text, answer) in enumerate(rows)]


#: The only run of `study`
RUN = "tiny-digits-m-s1"


def study(folder: Path, train: Train = BASE, model: str | Path = "model", **parts: object) -> Path:
    """Write a study with one run of the model `model`, and its data; return its config file.

    `parts` are further keys of the config. Paths of the study are relative to `folder`.
    """
    settings = changed(train)
    credit, _ = settings.pop("credit"), settings.pop("seed", None)
    experiment = {"model": "tiny", "dataset": "digits", "methods": ["m"], "seeds": [train.seed], "contexts": [20]}
    whole = {
        "datasets": {"digits": {"source": "stories", "grader": "final_line", "train": 30, "test": 6}},
        "models": {"tiny": {"path": str(model)}},
        "protocols": {"greedy": {}},
        "training": settings,
        "methods": {"m": {"label": "M", "train": {"credit": credit}}},
        "experiments": {"e": experiment | {"protocols": ["greedy"]}},
    }
    store.write_text(folder / "study.yaml", json.dumps(layers.merge(whole, parts)))
    for split, rows in (("train", problems()[:30]), ("validation", problems()[30:]), ("test", problems(6))):
        if not (folder / f"results/data/digits/{split}.jsonl").exists():
            store.write_jsonl(folder / f"results/data/digits/{split}.jsonl", rows)
    return folder / "study.yaml"


def model(folder: Path, seed: int = 0, scale: float = 4.0) -> Path:
    """A random model whose distributions are far from uniform (weights scaled up), with its tokenizer."""
    torch.set_num_threads(1)
    tokenizer = tokenizers.build_words([f"{problem.question}\n" for problem in problems()])
    tokenizers.save(tokenizer, folder)
    config = transformer.model_config(ARCHITECTURE, tokenizer.vocabulary_size, tokenizer.eos_id, tokenizer.pad_id)
    (folder / "config.json").write_text(json.dumps(config))
    weights = transformer.initial_weights(ARCHITECTURE, tokenizer.vocabulary_size, seed)
    weights = {name: w * scale if w.ndim == 2 else w for name, w in weights.items()}
    Engine(transformer.geometry(folder), weights, tokenizer.end_ids, folder).save(folder)
    return folder


def train(settings: Train, folder: Path, state: Path, reward=None) -> Policy:
    """A run on the tiny task, by default with reward 1 for a response in which the right digit occurs."""
    tokenizer = tokenizers.load(folder)
    opened = BACKENDS[settings.backend]
    policy = opened(folder, tokenizer.end_ids, settings.dtype, settings.memory)
    reference = critic = None
    if rl.opens_reference(settings):
        reference = opened(folder, tokenizer.end_ids, settings.dtype, settings.memory, parked=True)
    if settings.credit.kind == "critic":
        critic = CRITICS[settings.backend](folder, settings.seed, settings.dtype, settings.memory)
    rows = problems()
    rl.run(
        name="tiny",
        settings=settings,
        fingerprint={"lr": settings.optimizer.lr, "iterations": settings.iterations},
        train=rows[:30],
        validation=rows[30:],
        policy=policy,
        reference=reference,
        encode=encoder(folder),
        reward=reward or (lambda problem, ids, finished: float(problem.answer in tokenizer.decode(ids))),
        pieces=lambda ids: [""] * len(ids),
        state=state,
        critic=critic,
    )
    return policy


def encoder(folder: Path):
    """Problem -> prompt ids."""
    tokenizer = tokenizers.load(folder)
    return lambda problem: tokenizer.encode(problem.question + "\n")
