"""What a source of problems delivers, and what must hold of it before it is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from spo.errors import UserError
from spo.types import Problem


@dataclass(frozen=True)
class Splits:
    """Problems of three disjoint splits and worked solutions (rows `id`, `question`, `response`) for SFT.

    `notes` goes into the manifest: revision or checksums of the source, rows dropped.
    """

    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]
    demonstrations: list[dict[str, str]]
    notes: dict[str, object] = field(default_factory=dict)

    def problems(self) -> dict[str, list[Problem]]:
        """The splits that hold problems, by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def normalised(question: str) -> str:
    """A question without differences of case and blanks; two questions are the same if these are equal.

    >>> normalised(" How  MANY?\\n") == normalised("how many?")
    True
    """
    return " ".join(question.casefold().split())


def check(name: str, splits: Splits) -> None:
    """Raise UserError unless ids are unique, nothing is empty, and no question is in two splits.

    Demonstrations may be about training questions and must not be about those of validation and test.
    """
    ids: set[str] = set()
    where: dict[str, str] = {}
    for split, problems in splits.problems().items():
        for problem in problems:
            if problem.id in ids:
                raise UserError(f"dataset {name}: problem id {problem.id!r} occurs twice")
            if not problem.question.strip() or not problem.answer.strip():
                raise UserError(f"dataset {name}: problem {problem.id} has an empty question or answer")
            ids.add(problem.id)
            other = where.setdefault(normalised(problem.question), split)
            if other != split:
                raise UserError(f"dataset {name}: the question of {problem.id} ({split}) is also in {other}: a leak")
    for row in splits.demonstrations:
        if not row["question"].strip() or not row["response"].strip():
            raise UserError(f"dataset {name}: demonstration {row['id']} is empty")
        if where.get(normalised(row["question"]), "train") != "train":
            raise UserError(f"dataset {name}: demonstration {row['id']} is about a held-out question: a leak")


def first_of_each(problems: Iterable[Problem], taken: set[str]) -> list[Problem]:
    """The problems whose question is not in `taken` yet, which is extended by theirs."""
    kept = []
    for problem in problems:
        question = normalised(problem.question)
        if question not in taken:
            taken.add(question)
            kept.append(problem)
    return kept
