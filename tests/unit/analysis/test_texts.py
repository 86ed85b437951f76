"""Labels, titles and notes of any letters, in figures, tables and the report."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from spo.analysis import figures, letters, report, style, tables, texts, typeset
from spo.analysis.slices import Figure, Report, Table
from spo.analysis.typeset import Made
from tests.finished_study import fill, make_study

ODD = ("a$b_{c$d", "pass@1 $5_, not $6_", "GRPO | mask", "a\nb", r"\alpha `x` *y* <b>&amp; ~z~", "50 % {x} ^ #")


def labelled(labels: tuple[str, ...], **changes):
    study = make_study(("grpo", "spo_chain"), seeds=2, **changes)
    arms = tuple(dataclasses.replace(arm, label=label) for arm, label in zip(study.arms, labels, strict=True))
    return dataclasses.replace(study, arms=arms)


# ---- Markdown --------------------------------------------------------------------------------------------------------


def cells(row: str) -> list[str]:
    """Cells of a row of a GitHub table, with its backslash escapes undone (GFM, section 4.10; CommonMark, 2.4)."""
    inner = row.removeprefix("|").removesuffix("|")
    parts = re.split(r"(?<!\\)((?:\\\\)*)\|", inner)
    joined = ["".join(pair) for pair in zip(parts[::2], [*parts[1::2], ""], strict=True)]
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell).strip() for cell in joined]


@given(st.text(st.sampled_from("ab1 |\\`*_~$<>&;#[](:!\n\r\u2028\t-+.\x07"), max_size=12))
def test_markdown_keeps_any_cell_in_its_column(label):
    made = Made(pd.DataFrame(), pd.DataFrame({"method": [label, "PPO"], "n": ["1", "2"]}), "A caption.")
    lines = typeset.markdown("T", made).split("\n")
    assert [cells(line) for line in lines[4:6]] == [[texts.one_line(label).strip(), "1"], ["PPO", "2"]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("`a` **b** ~~c~~", r"\`a\` \*\*b\*\* \~\~c\~\~"),
        ("<b>&amp; & c", r"\<b>\&amp; & c"),
        ("_a_ b_c", r"\_a\_ b_c"),
        ("[a](b) [c]: [0.1, 0.2]", r"[a\](b) [c\]: [0.1, 0.2]"),
        ("$5 and $6", r"\$5 and \$6"),
        ("a\\|b", r"a\\\|b"),
        ("−1.2 [0.3]", "−1.2 [0.3]"),
    ],
)
def test_markdown_escapes_what_it_would_obey(text, shown):
    assert texts.markdown(text) == shown


# ---- LaTeX -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (r"50 % & a_b # $ {x}", r"50 \% \& a\_b \# \$ \{x\}"),
        ("~ ^ \\", r"\textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ("a < b > c | d", r"a \textless{} b \textgreater{} c \textbar{} d"),
        ("a--b---c", r"a-{}-b-{}-{}-c"),
        ("[a] [b]", r"{[}a] [b]"),  # after the \\ of the row before, [a] would be its argument
        ("*a", r"{*}a"),
        ("ρ and λ", r"$\rho$ and $\lambda$"),
        ("one\n\ntwo", "one two"),  # an empty line would end the caption's paragraph
    ],
)
def test_latex_prints_every_letter(text, source):
    assert texts.latex(text) == source


def test_latex_names_letters_that_need_another_engine():
    made = Made(pd.DataFrame(), pd.DataFrame({"method": ["GRPO 基线"]}), "A caption – short.")
    assert typeset.latex("T", "t", made).startswith("% Compile with LuaLaTeX or XeLaTeX and a font that has 基线\n")
    plain = made._replace(cells=pd.DataFrame({"method": ["GRPO – β, é"]}))
    assert typeset.latex("T", "t", plain).startswith("\\begin{table}")


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(figures.FIGURES) - {"segments", "credit_error"}))
def test_draw_takes_labels_literally(kind, tmp_path, monkeypatch):
    study = labelled(ODD[:2])
    fill(tmp_path, study, problems=8, iterations=6)
    seen = []
    monkeypatch.setattr(style, "save", lambda canvas, *_: seen.extend(canvas.findobj(match=Text)))
    settings = Figure(draw=kind, title="$a_{b$ \\x", study=study, note="Its $note_$.")
    figures.draw("fig", settings, tmp_path, tmp_path / "fig", tmp_path / "fig.csv")
    assert not any(text.get_parse_math() for text in seen)
    words = "\n".join(text.get_text() for text in seen)
    assert all(label in words for label in (*ODD[:2], "$a_{b$ \\x"))


@pytest.mark.parametrize("labels", [ODD[:2], ODD[2:4], ODD[4:]])
def test_figures_tables_and_report_show_odd_labels(labels, tmp_path):
    study = labelled(labels)
    fill(tmp_path, study, problems=8, iterations=6)
    title = "What | `they` <b>say</b> \n& $x_{1$"
    figures.draw(
        "f",
        Figure(draw="learning_curves", title=title, study=study),
        tmp_path,
        tmp_path / "f",
        tmp_path / "figures/f.csv",
    )
    tables.write("t", Table(make="accuracy_table", title=title, study=study), tmp_path, tmp_path / "tables/t")
    report.write(
        Report(title=title, figures=("f",), tables=("t",), experiments=(study,)),
        tmp_path,
        tmp_path,
        tmp_path / "r.html",
    )

    lines = [line for line in (tmp_path / "tables/t.md").read_text().split("\n") if line.startswith("|")]
    assert {len(cells(line)) for line in lines[:1] + lines[2:]} == {5}
    assert [cells(line)[0] for line in lines[3:]] == [texts.one_line(label) for label in labels]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tables/t.csv").read_text())))
    assert [row["label"] for row in rows[1:]] == [texts.one_line(label) for label in labels]
    shown = Words()
    shown.feed((tmp_path / "r.html").read_text())
    assert [row[0] for row in shown.rows[2:]] == [texts.one_line(label) for label in labels]
    assert {len(row) for row in shown.rows} == {5}
    assert shown.headings[0] == texts.one_line(title)


class Words(HTMLParser):
    """Cells of the first table and headings of a page, as readers see them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self.into: list[str] | None = None

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "h1"):
            self.into = self.headings if tag == "h1" else self.rows[-1]
            self.into.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th", "h1"):
            self.into = None

    def handle_data(self, data):
        if self.into is not None:
            self.into[-1] += data


def test_draw_says_in_the_caption_which_letters_no_font_has(tmp_path, monkeypatch):
    monkeypatch.setattr(letters, "_is_text", lambda font: False)
    study = labelled(("GRPO 基线", "SPO"))
    fill(tmp_path, study, problems=8, iterations=3)
    settings = Figure(draw="accuracy_bars", title="T", study=study)
    figures.draw("f", settings, tmp_path, tmp_path / "f", tmp_path / "f.csv")
    said = (tmp_path / "f.txt").read_text()
    assert said.endswith("because no font of the machine that drew this has them: 基 (U+57FA) 线 (U+7EBF).\n")


def test_draw_takes_letters_from_another_font_where_one_has_them(tmp_path):
    script = "𝒜"  # in STIXGeneral, which matplotlib ships, and not in DejaVu Sans
    study = labelled((f"GRPO {script}", "SPO"))
    fill(tmp_path, study, problems=8, iterations=3)
    settings = Figure(draw="accuracy_bars", title="T", study=study)
    figures.draw("f", settings, tmp_path, tmp_path / "f", tmp_path / "f.csv")
    assert "Drawn as boxes" not in (tmp_path / "f.txt").read_text()
    assert letters.fallbacks({script}) and not letters.fallbacks(set())


# ---- the settings of whoever runs this -------------------------------------------------------------------------------

DRAW = """
import sys
from pathlib import Path
from spo.analysis import figures
from spo.analysis.slices import Figure
sys.path.insert(0, sys.argv[2])
from tests.finished_study import make_study
root = Path(sys.argv[1])
settings = Figure(draw="accuracy_bars", title="T", study=make_study(("grpo",), seeds=2))
figures.draw("f", settings, root, Path(sys.argv[3]) / "f", Path(sys.argv[3]) / "f.csv")
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def study_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("study")
    fill(root, make_study(("grpo",), seeds=2), problems=8, iterations=3)
    return root


def drawn_in(place: Path, root: Path, environment: dict[str, str]) -> list[bytes]:
    """The bytes of PNG and PDF of a process that starts in the folder `place`."""
    clean = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "MATPLOTLIBRC")}
    command = [sys.executable, "-c", DRAW, root, ROOT, place]
    done = subprocess.run(
        command, env=clean | {"PYTHONPATH": str(ROOT)} | environment, cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [(place / f"f.{suffix}").read_bytes() for suffix in ("png", "pdf")]


@pytest.fixture(scope="module")
def plain(study_root, tmp_path_factory) -> list[bytes]:
    return drawn_in(tmp_path_factory.mktemp("plain"), study_root, {})


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, None),
        ({"MPLBACKEND": "Qt4Agg"}, None),
        ({}, b"backend: Qt4Agg\nfont.size: 40\ntext.usetex: true\nsavefig.dpi: 10\n"),
        ({}, b"font.size: \xff\xfe\n"),
        ({"MATPLOTLIBRC": "odd"}, None),
    ],
    ids=["inline", "qt4", "rc of the folder", "rc that is not UTF-8", "MATPLOTLIBRC"],
)
def test_draw_ignores_the_users_settings_of_matplotlib(environment, settings, study_root, plain, tmp_path):
    (tmp_path / "odd").write_text("font.size: 40\nsavefig.facecolor: red\n")
    if settings:
        (tmp_path / "matplotlibrc").write_bytes(settings)
    changed = {key: str(tmp_path / value) if key == "MATPLOTLIBRC" else value for key, value in environment.items()}
    assert drawn_in(tmp_path, study_root, changed) == plain


def test_drawing_leaves_the_environment_and_settings_as_they_were():
    code = (
        "import os; os.environ['MPLBACKEND'] = 'svg'; place = os.getcwd()\n"
        "from spo.analysis import style; import matplotlib\n"
        "with style.styled(): pass\n"
        "assert os.environ['MPLBACKEND'] == 'svg' and os.getcwd() == place and matplotlib.rcParams['text.parse_math']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
