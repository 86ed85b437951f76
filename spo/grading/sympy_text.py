r"""Trees of expressions as the published MATH rule reads them: LaTeX as plain text, then the text as sympy would.

Nothing is run: sympy evaluates a text as Python, this module parses it by a small grammar with the same conventions.
"""

from __future__ import annotations

import re
from functools import lru_cache

from spo.grading.tokens import Unreadable
from spo.grading.trees import Tree

_DEEPEST = 60
_MOST_TOKENS = 300
#: Names of commands that the published rule turns into their own name. Others it knows not at all, `sec` among them.
_FUNCTION_NAMES = """
sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh ln log exp lim max min sup inf
"""
#: names of commands, each with the letter that stands for it
_LETTERS = """
alpha α beta β gamma γ delta δ epsilon ϵ zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ omicron ο rho ρ
sigma σ tau τ upsilon υ phi ϕ chi χ psi ψ omega ω varepsilon ε vartheta ϑ varkappa ϰ varphi φ varpi ϖ varrho ϱ
varsigma ς Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω ell ℓ hbar ħ aleph ℵ i ı j ȷ
l ł o ø
"""
#: Commands that become a character which no expression has: whatever stands around it, the text has no value.
_UNREADABLE = """
# & $ ' " ` ^ ~ = . - acute approx angle ast asymp backslash bar bigcap bigcirc bigcup bigoplus bigtriangleup breve
bullet cap cdots check circ cong dagger ddot ddots diamond div dot doteq dots dotsb dotsc dotsi dotsm dotso downarrow
emptyset equiv exists forall frown geq geqslant ge gg grave hat in iint int Leftarrow leftarrow Leftrightarrow
leftrightarrow langle lbrace rbrace lceil ldots le leq leqslant lfloor liminf limsup ll lnot longleftarrow
Longleftrightarrow Longrightarrow longrightarrow lozenge lvert mapsto measuredangle mid mp nabla neq nexists ni nmid
not notin oint oplus otimes odot ominus parallel partial perp pm prec prime prod propto rangle rceil rfloor Rightarrow
rightarrow rvert setminus sharp sim simeq smallsetminus square star subset subseteq subsetneq succ sum supset supseteq
therefore because tilde to top triangledown triangleq uparrow varnothing vartriangle vdots vec vee vert Vert wedge { }
"""
_SPACES = {" ": " ", ",": " ", ":": " ", ";": " ", "quad": "  ", "qquad": "    ", "\\": "\n"}
_SIGN = "⋄"  # stands for them
_TEXTS = {"pi": "pi", "infty": "inf", "times": "*", "cdot": "*", "cup": "U", "surd": "sqrt", "%": "%", "_": "_"}
_TEXTS |= {name: name for name in _FUNCTION_NAMES.split()} | _SPACES
_TEXTS |= dict(zip(_LETTERS.split()[::2], _LETTERS.split()[1::2], strict=True))
_TEXTS |= dict.fromkeys(_UNREADABLE.split(), _SIGN)
#: commands that are dropped with their argument, and fonts whose letters are other letters
_HIDDEN = frozenset(["color", "hspace", "hphantom", "mbox", "textcolor", "textsf", "vspace"])
_FONTS = frozenset(["mathbb", "mathbf", "mathcal", "mathfrak", "mathit", "mathscr", "mathsf", "mathtt"])
_FONT = {ord("A") + n: chr(0x1D468 + n) for n in range(26)} | {ord("a") + n: chr(0x1D482 + n) for n in range(26)}
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{([^{}]*)\}")
_MATRICES = frozenset(["array", "pmatrix", "bmatrix", "smallmatrix", "psmallmatrix", "bsmallmatrix"])
#: what TeX itself reads as another character; `%` begins a comment
_LIGATURES = {"---": _SIGN, "--": _SIGN, "``": _SIGN, "''": _SIGN, "!`": _SIGN, "?`": _SIGN, "~": _SIGN, "&": "   "}
_LIGATURE = re.compile("|".join(map(re.escape, _LIGATURES)))
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BLANKS = re.compile(r"\s*")
_COMMENT = re.compile(r"(\\.)|%.*\n?\s*")
_COMMAND = re.compile(r"\\([a-zA-Z]+|.)", re.DOTALL)
_CHARACTERS = str.maketrans({"√": "sqrt", "π": "pi", "∞": "inf", "∪": "U", "·": "*", "×": "*"})
_MIXED = re.compile(r"([0-9]) +([0-9])")
#: names that are no unknown letters, in the order in which the published rule removes them: "arccos" leaves "arc"
_KNOWN_NAMES = """
sqrt frac pi inf cos sin tan cot arccos arcsin arctan arccot log ln exp
"""
_REFUSED = re.compile(r"\^[{(]|\^[0-9]+\^|\^-?[0-9][0-9]+|\*\*[0-9]+\*\*|\*\*-?[0-9][0-9]+|[0-9][0-9][0-9]+!")
_MOST_LETTERS = 2

_DIGITS = r"[0-9]+(?:_[0-9]+)*"  # as Python has them: 12_3 is 123
_TOKEN = re.compile(
    rf"(?P<number>(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?)"
    r"|(?P<name>[^\W\d]\w*)|(?P<op>\*\*|[-+*/()!,])"
)
_AROUND = re.compile(r"\s*([-+*/()!,^])\s*")
_FUNCTIONS = {name: name for name in ("sin", "cos", "tan", "cot", "sinh", "cosh", "tanh", "exp", "ln", "sqrt")}
_FUNCTIONS |= {"log": "ln", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
#: names of at most two letters that are neither letters nor numbers for sympy, and words of Python
_RESERVED_NAMES = """
N O Q S oo zoo Eq Ge Gt Le Lt Ne Or re im ff rf li Li Si Ci Ei GF FF QQ ZZ RR CC EX Id as if in is or
"""
_RESERVED = frozenset(_RESERVED_NAMES.split())
#: Greek letters of at most two different letters: they are one letter, while other names are products of their letters
_SPELLED = frozenset(["mu", "nu", "xi"])
_CONSTANTS = {"pi": ("constant", "pi"), "E": ("constant", "e"), "I": ("constant", "i")}
_HALF = ("/", ("number", "1"), ("number", "2"))


@lru_cache(maxsize=2_000)
def text_of(latex: str) -> str:
    r"""The text that stands for some LaTeX: fractions with a slash, roots with brackets, braces dropped.

    A numerator of several terms gets no brackets, a command that is not known is dropped, and so is what follows a per
    cent sign: all as published.

    >>> text_of(r"2\frac{1}{2}"), text_of(r"\frac{1+\sqrt{5}}{2}"), text_of(r"3\pi")
    ('2 1/2', '1+sqrt(5)/2', '3pi')
    """
    text = _COMMENT.sub(r"\1", re.sub(r"\\[td]?frac", lambda _: r" \frac", latex))
    return _converted(text, 0).translate(_CHARACTERS).strip()


def may_be_evaluated(text: str) -> bool:
    """False for three different letters or more, and for powers and factorials that might be large."""
    letters = text
    for name in _KNOWN_NAMES.split():
        letters = letters.replace(name, "")
    return len({letter for letter in letters if letter.isalpha()}) <= _MOST_LETTERS and not _REFUSED.search(text)


def mixed(text: str) -> str:
    """A mixed number with a plus in it, and no blanks: `2 1/2` is `2+1/2`."""
    return _MIXED.sub(r"\1+\2", text).replace(" ", "")


def parse(text: str, implicit: bool) -> Tree:
    """The tree of an expression; `implicit`: `2x` and `ab` are products. Raises Unreadable for anything else.

    >>> parse("2x^2", implicit=True)
    ('*', ('number', '2'), ('^', ('variable', 'x'), ('number', '2')))
    """
    text = _AROUND.sub(r"\1", text).replace("^", "**")
    found = list(_TOKEN.finditer(text))
    if "".join(match.group() for match in found) != text or not 0 < len(found) <= _MOST_TOKENS:
        raise Unreadable("no expression")
    reader = _Expression([(match.lastgroup, match.group()) for match in found], implicit)
    tree = reader.sum()
    if reader.place < len(reader.tokens):
        raise Unreadable("something is left over")
    return tree


# ---- LaTeX to text ---------------------------------------------------------------------------------------------------


def _converted(latex: str, depth: int) -> str:
    if depth > _DEEPEST:
        raise Unreadable("too deep")
    pieces: list[str] = []
    place = 0
    while place < len(latex):
        if latex[place] in "{}":
            place += 1
        elif environment := _ENVIRONMENT.match(latex, place):
            pieces.append(_SIGN if environment[1] in _MATRICES else "")
            place = environment.end()
        elif command := _COMMAND.match(latex, place):
            text, place = _command(latex, command, depth)
            pieces.append(text)
        elif ligature := _LIGATURE.match(latex, place):
            pieces.append(_LIGATURES[ligature.group()])
            place = ligature.end()
        else:
            pieces.append(latex[place])
            place += 1
    return "".join(pieces)


def _command(latex: str, command: re.Match[str], depth: int) -> tuple[str, int]:
    """(text of the command and its arguments, place after them)."""
    name, place = command[1], command.end()
    if name.isalpha():
        place = _BLANKS.match(latex, place).end()
    if name == "frac":
        top, place = _argument(latex, place, depth)
        below, place = _argument(latex, place, depth)
        return _SIGN if top is None or below is None else f"{top}/{below}", place
    if name == "sqrt":
        if (index := re.compile(r"\[[^\[\]]*\]").match(latex, place)) is not None:
            place = index.end()  # a cube root is written as a square root
        inner, place = _argument(latex, place, depth)
        if inner is None:
            raise Unreadable("a root of nothing")
        return f"sqrt({inner})", place
    if name in _HIDDEN:
        return "", _argument(latex, place, depth)[1]
    if name in _FONTS:
        inner, place = _argument(latex, place, depth)
        return (inner or "").translate(_FONT), place
    return _TEXTS.get(name, ""), place


def _argument(latex: str, place: int, depth: int) -> tuple[str | None, int]:
    """(text of the argument that begins here, place after it); None where the text ends, or the group around it."""
    place = _BLANKS.match(latex, place).end()
    if latex[place : place + 1] in ("", "}"):
        return None, place
    if latex[place] != "{":
        if command := _COMMAND.match(latex, place):
            return _command(latex, command, depth + 1)
        return latex[place], place + 1
    end, opened = len(latex), 0
    for brace in _BRACE.finditer(latex, place):
        opened += {"{": 1, "}": -1}.get(brace.group(), 0)
        if opened == 0:
            end = brace.start()
            break
    return _converted(latex[place + 1 : end], depth + 1), end + 1


# ---- text to trees ---------------------------------------------------------------------------------------------------


class _Expression:
    """A reader of tokens (kind, text) by the precedence of Python."""

    def __init__(self, tokens: list[tuple[str, str]], implicit: bool):
        self.tokens = [part for token in tokens for part in (_letters(token) if implicit else [token])]
        self.place, self.depth, self.implicit = 0, 0, implicit

    @property
    def next(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("end", "")

    def skip(self, *texts: str) -> str | None:
        if self.next[1] in texts and self.next[0] == "op":
            self.place += 1
            return self.tokens[self.place - 1][1]
        return None

    def sum(self) -> Tree:
        tree = self.product()
        while sign := self.skip("+", "-"):
            other = self.product()
            tree = ("+", tree, other if sign == "+" else ("-", other))
        return tree

    def product(self) -> Tree:
        tree = self.signed()
        while True:
            if sign := self.skip("*", "/"):
                tree = (sign, tree, self.signed())
            elif self.implicit and (self.next[0] in ("number", "name") or self.next[1] == "("):
                tree = ("*", tree, self.signed())
            else:
                return tree

    def signed(self) -> Tree:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Unreadable("too deep")
        if sign := self.skip("-", "+"):
            tree = self.signed()
            tree = ("-", tree) if sign == "-" else tree
        else:
            tree = self.atom()
            while self.skip("!"):
                tree = ("call", "factorial", tree)
            if self.skip("**"):
                tree = ("^", tree, self.signed())
        self.depth -= 1
        return tree

    def atom(self) -> Tree:
        kind, text = self.next
        self.place += 1
        if kind == "number":
            return ("number", text.replace("_", ""))
        if text in _RESERVED:
            raise Unreadable(f"{text} is no letter")
        if kind == "name":
            return self.called(_FUNCTIONS[text]) if text in _FUNCTIONS else _CONSTANTS.get(text, ("variable", text))
        if text != "(":
            raise Unreadable(f"{text!r} begins nothing")
        tree = self.sum()
        if not self.skip(")"):
            raise Unreadable("a bracket is not closed")
        return tree

    def called(self, name: str) -> Tree:
        power = None
        if self.implicit and self.skip("**"):
            power = self.signed()
        if self.skip("("):
            arguments = [self.sum()]
            while self.skip(","):
                arguments.append(self.sum())
            if not self.skip(")"):
                raise Unreadable("a bracket is not closed")
        elif self.implicit:
            arguments = [self.signed()]
        else:
            raise Unreadable("a function without brackets")
        if name == "sqrt":
            tree: Tree = ("^", arguments[0], _HALF)
        elif name == "ln" and len(arguments) == 2:
            tree = ("/", ("call", "ln", arguments[0]), ("call", "ln", arguments[1]))
        else:
            tree = ("call", name, *arguments)
        return tree if power is None else ("^", tree, power)


def _letters(token: tuple[str, str]) -> list[tuple[str, str]]:
    """A name as a product of letters and numbers, unless it is known or has an index: `ab2` is a, b, 2."""
    kind, text = token
    if kind != "name" or "_" in text or any(text in known for known in (_FUNCTIONS, _CONSTANTS, _RESERVED, _SPELLED)):
        return [token]
    return [("number" if part.isdigit() else "name", part) for part in re.findall(r"\d+|\D", text)]
