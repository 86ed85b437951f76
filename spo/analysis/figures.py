"""The figures by kind: each a function from a settings slice and the results folder to a drawing, the table of every
plotted point, and a caption. A new kind is one function, one line in `FIGURES`, and one in `slices.FIGURE_READS`, which
says what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spo.analysis import style
from spo.analysis.bars import accuracy_bars
from spo.analysis.budget import budget_bars
from spo.analysis.credit_error import credit_error
from spo.analysis.curves import learning_curves
from spo.analysis.overfitting import overfitting
from spo.analysis.sampling import generation_time, sampling_points
from spo.analysis.segments import segments
from spo.analysis.slices import Figure
from spo.analysis.style import Drawn
from spo.errors import UserError

#: Kind of figure (`draw:` in the config) -> function.
FIGURES: dict[str, Callable[[Figure, Path], Drawn]] = {
    "accuracy_bars": accuracy_bars,
    "learning_curves": learning_curves,
    "budget_bars": budget_bars,
    "generation_time": generation_time,
    "sampling_points": sampling_points,
    "overfitting": overfitting,
    "segments": segments,
    "credit_error": credit_error,
}


def draw(name: str, settings: Figure, results_root: Path, output_stem: Path, csv: Path) -> None:
    """Write output_stem.png and .pdf, the CSV of every plotted point, and the caption beside the CSV (.txt).

    Raises UserError for an unknown kind of figure or a missing result.
    """
    if settings.draw not in FIGURES:
        raise UserError(f"figures.{name}.draw: no kind of figure is {settings.draw!r}; choose {', '.join(FIGURES)}")
    with style.styled():
        drawn = FIGURES[settings.draw](settings, Path(results_root))
        style.save(drawn.canvas, Path(output_stem), settings.dpi)
    csv = Path(csv)
    csv.parent.mkdir(parents=True, exist_ok=True)
    drawn.table.to_csv(csv, index=False, float_format="%.6g", lineterminator="\n")
    csv.with_suffix(".txt").write_text(drawn.caption + "\n", encoding="utf-8")
