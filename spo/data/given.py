"""Published problem sets: from JSON lines in a local folder, or from the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spo import seeds, store
from spo.data.splits import Splits, first_of_each, normalised
from spo.errors import UserError
from spo.settings import Dataset
from spo.types import Problem

Row = dict[str, object]
MOST_LEAKED_SHARE = 0.05  # of the training rows; above it the files are taken to be wrong


@dataclass(frozen=True)
class Source:
    """Where a published set is and how its rows are read.

    `files` maps our split (train, test) to (file stem in a local folder, configuration and split on the hub). `read`
    turns a row into (question, answer, worked solution or None) and raises ValueError for a row that it cannot use.
    """

    hub: str
    files: dict[str, tuple[str, str | None, str]]
    read: Callable[[Row], tuple[str, str, str | None]]


def load(settings: Dataset, name: str, source: Source) -> Splits:
    """Read `source`; validation is drawn from the training rows with `settings.seed`, the rest keeps its order.

    Training rows whose question is also a test question, or an earlier training question, are dropped and counted in
    the notes. Demonstrations are the worked solutions of the training split. Raises UserError for missing files,
    malformed rows (`file:line: what`), a hub out of reach, or sizes that the source does not have.
    """
    check_settings(settings, name)
    notes: dict[str, object] = {"path": settings.path} if settings.path else {"hub": source.hub}
    rows = {split: _rows(settings, name, source, split, notes) for split in source.files}
    found = {split: [source.read(row) for row in rows[split]] for split in rows}
    solutions: dict[str, str] = {}
    problems: dict[str, list[Problem]] = {"train": [], "test": []}
    for split, items in found.items():
        for index, (question, answer, solution) in enumerate(items):
            problems[split].append(Problem(f"{name}-{split}-{index}", question, answer))
            if solution is not None:
                solutions[problems[split][-1].id] = solution

    unique = first_of_each(problems["train"], {normalised(problem.question) for problem in problems["test"]})
    dropped = len(problems["train"]) - len(unique)
    if dropped > MOST_LEAKED_SHARE * max(len(problems["train"]), 1):
        raise UserError(
            f"dataset {name}: {dropped} of {len(problems['train'])} training questions are test questions or repeated; "
            "are these the right files?"
        )
    notes["dropped_train_rows"] = dropped

    test = _some(settings, name, "test", problems["test"], settings.test)
    train, validation = unique, []
    if unique:
        validation = _some(settings, name, "validation", unique, settings.validation)
        held_out = {problem.id for problem in validation}
        rest = [problem for problem in unique if problem.id not in held_out]
        train = _some(settings, name, "train", rest, settings.train)
    demonstrations = [
        {"id": problem.id, "question": problem.question, "response": solutions[problem.id]}
        for problem in train[: settings.demonstrations]
    ]
    return Splits(train, validation, test, demonstrations, notes)


def check_settings(settings: Dataset, name: str) -> None:
    """Raise UserError for options, which published sets do not have."""
    if settings.options:
        raise UserError(f"datasets.{name}.options.{next(iter(settings.options))}: {settings.source} takes no options")


def _some(settings: Dataset, name: str, split: str, problems: list[Problem], count: int | None) -> list[Problem]:
    """`count` problems drawn with the dataset's seed, in the order of the source; all when `count` is None."""
    if count is None:
        return problems
    if count > len(problems):
        raise UserError(f"datasets.{name}.{split}: {count} asked for, only {len(problems)} there")
    order = seeds.generator(settings.seed, settings.source, split).permutation(len(problems))
    return [problems[index] for index in sorted(order[:count].tolist())]


# ---- reading ---------------------------------------------------------------------------------------------------------


def _rows(settings: Dataset, name: str, source: Source, split: str, notes: dict[str, object]) -> list[Row]:
    stem, configuration, hub_split = source.files[split]
    if settings.path:
        path = _file(settings.path, name, stem)
        notes[f"{split}_sha256"] = store.sha256_file(path)
        return store.read_jsonl(path, check=source.read)
    return list(_from_hub(source, configuration, hub_split, settings.revision))


def _file(folder: str, name: str, stem: str) -> Path:
    expanded = os.path.expanduser(os.path.expandvars(folder))
    if "$" in expanded:
        raise UserError(f"datasets.{name}.path: {folder}: environment variable not set")
    candidates = [Path(expanded) / f"{stem}.jsonl{ending}" for ending in ("", ".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"datasets.{name}.path: neither {candidates[0]} nor {candidates[1].name} is there")


def _from_hub(source: Source, configuration: str | None, split: str, revision: str | None) -> Iterator[Row]:
    import datasets

    try:
        table = datasets.load_dataset(source.hub, configuration, split=split, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{source.hub} cannot be read from the hub ({_one_line(error)}); give a folder of JSON lines with `path:`, "
            "or download it where there is a network and set HF_HUB_OFFLINE=1"
        ) from error
    for index, row in enumerate(table):
        try:
            source.read(row)
        except ValueError as error:
            raise UserError(f"{source.hub} {split} row {index}: {error}") from None
        yield row


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


# ---- rows ------------------------------------------------------------------------------------------------------------


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {key!r} is missing, empty or not text")
    return value.strip()


def _gsm8k(row: Row) -> tuple[str, str, str]:
    """Answer: what follows the last `####`. Solution: without the calculator's `<<...>>` (spec §6.1)."""
    question, solution = _text(row, "question"), _text(row, "answer")
    _, mark, answer = solution.rpartition("####")
    if not mark or not answer.strip():
        raise ValueError("field 'answer' has nothing after ####")
    return question, answer.strip(), re.sub(r"<<[^<>]*>>", "", solution)


def _math(row: Row) -> tuple[str, str, str]:
    return _text(row, "problem"), _boxed(row), _text(row, "solution")


def _boxed(row: Row) -> str:
    """The `answer` field, or the content of the last box of the solution where the field is absent."""
    if row.get("answer") is not None:
        return _text(row, "answer")
    solution = _text(row, "solution")
    start = max(solution.rfind("\\boxed{"), solution.rfind("\\fbox{"))
    depth = 0
    for place in range(solution.find("{", start), len(solution) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if depth == 0 and (answer := solution[solution.find("{", start) + 1 : place].strip()):
            return answer
    raise ValueError("field 'solution' has no boxed answer")


def _aime(row: Row) -> tuple[str, str, None]:
    return _text(row, "problem"), _text(row, "answer"), None


#: name in `spo.data.DATASETS` -> where it is and how to read it
SOURCES = {
    "gsm8k": Source("openai/gsm8k", {"train": ("train", "main", "train"), "test": ("test", "main", "test")}, _gsm8k),
    "math500": Source("HuggingFaceH4/MATH-500", {"test": ("test", None, "test")}, _math),
    "aime24": Source("HuggingFaceH4/aime_2024", {"test": ("test", None, "train")}, _aime),
}
