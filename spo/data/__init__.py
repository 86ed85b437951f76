"""Problem sets: `DATASETS` names the loaders, `prepare` checks and writes one, `load_problems` reads a split back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from spo import store
from spo.data import generated, given, knights, stories
from spo.data.splits import Splits, check
from spo.errors import UserError
from spo.settings import Dataset
from spo.types import Problem

#: problems that are drawn: name -> module with `Options`, `draw` and `demonstrate`
GENERATED: dict[str, ModuleType] = {"stories": stories, "knights": knights}

#: `source:` in config -> loader(settings, name of the dataset)
DATASETS: dict[str, Callable[[Dataset, str], Splits]] = {
    **{name: partial(generated.load, source=module) for name, module in GENERATED.items()},
    **{name: partial(given.load, source=source) for name, source in given.SOURCES.items()},
}


def trains(settings: Dataset) -> bool:
    """Return True if the source has problems to train on, and not only a test split.

    >>> trains(Dataset(source="gsm8k", grader="gsm8k")), trains(Dataset(source="aime24", grader="aime"))
    (True, False)
    """
    return settings.source in GENERATED or "train" in given.SOURCES[settings.source].parts


def check_settings(name: str, settings: Dataset) -> None:
    """Raise UserError if `prepare` would refuse these settings before reading or drawing anything."""
    if settings.source not in DATASETS:
        raise UserError(f"datasets.{name}.source: unknown source {settings.source!r}; known are {', '.join(DATASETS)}")
    if settings.source in GENERATED:
        generated.check_settings(settings, name, GENERATED[settings.source])
    else:
        given.check_settings(settings, name)


def local_files(name: str, settings: Dataset) -> dict[str, list[Path]]:
    """Return the files of `settings.path` by split, none if the path has a variable that is not set.

    Generated problems and unknown sources have none either. Raises UserError for a file that is not there.
    """
    if settings.source not in given.SOURCES or settings.path is None or given.unset_variable(settings.path):
        return {}
    parts = given.SOURCES[settings.source].parts
    return {split: [given.local_file(settings.path, name, part.stem) for part in parts[split]] for split in parts}


def first_question(name: str, settings: Dataset, split: str) -> str | None:
    """Return one question that a generator will draw for a split, in no time; None if the problems are given.

    Raises UserError for wrong options.
    """
    if settings.source not in GENERATED:
        return None
    return generated.first_question(settings, name, GENERATED[settings.source], split)


def prepare(name: str, settings: Dataset, output: Path) -> None:
    """Write `{train,validation,test,demonstrations}.jsonl` and, last, `manifest.json` into `output`.

    Nothing is written unless everything was read and checked. Raises UserError for an unknown source, bad rows, a leak.
    """
    check_settings(name, settings)
    splits = DATASETS[settings.source](settings, name)
    check(name, splits)

    output = Path(output)
    rows: dict[str, list] = {**splits.problems(), "demonstrations": splits.demonstrations}
    (output / "manifest.json").unlink(missing_ok=True)
    for split, items in rows.items():
        store.write_jsonl(output / f"{split}.jsonl", items)
    manifest = {
        "dataset": name,
        "source": settings.source,
        "revision": settings.revision,
        "seed": settings.seed,
        "options": settings.options,
        **splits.notes,
        "splits": {
            split: {"rows": len(items), "sha256": store.sha256_file(output / f"{split}.jsonl")}
            for split, items in rows.items()
        },
    }
    store.write_json(output / "manifest.json", manifest)


def load_problems(path: Path) -> list[Problem]:
    """Return the problems of one split file, in order; UserError for a bad row, or if there is none."""
    rows = store.read_jsonl(path, required=("id", "question", "answer"))
    if not rows:
        dataset, split = path.parent.name, path.stem
        raise UserError(f"{path}: no problems; dataset {dataset} has no {split} split, name one that has")
    return [Problem(row["id"], row["question"], row["answer"]) for row in rows]
