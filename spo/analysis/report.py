"""results/report.html: figures, tables, what they say, problems to look at, and how it all came about, in one file that
needs no network."""

from __future__ import annotations

import base64
import datetime
import os
import platform
import subprocess
from html import escape
from importlib import metadata
from pathlib import Path

from spo.analysis import examples, results, statements
from spo.analysis.slices import Report, Study
from spo.errors import UserError

#: Packages whose versions decide the numbers.
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "pandas", "matplotlib", "snakemake")
#: Size of a figure on the page, of its own pixels: so that it is sharp on dense screens.
SHOWN = 0.6
#: Figures wider than this, in pixels on the page, are scrolled on a phone rather than shrunk.
PHONE = 600

STYLE = """
:root { --ink: #1c1c1c; --quiet: #5f5f5f; --paper: #ffffff; --card: #f6f6f4; --line: #dcdcd8; --link: #0060a0;
  --good: #00694d; --bad: #a33c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --quiet: #a5a5a0; --paper: #161617; --card: #222224;
  --line: #3a3a3c; --link: #7cc0ef; --good: #5fd0a8; --bad: #f0a070; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4rem 0; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
p, li { max-width: 46rem; }
a { color: var(--link); }
nav a { margin-right: 1rem; white-space: nowrap; }
figure { margin: 1.2rem 0 2rem; }
figure .scroll { background: #ffffff; padding: 0.5rem; border: 1px solid var(--line); border-radius: 6px;
  width: fit-content; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; }
@media (max-width: 40rem) { figure img.wide { max-width: none; } }
figcaption, .quiet { color: var(--quiet); font-size: 0.875rem; margin-top: 0.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 5rem; }
pre { background: var(--card); border-radius: 6px; padding: 0.7rem 0.9rem; margin: 0.4rem 0 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 0.85rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
.right { color: var(--good); } .wrong { color: var(--bad); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0.25rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
"""


def write(settings: Report, results_root: Path, figures_root: Path, output: Path) -> None:
    """Write the report to `output`.

    Raises UserError where a figure, table or result that it shows is missing.
    """
    root = Path(results_root)
    sections = [
        ("says", "What this run says", "".join(_says(root, study) for study in settings.experiments)),
        ("figures", "Figures", "".join(_figure(name, root, Path(figures_root)) for name in settings.figures)),
        ("tables", "Tables", "".join(_table(name, root) for name in settings.tables)),
        ("problems", "Problems to look at", _problems(root, settings.experiments)),
        ("how", "How it was made", _made(settings, root)),
    ]
    sections = [(key, title, body) for key, title, body in sections if body]
    links = "".join(f'<a href="#{key}">{title}</a> ' for key, title, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{body}</section>' for key, title, body in sections)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(settings.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><style>{STYLE}</style></head><body><header><h1>{escape(settings.title)}</h1>'
        f'<p class="quiet">Segment Policy Optimization (arXiv 2505.23564), study {escape(settings.study)}</p>'
        f"<nav>{links}</nav></header><main>{body}</main></body></html>\n"
    )
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(page, encoding="utf-8")


def _says(root: Path, study: Study) -> str:
    intro, *sentences = statements.statements(root, study)
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    remark = (
        "Each interval holds for its own comparison; among twenty comparisons without any real difference, about one "
        "would exclude 0 by chance."
    )
    title = escape(study.title or study.name)
    return f'<h3>{title}</h3><p>{escape(intro)}</p><ul>{items}</ul><p class="quiet">{remark}</p>'


def _figure(name: str, root: Path, figures_root: Path) -> str:
    image = _file(figures_root / f"{name}.png", name)
    caption = _file(root / "figures" / f"{name}.txt", name).decode().strip()
    download = _download(f"{name}.csv", _file(root / "figures" / f"{name}.csv", name))
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    width = round(SHOWN * int.from_bytes(image[16:20], "big"))  # a PNG's width in pixels is at bytes 16 to 19
    kind = ' class="wide"' if width > PHONE else ""
    return (
        f'<figure id="{escape(name)}"><div class="scroll"><img{kind} src="{source}" width="{width}" '
        f'alt="{escape(caption, quote=True)}"></div>'
        f"<figcaption><b>{escape(name)}</b> {escape(caption)} {download}</figcaption></figure>"
    )


def _table(name: str, root: Path) -> str:
    lines = _file(root / "tables" / f"{name}.md", name).decode().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    title, *words = [line.strip("*") for line in lines if line and not line.startswith("|")]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[2:])
    download = _download(f"{name}.csv", _file(root / "tables" / f"{name}.csv", name))
    return (
        f'<h3 id="{escape(name)}">{escape(title)}</h3><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
        f'{body}</tbody></table></div><p class="quiet"><b>{escape(name)}</b> {escape(" ".join(words))} {download}</p>'
    )


def _problems(root: Path, studies: tuple[Study, ...]) -> str:
    parts = []
    for study in {study.dataset: study for study in reversed(studies)}.values():
        parts.insert(0, f"<h3>{escape(study.dataset)}</h3>" + "".join(map(_example, examples.examples(root, study))))
    return "".join(parts)


def _example(example: examples.Example) -> str:
    answer = f'<p class="quiet">Answer: {escape(example.answer)}</p>' if example.answer else ""
    shown = "".join(
        f"<p>{escape(part.who)}{_mark(part.correct)}</p><pre>{escape(part.text)}</pre>" for part in example.shown
    )
    return f"<p>Problem</p><pre>{escape(example.question)}</pre>{answer}{shown}"


def _mark(correct: bool | None) -> str:
    if correct is None:
        return ""
    return ', <span class="right">graded right ✓</span>' if correct else ', <span class="wrong">graded wrong ✗</span>'


def _made(settings: Report, root: Path) -> str:
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    facts = {
        "command": settings.command,
        "config digest": settings.config_digest,
        "commit of this page": _commit(),
        "Python": platform.python_version(),
        "packages": versions,
        "machine": f"{_processor()}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}",
        "time": _time(root),
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<dl>{rows}</dl>"


def _time(root: Path) -> str:
    if not (root / "benchmarks").exists():
        return "not measured (the jobs were not run by Snakemake)"
    jobs = results.benchmarks(root)
    span = float(jobs["ended"].max() - (jobs["ended"] - jobs["seconds"]).min())
    total = float(jobs["seconds"].sum())
    return (
        f"{span / 60:.1f} minutes from the start of the first job to the end of the last; {len(jobs)} jobs, "
        f"{total / 60:.1f} minutes when added up"
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown (git is not installed)"
    if commit.returncode:
        return "unknown (not a git checkout)"
    return commit.stdout.strip() + (" with local changes" if changed.stdout.strip() else "")


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def _file(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run `snakemake --cores all {name}`") from None


def _download(name: str, content: bytes) -> str:
    source = f"data:text/csv;base64,{base64.b64encode(content).decode()}"
    return f'<a download="{escape(name)}" href="{source}">numbers (CSV)</a>'
