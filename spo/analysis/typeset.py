"""Writers of tables: Markdown for reading, CSV with every number, LaTeX for papers, JSON for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from spo import store
from spo.analysis import texts


class Made(NamedTuple):
    """A finished table: every number, one row each (CSV), the cells as readers see them, and the caption.

    `words` are columns of text, which stand to the left as the first column always does; `lead` is a sentence above the
    table; `bold` are rows, by place.
    """

    numbers: pd.DataFrame
    cells: pd.DataFrame
    caption: str
    words: tuple[str, ...] = ()
    bold: frozenset[int] = frozenset()
    lead: str = ""


def write(name: str, title: str, made: Made, stem: Path) -> None:
    """Write stem.md, .csv, .tex, and .json with the cells, which the report shows."""
    store.write_text(f"{stem}.csv", made.numbers.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    store.write_text(f"{stem}.md", markdown(title, made))
    store.write_text(f"{stem}.tex", latex(title, name, made))
    store.write_json(f"{stem}.json", document(title, made))


def document(title: str, made: Made) -> dict[str, Any]:
    """Return a table as JSON: title, caption, columns, whether each is text, rows of cells, whether each is bold."""
    columns = list(made.cells.columns)
    return {
        "title": title,
        "lead": made.lead,
        "caption": made.caption,
        "columns": columns,
        "text": [_left(made, column) for column in columns],
        "rows": [list(row) for _, row in _rows(made)],
        "bold": [bold for bold, _ in _rows(made)],
    }


def markdown(title: str, made: Made) -> str:
    """Return the title, the cells as a pipe table, and the caption."""
    columns = list(made.cells.columns)
    rule = "|" + "|".join(" --- " if _left(made, column) else " ---: " for column in columns) + "|"
    rows = [[_bold(cell, "**{}**" if bold else "{}") for cell in map(texts.markdown, row)] for bold, row in _rows(made)]
    lines = ["| " + " | ".join(row) + " |" for row in (map(texts.markdown, columns), *rows)]
    return "\n".join(
        [
            f"**{texts.markdown(title)}**",
            "",
            *([texts.markdown(made.lead, paragraph=True), ""] if made.lead else []),
            lines[0],
            rule,
            *lines[1:],
            "",
            texts.markdown(made.caption, paragraph=True),
            "",
        ]
    )


def latex(title: str, name: str, made: Made) -> str:
    """Return a booktabs table that compiles on its own packages: `booktabs` only."""
    lefts = [_left(made, column) for column in made.cells.columns]
    left = "l" if not made.words else r"p{0.15\textwidth}"
    columns = "".join(left if is_left else "r" for is_left in lefts)
    rows = [
        [_bold(cell, r"\textbf{{{}}}" if bold else "{}") for cell in map(texts.latex, row)] for bold, row in _rows(made)
    ]
    head, *lines = (" & ".join(row) + r" \\" for row in (map(texts.latex, made.cells.columns), *rows))
    source = "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{texts.latex(title)}. {texts.latex(f'{made.lead} {made.caption}')}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
    lacking = texts.lacking_in_pdflatex(source)
    return f"% Compile with LuaLaTeX or XeLaTeX and a font that has {lacking}\n{source}" if lacking else source


def _bold(cell: str, form: str) -> str:
    return form.format(cell) if cell else ""


def _rows(made: Made) -> list[tuple[bool, tuple[str, ...]]]:
    """Whether each row is bold, and its cells."""
    return [(place in made.bold, row) for place, row in enumerate(made.cells.itertuples(index=False, name=None))]


def _left(made: Made, column: str) -> bool:
    return column in made.words or column == made.cells.columns[0]
