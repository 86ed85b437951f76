"""Letters that the fonts of a figure lack: which they are, and which fonts of this machine have them."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from spo.analysis.plotting import FT2Font, font_manager

#: Fonts of matplotlib that have a box, or a part of a formula, for each letter.
_NO_TEXT = ("Last Resort", "cm", "STIXSize", "STIXNonUnicode", "DejaVu Math")
_GLYPH = re.compile(r"Glyph (\d+) .* missing from font", re.DOTALL)


@contextmanager
def missing() -> Iterator[set[str]]:
    """Collect the letters that are drawn inside of the block and that no font has; other warnings pass."""
    found: set[str] = set()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield found
    for warning in said:
        if glyph := _GLYPH.match(str(warning.message)):
            found.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def fallbacks(letters: set[str]) -> tuple[str, ...]:
    """Return installed font families that have some of `letters`, the most useful first.

    Which fonts there are decides nothing about texts that the usual font can draw.
    """
    wanted, chosen = set(letters), []
    fonts = sorted({font.name: font.fname for font in font_manager.fontManager.ttflist if _is_text(font)}.items())
    covers = {name: wanted & _letters(path) for name, path in fonts} if wanted else {}
    while wanted and (best := max(covers, key=lambda name: len(covers[name] & wanted), default=None)) is not None:
        if not covers[best] & wanted:
            break
        chosen.append(best)
        wanted -= covers[best]
    return tuple(chosen)


def remark(letters: set[str]) -> str:
    """Return a sentence about letters that are drawn as boxes; empty if there are none."""
    shown = sorted(letter for letter in letters if unicodedata.category(letter) != "Cf")
    if not shown:
        return ""
    names = " ".join(f"{letter} (U+{ord(letter):04X})" for letter in shown[:10]) + (" ..." if len(shown) > 10 else "")
    return f"Drawn as boxes, because no font of the machine that drew this has them: {names}."


def _is_text(font: font_manager.FontEntry) -> bool:
    return not font.name.startswith(_NO_TEXT) and font.style == "normal"


def _letters(path: str) -> set[str]:
    """Return the letters that a font has; none if it cannot be drawn with, as fonts of pictures (emoji) cannot."""
    try:
        font = FT2Font(path)
        font.set_size(8, 72)
    except (OSError, RuntimeError):
        return set()
    return set(map(chr, font.get_charmap()))
