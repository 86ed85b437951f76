"""Splits of problems that a generator draws: as many as asked for, no question twice, each from a seed of its own."""

from __future__ import annotations

from random import Random
from types import ModuleType

from spo import seeds
from spo.data.splits import Splits, normalised
from spo.errors import UserError
from spo.settings import Dataset
from spo.types import Problem

REPEATS_IN_A_ROW = 1000  # this many known questions one after another mean that there are no new ones to be had


def load(settings: Dataset, name: str, source: ModuleType) -> Splits:
    """Draw every split from `source`, a module with `Options`, `draw` and `demonstrate`.

    Held-out splits are drawn first, so their problems do not depend on how many others are asked for. Raises UserError
    for unknown or wrong options, a split without size, or more problems than the options allow.
    """
    options = check_settings(settings, name, source)
    taken: set[str] = set()

    def drawn(split: str, count: int):
        found = repeats = 0
        while found < count:
            rng = _random(settings, split, found, repeats)
            item = source.draw(rng, options)
            question = normalised(item.question)
            if question in taken:
                repeats += 1
                if repeats == REPEATS_IN_A_ROW:
                    raise UserError(f"datasets.{name}.{split}: these options give only {found} different problems")
                continue
            taken.add(question)
            yield f"{name}-{split}-{found}", item, rng
            found, repeats = found + 1, 0

    def problems(split: str, count: int) -> list[Problem]:
        return [Problem(identity, item.question, item.answer) for identity, item, _ in drawn(split, count)]

    test, validation = problems("test", settings.test), problems("validation", settings.validation)
    train = problems("train", settings.train)
    demonstrations = [
        {"id": identity, "question": item.question, "response": source.demonstrate(item, rng, options)}
        for identity, item, rng in drawn("demonstrations", settings.demonstrations)
    ]
    return Splits(train, validation, test, demonstrations)


def first_question(settings: Dataset, name: str, source: ModuleType, split: str) -> str:
    """Return the first question that `load` would draw for a split if no earlier split had it."""
    return source.draw(_random(settings, split, 0, 0), check_settings(settings, name, source)).question


def _random(settings: Dataset, split: str, found: int, repeats: int) -> Random:
    return Random(seeds.key(settings.seed, settings.source, split, found, repeats))


def check_settings(settings: Dataset, name: str, source: ModuleType):
    """The source's `Options`; raises UserError for unknown or wrong options and for a split without size."""
    from pydantic import TypeAdapter, ValidationError

    for split in ("train", "test"):
        if getattr(settings, split) is None:
            raise UserError(f"datasets.{name}.{split}: say how many problems to generate")
    known = source.Options.__dataclass_fields__
    if unknown := sorted(set(settings.options) - set(known)):
        raise UserError(f"datasets.{name}.options.{unknown[0]}: unknown option; known are {', '.join(known)}")
    try:
        return TypeAdapter(source.Options).validate_python(settings.options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"datasets.{name}.options.{where}: {first['msg'].lower()}, not {first['input']!r}") from None
    except UserError as error:
        raise UserError(f"datasets.{name}.{error}") from None
