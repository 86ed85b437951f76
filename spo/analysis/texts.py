"""Texts of users in figures, Markdown and LaTeX: every character is printed as it stands."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import Any


def one_line(text: str) -> str:
    r"""Return `text` in one line, without characters that cannot be printed.

    White space of any kind (line breaks, tabs, U+2028) becomes one blank; control characters and halves of surrogate
    pairs become U+FFFD. No-break spaces stay.

    >>> one_line(" GRPO\n|\u2028mask\x07\ud800")
    'GRPO | mask��'
    """
    lines = re.sub(r"[^\S\u00a0\u202f]+", " ", text).strip(" ")
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in lines)


def printable(settings: Any) -> Any:
    """Return `settings` with every text in one line: dataclasses, tuples and the values of dicts, at any depth."""
    if isinstance(settings, str):
        return one_line(settings)
    if isinstance(settings, tuple | list):
        return type(settings)(map(printable, settings))
    if isinstance(settings, dict):
        return {key: printable(value) for key, value in settings.items()}
    if dataclasses.is_dataclass(settings):
        fields = (field.name for field in dataclasses.fields(settings))
        return dataclasses.replace(settings, **{name: printable(getattr(settings, name)) for name in fields})
    return settings


#: What Markdown (CommonMark, GitHub's tables, strikethrough and mathematics) reads as more than a letter. Underscores
#: inside of words and brackets that begin no link are letters, and stay as they are for readers of the source.
_MARKDOWN = re.compile(r"[\\`*|~$<]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|&(?=#?\w+;)")
#: What begins a heading, a quotation, a list or a rule.
_MARKDOWN_BLOCK = re.compile(r"^(\d*)(?=[#>+=.)-])")


def markdown(text: str, *, paragraph: bool = False) -> str:
    r"""Return `text` so that Markdown prints it as it stands, in a cell of a table or as a `paragraph` of its own.

    >>> print(markdown("GRPO | *mask*, loss.probability_mask [0.1, 0.2] $5 <b>"), markdown("1. x", paragraph=True))
    GRPO \| \*mask\*, loss.probability_mask [0.1, 0.2] \$5 \<b> 1\. x
    """
    shown = _MARKDOWN.sub(r"\\\g<0>", one_line(text))
    return _MARKDOWN_BLOCK.sub(r"\1\\", shown) if paragraph else shown


#: Characters that LaTeX reads as commands or lacks, and how they are written.
_LATEX = (
    {character: f"\\{character}" for character in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "`": r"\textasciigrave{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "−": "$-$", "\u00a0": "~"}
    | {"±": r"$\pm$", "§": r"\S{}", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "◇": r"$\diamond$"}
)
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi . pi rho . sigma tau upsilon phi chi psi"
)
_LATEX |= {chr(0x3B1 + i): rf"$\{name}$" for i, name in enumerate([*_GREEK.split(), "omega"]) if name != "."}
#: What `inputenc` knows beyond Latin Extended-A.
_PDFLATEX = "–—‘’“”†•…‰€™"


def latex(text: str) -> str:
    r"""Return `text` so that LaTeX prints it as it stands, in a paragraph or a cell of a table.

    >>> print(latex(r"50 % of $5_{a} \ ~ ^ # & a--b ρ"))
    50 \% of \$5\_\{a\} \textbackslash{} \textasciitilde{} \textasciicircum{} \# \& a-{}-b $\rho$
    """
    # Hyphens in a row would be a dash. A row ends with \\, which takes a bracket or a star after it for its argument.
    parts = re.finditer(r"(?P<hyphen>-(?=-))|(?P<first>^[\[*])|(?P<letter>.)", one_line(text))
    return "".join(_latex[part.lastgroup](part[0]) for part in parts)


_latex = {"hyphen": "{}{{}}".format, "first": "{{{}}}".format, "letter": lambda letter: _LATEX.get(letter, letter)}


def lacking_in_pdflatex(source: str) -> str:
    """Return the letters of a LaTeX source that pdfLaTeX cannot print, each once."""
    return "".join(dict.fromkeys(letter for letter in source if letter > "\u017f" and letter not in _PDFLATEX))
