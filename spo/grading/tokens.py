"""The tokens of an answer in LaTeX or plain text, and a reader over them."""

from __future__ import annotations

import re
from typing import NamedTuple

from spo.grading.latex import TEXT
from spo.grading.symbols import FUNCTIONS, SHORT_WORDS, SPELT, STARTS

_VALUE_ENDS = ("}", ")", r"\circ")
_TOKEN = re.compile(
    rf"\\{TEXT}\s*\{{(?P<text>[^{{}}]*)\}}"
    rf"|(?P<begin>\\begin\s*\{{\w+\*?\}}(?:\s*\{{[lcr|]+\}})?)|(?P<end>\\end\s*\{{\w+\*?\}})"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}|])|(?P<number>\d+\.?\d*|\.\d+)|(?P<letters>[a-zA-Z]+)|(?P<op><=|>=|!=|\S)"
)


class Unreadable(ValueError):
    """The text is not an answer of the grammar in `parse`."""


class Token(NamedTuple):
    """`kind` is number, letter, word, function, command, begin, end, op or stop; `spaced`: white space before it."""

    kind: str
    text: str
    spaced: bool = False


_STOP = Token("stop", "")


class Reader:
    """Tokens, a place among them, and how deep the brackets around it are."""

    def __init__(self, tokens: list[Token]):
        self.tokens, self.place, self.depth = tokens, 0, 0

    @property
    def next(self) -> Token:
        return self.tokens[self.place] if self.place < len(self.tokens) else _STOP

    @property
    def after(self) -> Token:
        return self.tokens[self.place + 1] if self.place + 1 < len(self.tokens) else _STOP

    def take(self) -> Token:
        token = self.next
        self.place += 1
        return token

    def take_digit(self) -> str:
        """The first digit of the next token, a number; the other digits stay."""
        digits = self.next.text
        if len(digits) == 1:
            return self.take().text
        self.tokens[self.place] = Token("number", digits[1:])
        return digits[0]

    def skip(self, *texts: str) -> str | None:
        return self.take().text if self.next.kind in ("op", "command", "word") and self.next.text in texts else None

    def expect(self, *texts: str) -> str:
        found = self.skip(*texts)
        if found is None:
            raise Unreadable(f"expected {' or '.join(texts)}, found {self.next.text!r}")
        return found


def starts_factor(token: Token) -> bool:
    """Whether a factor can begin with this token, so that it multiplies what stands before it."""
    if token.kind in ("op", "command"):
        return token.text in STARTS
    return token.kind in ("number", "letter", "function", "begin")


def tokens(text: str) -> list[Token]:
    """The tokens of a text that `latex.clean` has cleaned."""
    found: list[Token] = []
    end = 0
    for match in _TOKEN.finditer(text):
        kind, piece, spaced = match.lastgroup, match.group(match.lastgroup), match.start() > end
        end = match.end()
        if kind == "text":
            found += _inside_text(
                piece, after_value=bool(found) and (found[-1].kind == "number" or found[-1].text in _VALUE_ENDS)
            )
        elif kind == "letters":
            found += _letters(piece, spaced)
        elif kind == "command" and piece[1:] in FUNCTIONS:
            found.append(Token("function", piece[1:], spaced))
        else:
            found.append(Token(kind, piece, spaced))
    return found


def _letters(piece: str, spaced: bool) -> list[Token]:
    """A function, a word (four letters, or capitals, or a unit), or a product of variables."""
    lower = piece.lower()
    if lower in SPELT:
        return [Token("command", SPELT[lower], spaced)]
    if lower in FUNCTIONS:
        return [Token("function", lower, spaced)]
    if len(piece) > 1 and (len(piece) > 3 or piece[0].isupper() or lower in SHORT_WORDS):
        return [Token("word", lower, spaced)]
    return [Token("letter", letter, spaced and i == 0) for i, letter in enumerate(piece)]


def _inside_text(piece: str, after_value: bool) -> list[Token]:
    r"""Inside `\text{}` letters are words, except a capital that stands after no value: an answer such as (C)."""
    if after_value and piece.lstrip().startswith("("):
        return []  # a remark: 10 \text{ (since order does not matter)}
    piece = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", piece, flags=re.IGNORECASE)
    found = []
    for match in re.finditer(r"(\d+\.?\d*)|([a-zA-Z']+(?:-[a-zA-Z']+)*)|[^\s\w.]", piece):
        text = match.group()
        if match.group(1):
            found.append(Token("number", text, True))
        elif match.group(2):
            is_letter = len(text) == 1 and text.isupper() and not (after_value and not found)
            found.append(Token("letter", text, True) if is_letter else Token("word", text.lower(), True))
        else:
            found.append(Token("op", text, True))
    return found
