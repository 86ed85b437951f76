"""`knights`: puzzles of knights, who always tell the truth, and knaves, who never do, and searches for their solution.

A search tries cases (who is what), and in a case evaluates what people say. How it is done is a habit of the solver:
in which order cases are tried, whether a case is dropped at its first contradiction, whether the search ends when a
solution is found, whether it is checked again. Wasteful habits cost tokens and not correctness: a short context
punishes them. The setting follows Xie et al., "On memorization of large language models in logical reasoning",
2024; the text is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from random import Random

from spo.errors import UserError

NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gwen", "Hal", "Iris", "Jon", "Kay", "Leo")
KINDS = ("knave", "knight")  # indexed by truthfulness

Case = tuple[bool, ...]  # one entry a person, True for a knight


@dataclass(frozen=True)
class Options:
    """`options:` of the dataset. Shares are probabilities that a solver, drawn once a demonstration, has a habit."""

    people: int = 3
    forms: tuple[str, ...] = ("one", "one", "both", "either", "alike", "alike", "exactly")
    """Kinds of statements, names in `FORMS`; one named twice comes twice as often."""
    thorough: float = 0.5
    """Goes on evaluating a case after its first contradiction."""
    goes_on: float = 0.3
    """Tries the remaining cases after a solution is found."""
    checks_twice: float = 0.3
    """Evaluates the solution once more before answering."""
    clever_order: float = 0.3
    """Tries only cases in which the first speaker's statement fits; the others try all, all knights first."""
    slip: float = 0.005
    """Probability that one evaluation comes out wrong."""
    published: bool = False
    """Answers as those of the published puzzles, `(1) Ann is a knight`, a line a person, after `CONCLUSION:`: what the
    grader `knights` reads."""

    def __post_init__(self) -> None:
        if not 2 <= self.people <= 6:
            raise UserError(f"options.people {self.people}: must be 2 to 6")
        object.__setattr__(self, "forms", tuple(self.forms))
        if not self.forms or set(self.forms) - set(FORMS):
            raise UserError(f"options.forms {list(self.forms)}: give some of {', '.join(FORMS)}")
        for name in ("thorough", "goes_on", "checks_twice", "clever_order", "slip"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"options.{name} {getattr(self, name)}: must lie between 0 and 1")


@dataclass(frozen=True)
class Statement:
    """What one person says: `text`, `true` in which cases, and `filled`: the text with a case's kinds put in."""

    text: str
    true: Callable[[Case], bool]
    filled: Callable[[Case], str]


@dataclass(frozen=True)
class Puzzle:
    """People, what each of them says, and the only case that fits."""

    names: tuple[str, ...]
    statements: tuple[Statement, ...]
    solution: Case
    published: bool = False

    @property
    def question(self) -> str:
        said = (f"{name} says: {said.text}" for name, said in zip(self.names, self.statements, strict=True))
        return f"{' '.join(said)} Who is who?"

    @property
    def answer(self) -> str:
        if not self.published:
            return _named(self.names, self.solution)
        people = enumerate(zip(self.names, self.solution, strict=True), start=1)
        return "\n".join(f"({number}) {name} is a {KINDS[knight]}" for number, (name, knight) in people)


def draw(rng: Random, options: Options) -> Puzzle:
    """A puzzle with exactly one solution, by trying statements until that is so."""
    names = tuple(rng.sample(NAMES, options.people))
    while True:
        statements = tuple(_statement(rng, speaker, names, options) for speaker in range(options.people))
        found = [case for case in _cases(options.people) if all(map(_fits, statements, case, [case] * len(case)))]
        if len(found) == 1:
            return Puzzle(names, statements, found[0], options.published)


def demonstrate(puzzle: Puzzle, rng: Random, options: Options) -> str:
    """The search of a solver with habits drawn at random, ending in `#### answer`, or `CONCLUSION:` and the
    published form; a slip can make it wrong."""
    thorough, goes_on, twice, clever = (
        rng.random() < share
        for share in (options.thorough, options.goes_on, options.checks_twice, options.clever_order)
    )
    return search(puzzle, thorough, goes_on, twice, clever, lambda: rng.random() < options.slip)


def search(
    puzzle: Puzzle,
    thorough: bool = False,
    goes_on: bool = False,
    twice: bool = False,
    clever: bool = True,
    slips: Callable[[], bool] = lambda: False,
) -> str:
    """The search of one solver; `slips()` is asked at each evaluation whether its outcome is taken for the opposite."""
    lines: list[str] = []
    solution: Case | None = None
    for case in _cases(len(puzzle.names)):
        if clever and not _fits(puzzle.statements[0], case[0], case):
            continue
        if _try(puzzle, case, thorough, slips, lines):
            solution = solution or case
            if not goes_on:
                break
    if solution is None:  # only after a slip: settle for the case tried last
        solution = case
    elif twice:
        lines.append("Again")
        _try(puzzle, solution, True, slips, lines)
    mark = "CONCLUSION:\n" if puzzle.published else "#### "
    return "\n".join([*lines, mark + replace(puzzle, solution=solution).answer])


def _try(puzzle: Puzzle, case: Case, thorough: bool, slips: Callable[[], bool], lines: list[str]) -> bool:
    """Write the evaluation of a case, a line for each statement; True if nothing contradicts."""
    lines.append(f"{_named(puzzle.names, case)}?")
    good = True
    for name, knight, statement in zip(puzzle.names, case, puzzle.statements, strict=True):
        true = statement.true(case) != slips()
        fits = true == knight
        good = good and fits
        lines.append(f"{name} {KINDS[knight]}: {statement.filled(case)}, {str(true).lower()} {'ok' if fits else 'bad'}")
        if not fits and not thorough:
            break
    return good


def _cases(people: int) -> Iterator[Case]:
    """All cases, from all knights to all knaves."""
    return product((True, False), repeat=people)


def _fits(statement: Statement, knight: bool, case: Case) -> bool:
    return statement.true(case) == knight


def _named(names: tuple[str, ...], case: Case) -> str:
    return ", ".join(f"{name} {KINDS[knight]}" for name, knight in zip(names, case, strict=True))


# ---- statements ------------------------------------------------------------------------------------------------------


def _statement(rng: Random, speaker: int, names: tuple[str, ...], options: Options) -> Statement:
    others = [person for person in range(len(names)) if person != speaker]
    return FORMS[rng.choice(options.forms)](rng, speaker, others, names)


def _one(rng: Random, speaker: int, others: list[int], names: tuple[str, ...]) -> Statement:
    x, knight = rng.choice(others), rng.random() < 0.4
    return Statement(
        f"{names[x]} is a {KINDS[knight]}.",
        lambda case: case[x] == knight,
        lambda case: f"{KINDS[case[x]]} is {KINDS[knight]}",
    )


def _both(rng: Random, speaker: int, others: list[int], names: tuple[str, ...]) -> Statement:
    if len(others) < 2:
        return _one(rng, speaker, others, names)
    x, y = sorted(rng.sample(others, 2))
    knight = rng.random() < 0.5
    return Statement(
        f"{names[x]} and {names[y]} are both {KINDS[knight]}s.",
        lambda case: case[x] == case[y] == knight,
        lambda case: f"{KINDS[case[x]]} and {KINDS[case[y]]} both {KINDS[knight]}s",
    )


def _either(rng: Random, speaker: int, others: list[int], names: tuple[str, ...]) -> Statement:
    x, y = rng.sample([*others, speaker] if len(others) < 2 else others, 2)
    first, second = rng.random() < 0.5, rng.random() < 0.5
    return Statement(
        f"{_called(x, speaker, names)} a {KINDS[first]} or {_called(y, speaker, names)} a {KINDS[second]}.",
        lambda case: case[x] == first or case[y] == second,
        lambda case: f"{KINDS[case[x]]} is {KINDS[first]} or {KINDS[case[y]]} is {KINDS[second]}",
    )


def _alike(rng: Random, speaker: int, others: list[int], names: tuple[str, ...]) -> Statement:
    x, y = rng.choice(others), speaker
    if len(others) > 1 and rng.random() < 0.4:
        x, y = sorted(rng.sample(others, 2))
    alike = rng.random() < 0.5
    word = "alike" if alike else "different"
    return Statement(
        f"{names[x]} and {'I' if y == speaker else names[y]} are {word}.",
        lambda case: (case[x] == case[y]) == alike,
        lambda case: f"{KINDS[case[x]]} and {KINDS[case[y]]} {word}",
    )


def _exactly(rng: Random, speaker: int, others: list[int], names: tuple[str, ...]) -> Statement:
    count = rng.randint(1, len(names) - 1)
    return Statement(
        f"Exactly {count} of us {'is a knight' if count == 1 else 'are knights'}.",
        lambda case: sum(case) == count,
        lambda case: f"{sum(case)} of us is {count}",
    )


def _called(person: int, speaker: int, names: tuple[str, ...]) -> str:
    return "I am" if person == speaker else f"{names[person]} is"


#: name in `options.forms` -> a statement of that form
FORMS = {"one": _one, "both": _both, "either": _either, "alike": _alike, "exactly": _exactly}
