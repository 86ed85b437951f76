"""Commands of `python -m spo`: each reads files, opens models, computes, and writes files.

The only module that knows all rooms. Imports stand inside the functions, since torch and transformers cost seconds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spo import config, wiring
from spo.paths import SPLITS, Paths
from spo.settings import binding, changed


@dataclass(frozen=True)
class Job:
    """One job: its name, the part of the study that it depends on (`spo.config.jobs`), and the study's files."""

    name: str
    part: config.jobs.Part
    jobs: config.jobs.Jobs

    @classmethod
    def of(cls, study: config.Study, command: str, name: str) -> Job:
        """Return a job of a study; UserError for a name that the study does not have."""
        jobs = config.jobs.Jobs(study)
        return cls(name, jobs.part(command, name), jobs)

    @property
    def paths(self) -> Paths:
        return self.jobs.paths

    def model(self, policy: config.jobs.Policy) -> Path:
        """Return the folder of a policy's model, checked for the backend that opens it; one on the hub is fetched."""
        from spo.policy.locate import locate
        from spo.policy.model_folder import check_model_folder

        folder = locate(Path(self.jobs.folder(policy)))
        how = getattr(self.part, "train", None) or getattr(self.part, "protocol", None)
        check_model_folder(folder, getattr(how, "backend", None))
        return folder

    def state(self, name: str, fingerprint: Mapping[str, object]) -> Path:
        """Return the folder of checkpoints of work with that fingerprint.

        Changed settings or inputs thus begin in a new folder, and going back to the old ones finds the old progress.
        """
        return Path(self.paths.state(name, config.digest(fingerprint)))


def prepare(job: Job) -> None:
    """Problems and demonstrations of a dataset, checked, as JSON lines."""
    from spo import data

    data.prepare(job.name, job.part.dataset, Path(job.paths.data(job.name)))


def sft(job: Job) -> None:
    """A base model from random weights and demonstrations."""
    from spo import store
    from spo.errors import UserError
    from spo.policy import tokenizer as tokenizers
    from spo.policy import transformer
    from spo.policy.card import model_card
    from spo.policy.engine import Engine
    from spo.training import sft as training

    settings, asked = job.part.model, job.part.asked
    files = {split: job.paths.split(settings.sft.dataset, split) for split in ("demonstrations", *SPLITS)}
    rows = store.read_jsonl(files["demonstrations"], required=("question", "response"))
    if not rows:
        raise UserError(f"{files['demonstrations']}: none; set datasets.{settings.sft.dataset}.demonstrations")
    prompts = [wiring.rendered(asked, row["question"]) for row in rows]
    texts = [*prompts, *(row["response"] for row in rows)]
    if settings.tokenizer.kind == "words":
        for split in SPLITS:
            texts += [wiring.rendered(asked, row["question"]) for row in store.read_jsonl(files[split])]
        tokenizer = tokenizers.build_words(texts)
    else:
        tokenizer = tokenizers.build_bpe(texts, settings.tokenizer.vocabulary_size, settings.tokenizer.special_tokens)

    fingerprint = {
        "model": changed(binding(settings)),
        "prompt": asked.prompt,
        **{split: store.sha256_file(path) for split, path in files.items()},
    }
    state, output = job.state(job.name, fingerprint), Path(job.paths.model(job.name))
    start = state / "start"
    tokenizers.save(tokenizer, start)
    geometry = transformer.model_config(
        settings.architecture, tokenizer.vocabulary_size, tokenizer.eos_id, tokenizer.pad_id
    )
    store.write_json(start / "config.json", geometry)
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
            f"models.{job.name}.architecture.max_position_tokens: {limit}, but the shortest demonstration of "
            f"{settings.sft.dataset} has {shortest} tokens"
        )
    if len(kept) < len(examples):
        print(
            f"{job.name}: {len(examples) - len(kept)} demonstrations longer than {limit} tokens left out",
            flush=True,
        )

    training.run(
        name=job.name,
        settings=settings.sft,
        fingerprint=fingerprint,
        examples=kept,
        policy=policy,
        state=state,
    )
    policy.save(output)
    _publish(state, output, ["metrics.jsonl", "timing.jsonl"])
    shown = wiring.first_prompt(tokenizer, asked, (row["question"] for row in rows))
    last = store.read_jsonl(output / "metrics.jsonl")[-1]
    card = model_card(job.name, "sft", None, settings.sft.dataset, asdict(settings), last, shown)
    store.write_text(output / "README.md", card)


def train(job: Job) -> None:
    """One RL run."""
    from spo import launch
    from spo.training import ranks

    with ranks.joined(launch.on_gpu(job.part.train)):
        _train(job)


def _train(job: Job) -> None:
    from spo import data, store
    from spo.policy import BACKENDS, CRITICS, model_folder
    from spo.policy import tokenizer as tokenizers
    from spo.policy.card import model_card
    from spo.policy.locate import check_context
    from spo.policy.stops import stopping
    from spo.training import ranks, rl

    part, settings = job.part, job.part.train
    model, output = job.model(part.start), Path(job.paths.run(job.name))
    tokenizer = tokenizers.load(model)
    check_context(model, settings.context_tokens, "context_tokens")
    opened, critic = BACKENDS[settings.backend], None
    policy = opened(model, tokenizer.end_ids, settings.dtype, settings.memory)
    # Two samplers round differently, and a run that went from one to the other could not be repeated.
    sampler = getattr(policy, "sampler", None)
    policy, reference = stopping(policy, tokenizer.decode, settings.stop_texts), None
    if rl.opens_reference(settings):
        reference = opened(model, tokenizer.end_ids, settings.dtype, settings.memory, parked=True)
    if settings.credit.kind == "critic":
        critic = CRITICS[settings.backend](model, settings.seed, settings.dtype, settings.memory)
    files = {split: job.paths.split(part.dataset, split) for split in ("train", "validation")}
    fingerprint = {
        "train": changed(binding(settings)),
        "prompt": wiring.asked_with(part.asked, model),
        "grader": part.asked.grader,
        "model": model_folder.digest(model),
        **{f"{split}_problems": store.sha256_file(path) for split, path in files.items()},
    }
    state = job.state(job.name, fingerprint)
    if ranks.first():
        _rehearse([policy, critic] if critic is not None else [policy], state)
    problems = {split: data.load_problems(Path(path)) for split, path in files.items()}
    shown = wiring.first_prompt(tokenizer, part.asked, (problem.question for problem in problems["train"]), model)
    print(f"first prompt: {shown}", flush=True)
    rl.run(
        name=job.name,
        settings=settings,
        fingerprint=fingerprint | {"sampler": sampler},
        train=problems["train"],
        validation=problems["validation"],
        policy=policy,
        reference=reference,
        encode=wiring.encoder(tokenizer, part.asked, model),
        reward=wiring.rewarder(tokenizer, part.asked, settings),
        pieces=wiring.pieces(tokenizer),
        state=state,
        critic=critic,
    )
    if not ranks.first():
        return
    policy.save(Path(job.paths.trained(job.name)))
    if critic is not None:
        critic.save(Path(job.paths.critic(job.name)))
    _publish(state, output, ["metrics.jsonl", "timing.jsonl"])
    last = store.read_jsonl(output / "metrics.jsonl")[-1]
    made = settings.credit.kind, model.name, part.dataset
    card = model_card(job.name, *made, asdict(settings), last, shown)
    store.write_text(Path(job.paths.trained(job.name)) / "README.md", card)


def _rehearse(models: Sequence, state: Path) -> None:
    """Write what is saved beside the weights, and remove it: what cannot be saved shows before anything is trained."""
    folder = state.with_name(f".{state.name}.rehearsal")  # beside it, so that misuse makes no state
    try:
        for model in models:
            model.rehearse(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def generate(job: Job) -> None:
    """Predictions at the longest context."""
    from spo import data, store
    from spo.evaluation import generate as evaluation
    from spo.policy import BACKENDS, model_folder
    from spo.policy import tokenizer as tokenizers
    from spo.policy.locate import check_context
    from spo.policy.stops import stopping

    part, (policy_name, dataset, protocol) = job.part, job.name.split("/")
    model, file, settings = job.model(part.policy), job.paths.split(dataset, "test"), part.protocol
    tokenizer = tokenizers.load(model)
    check_context(model, part.context, "contexts")
    problems = data.load_problems(Path(file))
    shown = wiring.first_prompt(tokenizer, part.asked, (problem.question for problem in problems), model)
    print(f"first prompt: {shown}", flush=True)
    # Inference only: keep weights in the compute dtype.
    memory = settings.memory if settings.dtype == "float32" else replace(settings.memory, weights=settings.dtype)
    policy = BACKENDS[settings.backend](model, tokenizer.end_ids, settings.dtype, memory, parked=True)
    evaluation.run(
        policy=stopping(policy, tokenizer.decode, settings.stop_texts),
        problems=problems,
        encode=wiring.encoder(tokenizer, part.asked, model),
        protocol=settings,
        context_tokens=part.context,
        fingerprint={
            "protocol": changed(binding(settings)),
            "prompt": wiring.asked_with(part.asked, model),
            "context": part.context,
            "model": model_folder.digest(model),
            "problems": store.sha256_file(file),
        },
        state=Path(job.paths.state(policy_name, f"{dataset}-{protocol}")),
        output=Path(job.paths.predictions(policy_name, dataset, protocol)),
    )


def grade(job: Job) -> None:
    """Verdicts on predictions, at every context."""
    from spo import grading, store
    from spo.evaluation import grade as evaluation
    from spo.policy import tokenizer as tokenizers

    policy, dataset, protocol = job.name.split("/")
    predictions, problems = job.paths.predictions(policy, dataset, protocol), job.paths.split(dataset, "test")
    rows = evaluation.run(
        predictions=store.read_jsonl(predictions, required=("problem_id", "response_ids")),
        answers={row["id"]: row["answer"] for row in store.read_jsonl(problems, required=("id", "answer"))},
        decode=tokenizers.load(job.model(job.part.policy)).decode,
        grade=grading.GRADERS[job.part.grader].grade,
        contexts=sorted(job.part.contexts),
    )
    store.write_jsonl(job.paths.graded(policy, dataset, protocol), rows)


def score(job: Job) -> None:
    """Accuracy, interval and truncation rate at every context."""
    from spo import grading, store
    from spo.analysis.stats import wilson
    from spo.evaluation import score as evaluation

    policy, dataset, protocol = job.name.split("/")
    rows = store.read_jsonl(job.paths.graded(policy, dataset, protocol), required=("problem_id", "context", "correct"))
    head = {"run": policy, "dataset": dataset, "protocol": protocol, "grader": job.part.grader}
    counts = {
        "grader_version": grading.GRADERS[job.part.grader].version,
        "problems": len({row["problem_id"] for row in rows}),
        "samples_per_problem": len({row["sample"] for row in rows}),
    }
    scores = head | counts | {"contexts": evaluation.contexts(rows, wilson)}
    store.write_json(job.paths.score(policy, dataset, protocol), scores)


def grade_file(options: argparse.Namespace) -> None:
    """Verdicts on responses in a file of JSON lines, each with `answer` and `response`."""
    from spo import grading
    from spo.config.validate import unknown
    from spo.errors import UserError
    from spo.evaluation import grade as evaluation

    if options.grader not in grading.GRADERS:
        raise UserError(f"--grader: {unknown(options.grader, grading.GRADERS, 'grader')}")
    evaluation.grade_file(options.input, grading.GRADERS[options.grader], options.output)


def _publish(state: Path, output: Path, names: Sequence[str]) -> None:
    from spo import store

    for name in names:
        store.write_bytes(output / name, (state / name).read_bytes())


def figure(job: Job) -> None:
    """One figure: PNG, PDF, and the CSV of every plotted point."""
    from spo.analysis import figures

    stem = Path(job.paths.figure(job.name, "png")).with_suffix("")
    figures.draw(job.name, job.part, Path(job.paths.results), stem, Path(job.paths.numbers(job.name)))


def table(job: Job) -> None:
    """One table as md, csv and tex."""
    from spo.analysis import tables

    stem = Path(job.paths.table(job.name, "md")).with_suffix("")
    tables.write(job.name, job.part, Path(job.paths.results), stem)


def report(job: Job) -> None:
    """The self-contained HTML report."""
    from spo.analysis import report as analysis

    analysis.write(job.part, Path(job.paths.results), Path(job.paths.pictures), Path(job.paths.report))


def rehearse(job: Job) -> None:
    """Try every figure, every table and the report of a study on made-up results."""
    from spo import store
    from spo.analysis import rehearsal

    plan = job.part
    remarks = rehearsal.run(plan)
    for remark in remarks:
        print(f"spo: {remark}", file=sys.stderr, flush=True)
    pictures = (*(f"figures.{name}" for name in plan.figures), *(f"tables.{name}" for name in plan.tables), "report")
    lines = (job.jobs.rehearsal_digest(), *pictures, *remarks)
    store.write_text(job.paths.rehearsal, "".join(f"{line}\n" for line in lines))


def check(options: argparse.Namespace) -> None:
    """Read and check a config without running anything, and say what it would do."""
    print(config.summary(config.load(options.config, tell=_note)))


def plan(options: argparse.Namespace) -> None:
    """Say what a config will do and about what it will cost, before anything starts."""
    print(config.forecast(config.load(options.config, tell=_note)))


def _note(line: str) -> None:
    print(f"spo: {line}", file=sys.stderr)
