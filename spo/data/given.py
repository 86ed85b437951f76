"""Published problem sets: from JSON lines in a local folder, or from the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spo import seeds, store
from spo.data.splits import Splits, first_of_each, normalised
from spo.errors import Foreign, UserError
from spo.settings import Dataset
from spo.types import Problem

Row = dict[str, object]
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)  # what `os.path.expandvars` leaves where a variable is not set
MOST_LEAKED_SHARE = 0.05  # of the training rows; above it the files are taken to be wrong


@dataclass(frozen=True)
class Part:
    """One file of a published set: its stem in a local folder, or what it is on the hub."""

    stem: str
    hub: str
    split: str
    configurations: tuple[str | None, ...] = (None,)


@dataclass(frozen=True)
class Source:
    """A published set: the parts of our splits (train, test), and how a row is read.

    `read` turns a row into (question, answer, worked solution or None) and raises ValueError for a row that it cannot
    use; an empty answer leaves the row out. `holds_test`: the training parts are known to contain every test question.
    """

    parts: dict[str, tuple[Part, ...]]
    read: Callable[[Row], tuple[str, str, str | None]]
    holds_test: bool = False

    @property
    def hub(self) -> str:
        """The repository that `revision` pins."""
        return next(iter(self.parts.values()))[0].hub


def load(settings: Dataset, name: str, source: Source) -> Splits:
    """Read `source`; draw validation from the training rows with `settings.seed`; keep the order of the rest.

    Training rows whose question is also a test question, or an earlier training question, and rows with an empty
    answer are dropped and counted in the notes. Demonstrations are the worked solutions of the training split. Raises
    UserError for missing files, malformed rows (`file:line: what`), a hub out of reach, a split without problems, or
    sizes that the source does not have.
    """
    check_settings(settings, name)
    notes: dict[str, object] = {"path": settings.path} if settings.path else {"hub": source.hub}
    problems: dict[str, list[Problem]] = {"train": [], "test": []}
    solutions: dict[str, str] = {}
    notes["rows_without_answer"] = 0
    for split in source.parts:
        for index, row in enumerate(_rows(settings, name, source, split, notes)):
            question, answer, solution = source.read(row)
            if not answer:
                notes["rows_without_answer"] += 1
                continue
            problems[split].append(Problem(f"{name}-{split}-{index}", question, answer))
            if solution is not None:
                solutions[problems[split][-1].id] = solution
        if not problems[split]:
            without = notes["rows_without_answer"]
            reason = f" (rows without an answer: {without})" if without else ""
            where = ", ".join(part.stem if settings.path else part.hub for part in source.parts[split])
            raise UserError(f"datasets.{name}.path: no problem for the {split} split in {where}{reason}")

    test_questions = {normalised(problem.question) for problem in problems["test"]}
    leaked = sum(normalised(problem.question) in test_questions for problem in problems["train"])
    unique = first_of_each(problems["train"], test_questions)
    dropped = len(problems["train"]) - len(unique)
    if dropped > MOST_LEAKED_SHARE * max(len(problems["train"]), 1):
        raise UserError(
            f"dataset {name}: {dropped} of {len(problems['train'])} training questions are test questions or repeated; "
            "are these the right files?"
        )
    if source.holds_test and leaked < len(problems["test"]):
        raise UserError(
            f"dataset {name}: only {leaked} of {len(problems['test'])} test questions are among the training rows, "
            "which should hold all of them; are these the right files?"
        )
    notes["dropped_train_rows"] = dropped

    test = _some(settings, name, "test", problems["test"], settings.test)
    train, validation = unique, []
    if unique:
        validation = _some(settings, name, "validation", unique, settings.validation)
        held_out = {problem.id for problem in validation}
        rest = [problem for problem in unique if problem.id not in held_out]
        if not rest:
            raise UserError(
                f"datasets.{name}.validation: {settings.validation} takes all {len(unique)} training problems; "
                "leave some to train on"
            )
        train = _some(settings, name, "train", rest, settings.train)
    solved = [problem for problem in train if problem.id in solutions]
    if settings.demonstrations > len(solved):
        raise UserError(
            f"datasets.{name}.demonstrations: {settings.demonstrations} asked for, only {len(solved)} training "
            "problems have a worked solution"
        )
    demonstrations = [
        {"id": problem.id, "question": problem.question, "response": solutions[problem.id]}
        for problem in solved[: settings.demonstrations]
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
    rows: list[Row] = []
    for part in source.parts[split]:
        if settings.path:
            path = local_file(settings.path, name, part.stem)
            notes.setdefault("sha256", {})[part.stem] = store.sha256_file(path)
            rows += store.read_jsonl(path, check=source.read)
        else:
            revision = settings.revision if part.hub == source.hub else None
            for configuration in part.configurations:
                rows += _from_hub(part, configuration, source.read, revision)
    return rows


def unset_variable(path: str) -> bool:
    """Return whether a path has a variable that the environment lacks; other dollars are part of a name.

    >>> unset_variable("/data/${NO_SUCH}/x"), unset_variable("/data/$NO_SUCH"), unset_variable("/data/100 $ (a$)")
    (True, True, False)
    """
    return _VARIABLE.search(os.path.expandvars(path)) is not None


def local_file(folder: str, name: str, stem: str) -> Path:
    """Return a file of JSON lines in a local folder; raise UserError if it is not there."""
    expanded = os.path.expanduser(os.path.expandvars(folder))
    if unset_variable(folder):
        raise UserError(f"datasets.{name}.path: {folder}: environment variable not set")
    candidates = [Path(expanded) / f"{stem}.jsonl{ending}" for ending in ("", ".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"datasets.{name}.path: neither {candidates[0]} nor {candidates[1].name} is there")


def _from_hub(part: Part, configuration: str | None, read: Callable[[Row], object], revision: str | None) -> list[Row]:
    import datasets

    remedy = (
        "Give a folder of JSON lines with `path:`, or download it where there is a network and set HF_HUB_OFFLINE=1."
    )
    with Foreign(f"{part.hub} cannot be read from the hub", remedy), _no_proxies_offline():
        rows = list(datasets.load_dataset(part.hub, configuration, split=part.split, revision=revision))
    for index, row in enumerate(rows):
        try:
            read(row)
        except ValueError as error:
            raise UserError(f"{part.hub} {part.split} row {index}: {error}") from None
    return rows


@contextmanager
def _no_proxies_offline() -> Iterator[None]:
    """Hide proxies while the hub is offline: its library prepares them, and fails if it lacks theirs."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    hidden = {name: os.environ[name] for name in os.environ if offline and name.lower().endswith("_proxy")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


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
    """Answer: the field of that name, or the content of the solution's last box; it may be empty."""
    solution = _text(row, "solution")
    answer = row.get("answer")
    if answer is None:
        answer = _last_box(solution)
    if not isinstance(answer, str):
        raise ValueError("field 'answer' is not text, or field 'solution' has no box")
    return _text(row, "problem"), answer.strip(), solution


def _last_box(solution: str) -> str | None:
    r"""The content of the last box, closed or bare (`\boxed 2`).

    >>> _last_box(r"so \boxed{\frac{1}{2}}."), _last_box(r"so $\boxed 2$."), _last_box(r"\boxed{}"), _last_box("no")
    ('\\frac{1}{2}', '2', '', None)
    """
    boxes = list(re.finditer(r"\\f?box(?:ed)?(?![a-zA-Z])\s*", solution))
    if not boxes:
        return None
    start = boxes[-1].end()
    if solution[start : start + 1] != "{":
        return solution[start : start + 1]
    depth = 0
    for place in range(start, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if depth == 0:
            return solution[start + 1 : place].strip()
    return None


def _aime(row: Row) -> tuple[str, str, None]:
    return _text(row, "problem"), _text(row, "answer"), None


def _knights(row: Row) -> tuple[str, str, str]:
    """Answer: `(1) Zoey is a knight` and so on, a line a person. Solution: the published steps, then the answer."""
    answer = _text(row, "solution_text_format")
    steps = row.get("cot_repeat_steps")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ValueError("field 'cot_repeat_steps' is missing or no list of texts")
    solution = "\n".join([_text(row, "cot_head"), *(step.strip() for step in steps), _text(row, "cot_foot")])
    return _text(row, "quiz"), answer, f"{solution}\nCONCLUSION:\n{answer}"


_GSM8K, _MATH500, _AIME = "openai/gsm8k", "HuggingFaceH4/MATH-500", "HuggingFaceH4/aime_2024"
_MATH, _KNIGHTS = "EleutherAI/hendrycks_math", "K-and-K/knights-and-knaves"
_SUBJECTS = "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus"
_EACH = tuple(_SUBJECTS.split())

#: name in `spo.data.DATASETS` -> where it is and how to read it
SOURCES = {
    "gsm8k": Source({split: (Part(split, _GSM8K, split, ("main",)),) for split in ("train", "test")}, _gsm8k),
    # Trained on is all of MATH but MATH-500, as in the PRM800K split (spec §8).
    "math": Source(
        {
            "train": (Part("math/train", _MATH, "train", _EACH), Part("math/test", _MATH, "test", _EACH)),
            "test": (Part("math500/test", _MATH500, "test"),),
        },
        _math,
        holds_test=True,
    ),
    "math500": Source({"test": (Part("test", _MATH500, "test"),)}, _math),
    "aime24": Source({"test": (Part("test", _AIME, "train"),)}, _aime),
    "knights_published": Source(
        {split: (Part(split, _KNIGHTS, "3ppl", (split,)),) for split in ("train", "test")}, _knights
    ),
}
