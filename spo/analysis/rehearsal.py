"""Rehearsal: every figure, every table and the report of a study, tried on a miniature before hours of training."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spo.analysis import figures, miniature, report, tables
from spo.analysis.slices import Arm, Evidence, Figure, Rehearsal
from spo.errors import RunFailure, UserError

#: Seeds of a method, and files of an audit, that the miniature has: as many as make an interval.
SEEDS = 2
#: Pixels per inch of figures that nobody looks at.
DPI = 40
#: What drawing libraries raise for settings that they cannot draw.
DRAWING_FAILS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
DRAWING_FAILS += (Warning,)
#: How matplotlib says that labels leave no room for what they label.
NO_ROOM = "constrained_layout not applied"


def run(plan: Rehearsal) -> list[str]:
    """Draw everything in a folder that is removed afterwards; return a line for each letter that no font has.

    Raises UserError, one line that names the key, for the first thing that fails.
    """
    plan = _small(plan)
    with tempfile.TemporaryDirectory(prefix="spo-rehearsal-") as folder:
        root, remarks = Path(folder), {}
        miniature.write(root, plan)
        for name, figure in plan.figures.items():
            small = dataclasses.replace(figure, dpi=DPI)
            with _named(f"figures.{name}", root):
                stem, csv = root / "pictures" / name, root / "figures" / f"{name}.csv"
                remarks[f"figures.{name}"] = figures.draw(name, small, root, stem, csv, ("png",))
        for name, table in plan.tables.items():
            with _named(f"tables.{name}", root):
                tables.write(name, table, root, root / "tables" / name)
        with _named("report", root):
            report.write(plan.report, root, root / "pictures", root / "report.html")
    return [f"{key}: {remark}" for key, remark in remarks.items() if remark]


@contextmanager
def _named(key: str, root: Path) -> Iterator[None]:
    """Turn whatever is raised inside of the block, and labels without room, into one line with its key."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=NO_ROOM)
            yield
    except (UserError, RunFailure) as error:
        raise UserError(f"{key}: {str(error).replace(f'{root}/', '')}") from None
    except DRAWING_FAILS as error:
        said = " ".join(str(error).split())[:200]
        if said.startswith(NO_ROOM):
            raise UserError(f"{key}: its labels leave no room to draw in; shorten the longest") from None
        raise UserError(f"{key}: cannot be drawn ({type(error).__name__}: {said}); change its settings") from error


def _small(value: Any) -> Any:
    """Return settings with at most `SEEDS` runs of each method and files of each audit, at any depth."""
    if isinstance(value, tuple):
        return tuple(map(_small, value))
    if isinstance(value, dict):
        return {key: _small(part) for key, part in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _small(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Arm):
        fields["runs"] = fields["runs"][:SEEDS]
    if isinstance(value, Evidence | Figure):
        fields["files"] = fields["files"][:SEEDS]
    return dataclasses.replace(value, **fields)
