"""The figures by kind: each a function from a settings slice and the results folder to a drawing, the table of every
plotted point, and a caption. A new kind is one function, one line in `FIGURES`, and one in `slices.FIGURE_READS`, which
says what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spo import store
from spo.analysis import letters, style, texts
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


def draw(
    name: str,
    settings: Figure,
    results_root: Path,
    output_stem: Path,
    csv: Path,
    formats: tuple[str, ...] = style.FORMATS,
) -> str:
    """Write output_stem.png and .pdf, the CSV of every plotted point, and the caption beside the CSV (.txt).

    Letters that the usual font lacks come from another font of this machine; if none has them, the caption says so, and
    that sentence is returned.
    Raises UserError for an unknown kind of figure or a missing result.
    """
    if settings.draw not in FIGURES:
        raise UserError(f"figures.{name}.draw: no kind of figure is {settings.draw!r}; choose {', '.join(FIGURES)}")
    settings = texts.printable(settings)
    drawn, lacking = _saved(settings, Path(results_root), Path(output_stem), formats)
    if lacking and (fonts := letters.fallbacks(lacking)):
        drawn, lacking = _saved(settings, Path(results_root), Path(output_stem), style.FORMATS, fonts)
    remark = letters.remark(lacking)
    caption = f"{drawn.caption} {remark}".strip()
    store.write_text(csv, drawn.table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    store.write_text(Path(csv).with_suffix(".txt"), caption + "\n")
    return remark


def _saved(
    settings: Figure, root: Path, stem: Path, formats: tuple[str, ...], fonts: tuple[str, ...] = ()
) -> tuple[Drawn, set[str]]:
    """Draw and save a figure; return it with the letters that it lacks."""
    with letters.missing() as lacking, style.styled(fonts):
        drawn = FIGURES[settings.draw](settings, root)
        style.save(drawn.canvas, stem, settings.dpi, formats)
    return drawn, lacking
