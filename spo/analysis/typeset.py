"""How every table is written: Markdown for reading, CSV with every number, LaTeX for papers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Made(NamedTuple):
    """A finished table: every number, one row each (CSV), the cells as readers see them, and the caption.

    `words` are columns of text, which stand to the left as the first column always does; `bold` are rows, by place.
    """

    numbers: pd.DataFrame
    cells: pd.DataFrame
    caption: str
    words: tuple[str, ...] = ()
    bold: frozenset[int] = frozenset()


#: Characters that LaTeX reads as commands or lacks, and how they are written.
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "–": "--", "−": "$-$"}
    | {"±": r"$\pm$", "§": r"\S{}"}
)


def write(name: str, title: str, made: Made, stem: Path) -> None:
    """Write stem.md, .csv and .tex."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    made.numbers.to_csv(f"{stem}.csv", index=False, float_format="%.6g", lineterminator="\n")
    Path(f"{stem}.md").write_text(markdown(title, made), encoding="utf-8")
    Path(f"{stem}.tex").write_text(latex(title, name, made), encoding="utf-8")


def markdown(title: str, made: Made) -> str:
    """The title, the cells as a pipe table, and the caption."""
    columns = list(made.cells.columns)
    header = "| " + " | ".join(columns) + " |"
    rule = "|" + "|".join(" --- " if _left(made, column) else " ---: " for column in columns) + "|"
    rows = [[f"**{cell}**" if bold and cell else cell for cell in row] for bold, row in _rows(made)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"**{title}**", "", header, rule, *lines, "", made.caption, ""])


def latex(title: str, name: str, made: Made) -> str:
    """A booktabs table that compiles on its own packages: `booktabs` only."""
    lefts = [_left(made, column) for column in made.cells.columns]
    text = "l" if not made.words else r"p{0.15\textwidth}"
    columns = "".join(text if left else "r" for left in lefts)
    head = " & ".join(map(escaped, made.cells.columns)) + r" \\"
    rows = [
        [rf"\textbf{{{escaped(cell)}}}" if bold and cell else escaped(cell) for cell in row]
        for bold, row in _rows(made)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(title)}. {escaped(made.caption)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return text.translate(LATEX)


def _rows(made: Made) -> list[tuple[bool, tuple[str, ...]]]:
    """Whether each row is bold, and its cells."""
    return [(place in made.bold, row) for place, row in enumerate(made.cells.itertuples(index=False, name=None))]


def _left(made: Made, column: str) -> bool:
    return column in made.words or column == made.cells.columns[0]
