"""What each verb of `python -m spo` does: reads files, opens models, hands them to the rooms, writes files.

The only module that knows all rooms. Imports stand inside the functions, since torch and transformers cost seconds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from spo import wiring


def prepare(options: argparse.Namespace) -> None:
    """Problems and demonstrations of a dataset, checked, as JSON lines."""
    from spo import data

    data.prepare(options.name, options.settings, options.output)


def sft(options: argparse.Namespace) -> None:
    """A base model from random weights and demonstrations."""
    from spo import store
    from spo.errors import UserError
    from spo.policy import tokenizer as tokenizers
    from spo.policy import transformer
    from spo.policy.card import model_card
    from spo.policy.engine import Engine
    from spo.training import sft as training

    settings, dataset = options.settings, options.dataset
    rows = store.read_jsonl(options.data / "demonstrations.jsonl", required=("question", "response"))
    if not rows:
        raise UserError(
            f"{options.data / 'demonstrations.jsonl'}: none; set datasets.{settings.sft.dataset}.demonstrations"
        )
    prompts = [wiring.rendered(dataset, row["question"]) for row in rows]
    texts = [*prompts, *(row["response"] for row in rows)]
    if settings.tokenizer.kind == "words":
        for split in ("train", "validation", "test"):
            others = store.read_jsonl(options.data / f"{split}.jsonl")
            texts += [wiring.rendered(dataset, row["question"]) for row in others]
        tokenizer = tokenizers.build_words(texts)
    else:
        tokenizer = tokenizers.build_bpe(texts, settings.tokenizer.vocabulary_size, settings.tokenizer.special_tokens)

    start = options.state / "start"
    tokenizers.save(tokenizer, start)
    config = transformer.model_config(
        settings.architecture, tokenizer.vocabulary_size, tokenizer.eos_id, tokenizer.pad_id
    )
    store.write_json(start / "config.json", config)
    store.write_json(
        start / "generation_config.json",
        {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id, "do_sample": False},
    )
    weights = transformer.initial_weights(settings.architecture, tokenizer.vocabulary_size, settings.sft.seed)
    policy = Engine(transformer.geometry(start), weights, tokenizer.end_ids, start)
    policy.train_in(settings.sft.dtype)
    encoded = zip(tokenizer.encode_many(prompts), tokenizer.encode_many([row["response"] for row in rows]), strict=True)
    examples = [(prompt, (*response, tokenizer.eos_id)) for prompt, response in encoded]
    limit = settings.architecture.max_position_tokens
    kept = [example for example in examples if len(example[0]) + len(example[1]) <= limit]
    if not kept:
        shortest = min((len(prompt) + len(response) for prompt, response in examples), default=0)
        raise UserError(
            f"models.{options.name}.architecture.max_position_tokens: {limit}, but the shortest demonstration of "
            f"{settings.sft.dataset} has {shortest} tokens"
        )
    if len(kept) < len(examples):
        print(
            f"{options.name}: {len(examples) - len(kept)} demonstrations longer than {limit} tokens left out",
            flush=True,
        )

    training.run(
        name=options.name,
        settings=settings.sft,
        fingerprint={
            "model": asdict(settings),
            "demonstrations": store.sha256_file(options.data / "demonstrations.jsonl"),
        },
        examples=kept,
        policy=policy,
        state=options.state,
    )
    policy.save(options.output)
    _publish(options.state, options.output, ["metrics.jsonl", "timing.jsonl"])
    shown = wiring.first_prompt(tokenizer, dataset, (row["question"] for row in rows))
    last = store.read_jsonl(options.output / "metrics.jsonl")[-1]
    card = model_card(options.name, "sft", None, settings.sft.dataset, asdict(settings), last, shown)
    store.write_text(options.output / "README.md", card)


def train(options: argparse.Namespace) -> None:
    """One RL run."""
    from spo import launch
    from spo.training import ranks

    with ranks.joined(launch.on_gpu(options.settings)):
        _train(options)


def _train(options: argparse.Namespace) -> None:
    from spo import data, store
    from spo.policy import BACKENDS, CRITICS
    from spo.policy import tokenizer as tokenizers
    from spo.policy.card import model_card
    from spo.policy.locate import check_context
    from spo.policy.model_folder import digest
    from spo.policy.stops import stopping
    from spo.training import ranks, rl

    settings, dataset = options.settings, options.dataset
    tokenizer = tokenizers.load(options.model)
    check_context(options.model, settings.context_tokens, "context_tokens")
    opened, critic = BACKENDS[settings.backend], None
    policy = opened(options.model, tokenizer.end_ids, settings.dtype, settings.memory)
    # Two samplers round differently, and a run that went from one to the other could not be repeated.
    sampler = getattr(policy, "sampler", None)
    policy, reference = stopping(policy, tokenizer.decode, settings.stop_texts), None
    if rl.opens_reference(settings):
        reference = opened(options.model, tokenizer.end_ids, settings.dtype, settings.memory, parked=True)
    if settings.credit.kind == "critic":
        critic = CRITICS[settings.backend](options.model, settings.seed, settings.dtype, settings.memory)
    if ranks.first():
        _rehearse([policy, critic] if critic is not None else [policy], options.state)
    files = {split: options.data / f"{split}.jsonl" for split in ("train", "validation")}
    problems = {split: data.load_problems(path) for split, path in files.items()}
    shown = wiring.first_prompt(tokenizer, dataset, (problem.question for problem in problems["train"]), options.model)
    print(f"first prompt: {shown}", flush=True)
    rl.run(
        name=options.name,
        settings=settings,
        fingerprint={
            "train": _binding(settings),
            "dataset": asdict(dataset),
            "model": digest(options.model),
            "sampler": sampler,
            **({"prompt": wiring.asked_with(dataset, options.model)} if dataset.chat else {}),
            **{f"{split}_problems": store.sha256_file(path) for split, path in files.items()},
        },
        train=problems["train"],
        validation=problems["validation"],
        policy=policy,
        reference=reference,
        encode=wiring.encoder(tokenizer, dataset, options.model),
        reward=wiring.rewarder(tokenizer, dataset, settings),
        pieces=wiring.pieces(tokenizer),
        state=options.state,
        critic=critic,
    )
    if not ranks.first():
        return
    policy.save(options.output / "model")
    if critic is not None:
        critic.save(options.output / "critic")
    _publish(options.state, options.output, ["metrics.jsonl", "timing.jsonl"])
    last = store.read_jsonl(options.output / "metrics.jsonl")[-1]
    made = settings.credit.kind, options.model.name, options.data.name
    card = model_card(options.name, *made, asdict(settings), last, shown)
    store.write_text(options.output / "model" / "README.md", card)


def _rehearse(models: Sequence, state: Path) -> None:
    """Write what is saved beside the weights, and remove it: what cannot be saved shows before anything is trained."""
    folder = state.with_name(f".{state.name}.rehearsal")  # beside it, so that misuse makes no state
    try:
        for model in models:
            model.rehearse(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def generate(options: argparse.Namespace) -> None:
    """Predictions at the longest context."""
    from spo import data, store
    from spo.evaluation import generate as evaluation
    from spo.policy import BACKENDS
    from spo.policy import tokenizer as tokenizers
    from spo.policy.locate import check_context
    from spo.policy.model_folder import digest
    from spo.policy.stops import stopping

    tokenizer = tokenizers.load(options.model)
    check_context(options.model, max(options.contexts), "contexts")
    file, settings = options.data / "test.jsonl", options.settings
    problems = data.load_problems(file)
    shown = wiring.first_prompt(tokenizer, options.dataset, (problem.question for problem in problems), options.model)
    print(f"first prompt: {shown}", flush=True)
    # Nothing trains, so that weights need not be finer than products.
    memory = settings.memory if settings.dtype == "float32" else replace(settings.memory, weights=settings.dtype)
    policy = BACKENDS[settings.backend](options.model, tokenizer.end_ids, settings.dtype, memory, parked=True)
    evaluation.run(
        policy=stopping(policy, tokenizer.decode, settings.stop_texts),
        problems=problems,
        encode=wiring.encoder(tokenizer, options.dataset, options.model),
        protocol=settings,
        context_tokens=max(options.contexts),
        fingerprint={
            "protocol": _binding(settings),
            "prompt": wiring.asked_with(options.dataset, options.model),
            "context": max(options.contexts),
            "model": digest(options.model),
            "problems": store.sha256_file(file),
        },
        state=options.state,
        output=options.output,
    )


def grade(options: argparse.Namespace) -> None:
    """Verdicts on responses in a file of JSON lines, each with `answer` and `response`."""
    from spo import grading
    from spo.config.validate import unknown
    from spo.errors import UserError
    from spo.evaluation import grade as evaluation

    if options.grader not in grading.GRADERS:
        raise UserError(f"--grader: {unknown(options.grader, grading.GRADERS, 'grader')}")
    evaluation.grade_file(options.input, grading.GRADERS[options.grader], options.output)


def judge(options: argparse.Namespace) -> None:
    """Verdicts on predictions, at every context."""
    from spo import grading, store
    from spo.evaluation import grade as evaluation
    from spo.policy import tokenizer as tokenizers

    rows = evaluation.run(
        predictions=store.read_jsonl(options.predictions, required=("problem_id", "response_ids")),
        answers={row["id"]: row["answer"] for row in store.read_jsonl(options.problems, required=("id", "answer"))},
        decode=tokenizers.load(options.model).decode,
        grade=grading.GRADERS[options.grader].grade,
        contexts=sorted(options.contexts),
    )
    store.write_jsonl(options.output, rows)


def score(options: argparse.Namespace) -> None:
    """Accuracy, interval and truncation rate at every context."""
    from spo import grading, store
    from spo.analysis.stats import wilson
    from spo.evaluation import score as evaluation

    rows = store.read_jsonl(options.graded, required=("problem_id", "context", "correct"))
    head = {"run": options.run, "dataset": options.dataset_name, "protocol": options.protocol, "grader": options.grader}
    counts = {
        "grader_version": grading.GRADERS[options.grader].version,
        "problems": len({row["problem_id"] for row in rows}),
        "samples_per_problem": len({row["sample"] for row in rows}),
    }
    store.write_json(options.output, head | counts | {"contexts": evaluation.contexts(rows, wilson)})


def _binding(settings) -> dict:
    """Return the settings that unfinished work is bound to: all but those that only decide whether it fits into memory
    and how often it is saved."""
    out = asdict(settings)
    for key in ("memory", "checkpoint_every", "checkpoint_every_steps"):
        out.pop(key, None)
    if "loss" in out and settings.loss.scope == "batch":
        del out["optimizer"]["micro_batch_tokens"]
    return out


def _publish(state: Path, output: Path, names: Sequence[str]) -> None:
    from spo import store

    for name in names:
        store.write_bytes(output / name, (state / name).read_bytes())


def figure(options: argparse.Namespace) -> None:
    """One figure: PNG, PDF, and the CSV of every plotted point."""
    from spo.analysis import figures

    figures.draw(options.name, options.settings, options.results, options.output, options.csv)


def table(options: argparse.Namespace) -> None:
    """One table as md, csv and tex."""
    from spo.analysis import tables

    tables.write(options.name, options.settings, options.results, options.output)


def report(options: argparse.Namespace) -> None:
    """The self-contained HTML report."""
    from spo.analysis import report as analysis

    analysis.write(options.settings, options.results, options.figures, options.output)


def rehearse(options: argparse.Namespace) -> None:
    """Try every figure, every table and the report of a study on made-up results; reads what it draws from stdin."""
    from spo import config, store
    from spo.analysis import rehearsal
    from spo.analysis.slices import Rehearsal

    plan = config.parse(Rehearsal, sys.stdin.buffer.read().decode())
    remarks = rehearsal.run(plan)
    for remark in remarks:
        print(f"spo: {remark}", file=sys.stderr, flush=True)
    pictures = (*(f"figures.{name}" for name in plan.figures), *(f"tables.{name}" for name in plan.tables), "report")
    store.write_text(options.output, "".join(f"{line}\n" for line in (options.digest, *pictures, *remarks)))


def check(options: argparse.Namespace) -> None:
    """Read and check a config without running anything, and say what it would do."""
    from spo import config

    print(config.summary(config.load(options.config, tell=_note)))


def plan(options: argparse.Namespace) -> None:
    """Say what a config will do and about what it will cost, before anything starts."""
    from spo import config

    print(config.forecast(config.load(options.config, tell=_note)))


def _note(line: str) -> None:
    print(f"spo: {line}", file=sys.stderr)
