"""Checks of a config against the files that it names: model folders, numbers of problems, lengths of prompts.

A dry run calls this too, so that it never imports torch and reads as little as it can.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from spo.config import plan
from spo.config.check import covered, trainable
from spo.config.layers import KeyPath, Mistake, one_line
from spo.config.study import Experiment, Study
from spo.errors import UserError
from spo.settings import Dataset, Train

#: Tokens that a tokenizer may add to those of the text.
ADDED_TOKENS = 8

Found = Iterator[Mistake]
#: Models in sound local folders, and how many positions each has.
Positions = dict[str, int | None]


def check_files(study: Study, gone: frozenset[KeyPath] = frozenset()) -> list[Mistake]:
    """Return what the files that are here contradict; nothing is said about files that are not made yet or on a hub.

    `gone` are paths whose settings were left out because they are mistakes themselves.
    """
    found: list[Mistake] = []
    positions: Positions = {}
    for key, model in study.models.items():
        if model.path is not None and is_local(model.path):
            mistakes, limit = _model(key, Path(model.path))
            found += mistakes
            if not mistakes:
                positions[key] = limit
    for key, dataset in study.datasets.items():
        if not (Path(study.results) / "data" / key / "manifest.json").is_file():
            found += _dataset(key, dataset)
    for key, experiment in study.experiments.items():
        found += _contexts(key, experiment, study, positions)
        found += _prompts(key, experiment, study, positions)
    return [mistake for mistake in dict.fromkeys(found) if not covered(mistake.path, gone)]


def is_local(path: str) -> bool:
    """Return whether a model's path is a folder, or was meant to be one, and not the id of a hub.

    >>> is_local("Qwen/Qwen2.5-0.5B"), is_local("/models/qwen"), is_local("./qwen"), is_local("a/b/c")
    (False, True, True, True)
    """
    return Path(path).is_dir() or path.startswith(("/", "./", "../", "~")) or path.count("/") > 1


def _model(key: str, folder: Path) -> tuple[list[Mistake], int | None]:
    """Return what is wrong with a folder, and otherwise how many positions its model has."""
    from spo.policy.model_folder import check_model_folder

    at = ("models", key, "path")
    if not folder.is_dir():
        return [Mistake(at, f"{folder}: there is no such folder")], None
    try:
        return [], check_model_folder(folder).max_position_tokens
    except UserError as error:
        return [Mistake(at, one_line(str(error)))], None


def _dataset(key: str, dataset: Dataset) -> Found:
    from spo.data import local_files

    if dataset.path is None:
        return
    try:
        files = local_files(key, dataset)
    except UserError as error:
        where, _, problem = str(error).partition(": ")
        yield Mistake(tuple(where.split(".")) if where.startswith("datasets.") else ("datasets", key), problem)
        return
    rows = {split: sum(_rows(path) for path in paths) for split, paths in files.items()}
    for split, count in rows.items():
        if count == 0:
            names = ", ".join(str(path) for path in files[split])
            yield Mistake(("datasets", key, "path"), f"{names}: there is no problem in it")
    if rows.get("train"):
        asked = dataset.validation + (dataset.train or 1)
        if asked > rows["train"]:
            split = "train" if dataset.validation < rows["train"] else "validation"
            problem = f"{dataset.validation} for validation and {dataset.train or 'some'} for training"
            yield Mistake(("datasets", key, split), f"{problem}, but {dataset.path} has {rows['train']} problems")
    if rows.get("test") and (dataset.test or 0) > rows["test"]:
        yield Mistake(("datasets", key, "test"), f"{dataset.test}, but {dataset.path} has {rows['test']} problems")


def _rows(path: Path) -> int:
    return sum(1 for line in _lines(path) if line.strip())


def _lines(path: Path) -> list[bytes]:
    there = path.stat()
    return _lines_of(path.absolute(), there.st_size, there.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _lines_of(path: Path, size: int, changed_ns: int) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).split(b"\n")


def _contexts(key: str, experiment: Experiment, study: Study, positions: Positions) -> Found:
    """Contexts beyond the positions of a local model."""
    others = (_policy(study, method) for method in experiment.methods)
    asked = [
        (("experiments", key, "contexts"), max(experiment.contexts), policy)
        for policy in (experiment.model, *(policy for policy in others if policy is not None))
    ]
    for method, train in _trains(study, key):
        at = plan.holder(plan.train_layers(study, method, key), ("context_tokens",), ("experiments", key, "train"))
        asked.append((at, train.context_tokens, experiment.model))
    for at, tokens, policy in asked:
        if (limit := positions.get(policy)) is not None and tokens > limit:
            yield Mistake(at, f"{tokens}, but max_position_embeddings of models.{policy} is {limit}")


def _policy(study: Study, method: str) -> str | None:
    return study.methods[method].policy if method in study.methods else None


def _trains(study: Study, key: str) -> Iterator[tuple[str, Train]]:
    sound = trainable(study)
    for method in study.experiments[key].methods:
        if method in sound:
            train, _, gone = plan.repaired_train(study, method, key)
            if train is not None and gone.isdisjoint((("context_tokens",), ("max_prompt_tokens",))):
                yield method, train


def _prompts(key: str, experiment: Experiment, study: Study, local: Positions) -> Found:
    """Contexts that not even the shortest prompt fits into."""
    if experiment.model not in study.models:
        return
    for method, train in _trains(study, key):
        longest = min(train.context_tokens - 1, train.max_prompt_tokens or train.context_tokens)
        shortest = _too_long(study, experiment.dataset, "train", experiment.model, longest, local)
        if shortest is not None:
            name = "max_prompt_tokens" if longest < train.context_tokens - 1 else "context_tokens"
            at = plan.holder(plan.train_layers(study, method, key), (name,), ("experiments", key, "train"))
            problem = f"{getattr(train, name)}, but the shortest prompt of {experiment.dataset} has {shortest} tokens"
            yield Mistake(at, problem)
    for dataset in plan.test_sets(experiment):
        shortest = _too_long(study, dataset, "test", experiment.model, max(experiment.contexts) - 1, local)
        if shortest is not None:
            problem = f"{max(experiment.contexts)}, but the shortest prompt of {dataset} has {shortest} tokens"
            yield Mistake(("experiments", key, "contexts"), problem)


def _too_long(study: Study, dataset: str, split: str, model: str, tokens: int, local: Positions) -> int | None:
    """Tokens of the shortest prompt if all have more than `tokens`; None if one fits, or if nobody can tell."""
    if dataset not in study.datasets:
        return None
    asked = plan.asked(study, dataset, model)
    found = None if asked.chat else _questions(study, dataset, split)
    # A token is a byte or more, so that one short question tells it nearly always.
    if found is None or len(_prompt(asked, found[0]).encode()) + ADDED_TOKENS <= tokens:
        return None
    encode = _encoder(study, model, local)
    if encode is None:
        return None
    try:
        if len(encode([_prompt(asked, found[0])])[0]) <= tokens:
            return None
        shortest = min(len(ids) for ids in encode([_prompt(asked, question) for question in found[1]()]))
    except UserError:
        return None  # words that the tokenizer lacks: said where the model is opened
    return shortest if shortest > tokens else None


def _questions(study: Study, dataset: str, split: str) -> tuple[str, Callable[[], list[str]]] | None:
    """A question that is short, as far as one can tell at a glance, and what gives all; None if there are none yet."""
    files = _files_of_questions(study, dataset, split)
    lines = [line for path in files for line in _lines(path) if line.strip()]
    if lines:
        return _question(min(lines, key=len)), lambda: [_question(line) for line in lines]
    return None if files else _generated(study.datasets[dataset], dataset, split)


def _generated(settings: Dataset, name: str, split: str) -> tuple[str, Callable[[], list[str]]] | None:
    """The same of problems that are not drawn yet."""
    from spo.data import DATASETS, first_question

    try:
        question = first_question(name, settings, split)
    except UserError:
        return None  # options that are mistakes themselves
    if question is None:
        return None
    return question, lambda: [each.question for each in DATASETS[settings.source](settings, name).problems()[split]]


def _files_of_questions(study: Study, dataset: str, split: str) -> list[Path]:
    """Files that hold the questions of a split, prepared or as they were given."""
    from spo.data import local_files

    prepared = Path(study.results) / "data" / dataset / f"{split}.jsonl"
    if prepared.is_file():
        return [prepared]
    settings = study.datasets[dataset]
    try:
        return local_files(dataset, settings).get(split, []) if settings.path else []
    except UserError:
        return []


def _prompt(dataset: Dataset, question: str) -> str:
    return dataset.prompt.replace("{question}", question)


def _question(line: bytes) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return ""
    found = row if isinstance(row, dict) else {}
    return next((found[key] for key in ("question", "problem", "quiz") if isinstance(found.get(key), str)), "")


def _encoder(study: Study, model: str, local: Positions) -> Callable[[list[str]], Sequence[Sequence[int]]] | None:
    """Return what turns texts into ids for a model; None if its tokenizer is neither here nor known."""
    from spo.policy import tokenizer as tokenizers

    settings, made = study.models[model], Path(study.results) / "models" / model
    if model in local or (made / "tokenizer.json").is_file():
        try:
            return tokenizers.load(Path(settings.path) if model in local else made).encode_many
        except UserError:
            return None
    if settings.sft is not None and settings.tokenizer.kind == "words":
        return lambda texts: tokenizers.build_words(texts).encode_many(texts)
    return None
