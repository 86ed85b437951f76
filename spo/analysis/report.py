"""results/report.html: figures, tables, what they say, problems to look at, and how it all came about, in one file that
needs no network."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import NamedTuple

from spo import store
from spo.analysis import examples, provenance, statements, texts
from spo.analysis.slices import Report, Study
from spo.errors import UserError

#: Size of a figure on the page, of its own pixels: so that it is sharp on dense screens.
SHOWN = 0.6
#: Figures wider than this, in pixels on the page, are scrolled on a phone rather than shrunk.
PHONE = 600
#: Text of more characters than this gets a wide column of a table.
LONG = 30
#: Pages that lie beside the report where the study makes them, and what their links say.
PAGES = {"trajectories.html": "Trajectories to look at"}
REMARK = (
    '<p class="quiet">Each interval holds for its own comparison; among twenty comparisons without any real '
    "difference, about one would exclude 0 by chance.</p>"
)

STYLE = """
:root { --ink: #1c1c1c; --quiet: #5f5f5f; --paper: #ffffff; --card: #f6f6f4; --line: #dcdcd8; --link: #0060a0;
  --good: #00694d; --bad: #a33c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --quiet: #a5a5a0; --paper: #161617; --card: #222224;
  --line: #3a3a3c; --link: #7cc0ef; --good: #5fd0a8; --bad: #f0a070; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4rem 0; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
p, li { max-width: 46rem; }
a { color: var(--link); }
nav { margin: 1rem 0; padding: 0.8rem 1rem; background: var(--card); border-radius: 6px; font-size: 0.875rem; }
nav ul { margin: 0; padding: 0; list-style: none; }
nav li { break-inside: avoid; padding: 0.12rem 0; }
nav > ul > li { padding: 0.25rem 0; }
nav ul ul { padding-left: 0.9rem; }
@media (min-width: 45rem) { nav > ul { columns: 2; column-gap: 2.5rem; } }
summary { cursor: pointer; color: var(--link); }
section, figure, h3 { scroll-margin-top: 0.8rem; }
figure { margin: 1.2rem 0 2rem; }
figure .scroll { background: #ffffff; padding: 0.5rem; border: 1px solid var(--line); border-radius: 6px;
  width: fit-content; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; }
@media (max-width: 40rem) { figure img.wide { max-width: none; } }
figcaption, .quiet { color: var(--quiet); font-size: 0.875rem; margin-top: 0.5rem; max-width: 52rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
th { font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 4rem; }
.left { text-align: left; white-space: normal; min-width: 4.5rem; }
.long { min-width: 10rem; }
pre { background: var(--card); border-radius: 6px; padding: 0.7rem 0.9rem; margin: 0.4rem 0 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 0.85rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
.right { color: var(--good); } .wrong { color: var(--bad); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0.25rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
"""


class Section(NamedTuple):
    """A part of the page: its anchor, its heading, its body, and the (anchor, words) of what it shows."""

    anchor: str
    heading: str
    body: str
    shown: tuple[tuple[str, str], ...] = ()


class Shown(NamedTuple):
    """A figure or table on the page."""

    name: str
    title: str
    body: str


def write(settings: Report, results_root: Path, figures_root: Path, output: Path) -> None:
    """Write the report to `output`.

    Raises UserError where a figure, table or result that it shows is missing.
    """
    root, settings = Path(results_root), texts.printable(settings)
    sections = [
        *_pictured(settings, root, Path(figures_root)),
        Section("problems", "Problems to look at", _problems(root, settings.experiments)),
        Section("how", "How it was made", _made(settings, root)),
    ]
    sections = [section for section in sections if section.body]
    body = "".join(f'<section id="{s.anchor}"><h2>{escape(s.heading)}</h2>{s.body}</section>' for s in sections)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(settings.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><style>{STYLE}</style></head><body><header><h1>{escape(settings.title)}</h1>'
        f'<p class="quiet">Segment Policy Optimization (arXiv 2505.23564), study {escape(settings.study)}</p>'
        f"{_contents(sections, Path(output).parent)}</header><main>{body}</main></body></html>\n"
    )
    store.write_text(output, page)


def _contents(sections: list[Section], folder: Path) -> str:
    entries = []
    for section in sections:
        inner = "".join(
            f'<li><a href="#{anchor}">{escape(words)}</a> <span class="quiet">{anchor}</span></li>'
            for anchor, words in section.shown
        )
        nested = f"<ul>{inner}</ul>" if inner else ""
        entries.append(f'<li><a href="#{section.anchor}"><b>{escape(section.heading)}</b></a>{nested}</li>')
    pages = [
        f'<li><a href="{name}"><b>{words}</b></a></li>' for name, words in PAGES.items() if (folder / name).exists()
    ]
    return f"<nav><ul>{''.join([*entries, *pages])}</ul></nav>"


def _pictured(settings: Report, root: Path, figures_root: Path) -> list[Section]:
    """A section for what shows the whole study, and one an experiment: what it says, its tables and figures."""
    pictures = [_table(name, root) for name in settings.tables]
    pictures += [_figure(name, root, figures_root) for name in settings.figures]
    names = {study.name for study in settings.experiments}
    groups: dict[str, list[Shown]] = {}
    for picture in pictures:
        key = settings.experiment_of.get(picture.name, "")
        groups.setdefault(key if key in names else "", []).append(picture)
    sections = [_section("all-experiments", "All experiments together", "", groups.get("", []))]
    for number, study in enumerate(settings.experiments):
        several = sum(other.name == study.name for other in settings.experiments) > 1
        heading = (study.title or study.name) + (f", {study.dataset}, {study.protocol}" if several else "")
        words = _says(root, study) + (REMARK if number == 0 else "")
        # Of an experiment on several test sets, the first shows the pictures.
        shown = groups.pop(study.name, [])
        sections.append(_section(f"{study.name}-{study.dataset}-{study.protocol}", heading, words, shown))
    return sections


def _section(anchor: str, heading: str, words: str, pictures: list[Shown]) -> Section:
    body = words + "".join(picture.body for picture in pictures)
    shown = tuple((escape(each.name), each.title) for each in pictures)
    return Section(escape(anchor), heading[:1].upper() + heading[1:], body, shown)


def _says(root: Path, study: Study) -> str:
    said = statements.statements(root, study)
    more = "".join(f"<li>{escape(sentence)}</li>" for sentence in (*said.accuracies, said.cost) if sentence)
    differences = "".join(f"<li>{escape(sentence)}</li>" for sentence in said.differences)
    return (
        f"<p>{escape(said.measured)}</p><ul>{differences}</ul>"
        f"<details><summary>Accuracies and costs</summary><ul>{more}</ul></details>"
    )


def _figure(name: str, root: Path, figures_root: Path) -> Shown:
    image = _file(figures_root / f"{name}.png", name)
    caption = _file(root / "figures" / f"{name}.txt", name).decode().strip()
    download = _download(f"{name}.csv", _file(root / "figures" / f"{name}.csv", name))
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    width = round(SHOWN * int.from_bytes(image[16:20], "big"))  # a PNG's width in pixels is at bytes 16 to 19
    kind = ' class="wide"' if width > PHONE else ""
    body = (
        f'<figure id="{escape(name)}"><div class="scroll"><img{kind} src="{source}" width="{width}" '
        f'alt="{escape(caption, quote=True)}"></div>'
        f"<figcaption><b>{escape(name)}</b> {escape(caption)} {download}</figcaption></figure>"
    )
    return Shown(name, caption.partition(". ")[0], body)


def _table(name: str, root: Path) -> Shown:
    table = json.loads(_file(root / "tables" / f"{name}.json", name))
    head = _row("th", table["columns"], table["text"])
    rows = zip(table["rows"], table["bold"], strict=True)
    body = "".join(_row("td", cells, table["text"], bold) for cells, bold in rows)
    download = _download(f"{name}.csv", _file(root / "tables" / f"{name}.csv", name))
    lead = f"<p>{escape(table['lead'])}</p>" if table["lead"] else ""
    body = (
        f'<h3 id="{escape(name)}">{escape(table["title"])}</h3>{lead}<div class="scroll"><table><thead>{head}</thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="quiet"><b>{escape(name)}</b> {escape(table["caption"])} {download}</p>'
    )
    return Shown(name, table["title"], body)


def _row(kind: str, cells: list[str], texts: list[bool], bold: bool = False) -> str:
    """Return a table row of th or td; columns of text stand to the left, long ones are wide."""
    shown = [f"<b>{escape(cell)}</b>" if bold and cell else escape(cell) for cell in cells]
    kinds = ["left long" if len(cell) > LONG else "left" for cell in cells]
    classes = [f' class="{words}"' if left else "" for words, left in zip(kinds, texts, strict=True)]
    return f"<tr>{''.join(f'<{kind}{c}>{t}</{kind}>' for c, t in zip(classes, shown, strict=True))}</tr>"


def _problems(root: Path, studies: tuple[Study, ...]) -> str:
    parts = []
    for study in {study.dataset: study for study in reversed(studies)}.values():
        parts.insert(0, f"<h3>{escape(study.dataset)}</h3>" + "".join(map(_example, examples.examples(root, study))))
    return "".join(parts)


def _example(example: examples.Example) -> str:
    answer = f'<p class="quiet">Answer: {escape(example.answer)}</p>' if example.answer else ""
    shown = "".join(
        f"<p>{escape(part.who)}{_mark(part.correct)}</p><pre>\n{escape(part.text)}</pre>" for part in example.shown
    )
    return f"<p>Problem</p><pre>\n{escape(example.question)}</pre>{answer}{shown}"


def _mark(correct: bool | None) -> str:
    if correct is None:
        return ""
    return ', <span class="right">graded right ✓</span>' if correct else ', <span class="wrong">graded wrong ✗</span>'


def _made(settings: Report, root: Path) -> str:
    facts = provenance.facts(settings, root)
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<dl>{rows}</dl>"


def _file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `snakemake --cores all {name}`") from None


def _download(name: str, content: bytes) -> str:
    source = f"data:text/csv;base64,{base64.b64encode(content).decode()}"
    return f'<a download="{escape(name)}" href="{source}">numbers (CSV)</a>'
