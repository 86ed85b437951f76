"""LaTeX and plain-text answers as trees, by a small grammar of its own: nothing is run or evaluated."""

from __future__ import annotations

from spo.grading import words
from spo.grading.latex import LONGEST_ANSWER, clean, thousands
from spo.grading.symbols import BETWEEN, CLOSING, FILLER, GREEK, RELATIONS, UNIT_LETTERS
from spo.grading.tokens import Reader, Token, Unreadable, starts_factor, tokens
from spo.grading.trees import INFINITY, Tree, repeating

DEEPEST = 60  # atoms within atoms
MOST_TOKENS = 300  # a sum of so many terms is as deep a tree


def parse(text: str, thousand: bool = True) -> Tree:
    r"""The tree of an answer; raises Unreadable for what the grammar does not have, or is too long or too deep.

    `thousand`: the comma in 81,256 separates thousands, not items of a list.

    >>> parse(r"\frac12 x")
    ('*', ('/', ('number', '1'), ('number', '2')), ('variable', 'x'))
    >>> parse("(3, 5]")
    ('tuple', '(', ']', ('number', '3'), ('number', '5'))
    """
    text = clean(text) if len(text) <= LONGEST_ANSWER else ""
    found = tokens(thousands(text) if thousand else text)
    if not 0 < len(found) <= MOST_TOKENS:
        raise Unreadable("nothing, or too long")
    reader = Reader(found)
    tree = _listed(reader)
    if reader.next.kind == "stop":
        return tree
    raise Unreadable(f"{reader.next.text!r} is left over")


# ---- from loose to tight ---------------------------------------------------------------------------------------------


def _listed(reader: Reader) -> Tree:
    """Relations with commas, semicolons, "and", "or" between them."""
    items = [_relation(reader)]
    while reader.skip(",", ";", "and", "or"):
        reader.skip("and", "or")
        if reader.next.kind == "stop":
            break
        items.append(_relation(reader))
    return items[0] if len(items) == 1 else ("list", *items)


def _relation(reader: Reader) -> Tree:
    while reader.skip(r"\approx", *FILLER):
        pass
    signs, sides = [], [_union(reader)]
    while reader.next.kind in ("op", "command") and reader.next.text in RELATIONS:
        signs.append(RELATIONS[reader.take().text])
        sides.append(_union(reader))
    return ("relation", tuple(signs), *sides) if signs else sides[0]


def _union(reader: Reader) -> Tree:
    parts = [_ratio(reader)]
    while reader.skip(r"\cup"):
        parts.append(_ratio(reader))
    return parts[0] if len(parts) == 1 else ("union", *parts)


def _ratio(reader: Reader) -> Tree:
    tree = _sum(reader)
    while reader.skip(":", "to"):
        tree = ("/", tree, _sum(reader))
    return tree


def _sum(reader: Reader) -> Tree:
    if reader.skip(r"\pm"):
        tree: Tree = ("plus-minus", ("number", "0"), _term(reader))
    elif reader.skip("-"):
        tree = ("-", _term(reader))
    else:
        reader.skip("+")
        tree = _term(reader)
    while sign := reader.skip("+", "-", r"\pm", r"\mp"):
        negative = reader.skip("-")
        term = ("-", _term(reader)) if negative else _term(reader)
        tree = {"+": ("+", tree, term), "-": ("+", tree, ("-", term))}.get(sign, ("plus-minus", tree, term))
    return tree


def _term(reader: Reader) -> Tree:
    tree = _factor(reader)
    while True:
        if sign := reader.skip("*", "/"):
            negative = reader.skip("-")
            factor = _factor(reader)
            tree = (sign, tree, ("-", factor) if negative else factor)
        elif reader.next.kind == "word" and reader.next.text not in BETWEEN:
            tree = _unit(reader, tree)
        elif starts_factor(reader.next):
            tree = _beside(reader, tree)
        else:
            return tree


def _beside(reader: Reader, left: Tree) -> Tree:
    """What stands beside a factor without a sign: a mixed number's fraction, or another factor."""
    token = reader.next
    right = _factor(reader)
    if left[0] == "number" and left[1].isdigit():
        # The sign of 33\frac13\% or 22\frac12^\circ is the whole number's.
        sign, part = (right[:1], right[1]) if right[0] in ("percent", "degrees") else ((), right)
        if token.text == r"\frac" and part[0] == "/" and part[1][0] == part[2][0] == "number":
            return (*sign, ("+", left, part)) if sign else ("+", left, part)
        if right[0] == "number" and token.spaced and reader.skip("/"):
            return ("+", left, ("/", right, _factor(reader)))
    if right[0] == "/" and right[1][0] == right[2][0] == "word":
        return left  # a unit such as miles an hour
    if token.kind == "number":
        raise Unreadable("two numbers side by side")
    if right[0] == "tuple" and left[0] == "variable" and left[1].isupper():
        return right  # a point by name: P(2, 3)
    return ("*", left, right)


def _unit(reader: Reader, left: Tree) -> Tree:
    """Drop a unit with its powers and what it is per, but not `am`, `pm` and `million`, which change the answer."""
    first = reader.next.text
    while reader.next.kind == "word" and reader.next.text not in BETWEEN:
        reader.take()
        if reader.skip("^"):
            _argument(reader)
        if reader.next.text == "/" and (reader.after.kind == "word" or reader.after.text in UNIT_LETTERS):
            reader.take()
            if reader.next.kind == "letter":
                reader.take()
    if first in words.SCALES:
        return ("*", left, ("number", str(words.SCALES[first])))
    return ("*", left, ("word", first)) if first in ("am", "pm") else left


def _factor(reader: Reader) -> Tree:
    tree = _atom(reader)
    while reader.next.kind == "op" and reader.next.text in ("^", "!", "%", "'"):
        sign = reader.take().text
        if sign != "^":
            tree = ("percent", tree) if sign == "%" else ("call", {"!": "factorial", "'": "prime"}[sign], tree)
        else:
            power = _argument(reader)
            tree = ("degrees", tree) if power == ("variable", r"\circ") else ("^", tree, power)
    return tree


# ---- atoms -----------------------------------------------------------------------------------------------------------


def _atom(reader: Reader) -> Tree:
    reader.depth += 1
    if reader.depth > DEEPEST:
        raise Unreadable("too deep")
    tree = _begun(reader, reader.take())
    reader.depth -= 1
    return tree


def _begun(reader: Reader, token: Token) -> Tree:
    """What begins with `token`."""
    if token.kind in _KINDS:
        return _KINDS[token.kind](reader, token.text)
    if token.kind in ("op", "command"):
        if token.text in CLOSING:
            return _bracket(reader, token.text)
        if token.text in _COMMANDS:
            return _COMMANDS[token.text](reader)
        if token.text in GREEK or token.text == r"\circ":
            return _variable(reader, token.text)
    raise Unreadable(f"{token.text!r} cannot begin anything")


def _number(reader: Reader, digits: str) -> Tree:
    if "." in digits and reader.skip(r"\overline"):
        period = _argument(reader)
        if period[0] != "number" or not period[1].isdigit():
            raise Unreadable("a period is made of digits")
        return repeating(digits, period[1])
    if reader.next.text == "_" and reader.next.kind == "op":
        reader.take()
        return ("base", digits.lstrip("0") or "0", _subscript(reader))
    return ("number", digits.rstrip(".") or "0")


def _variable(reader: Reader, name: str) -> Tree:
    if reader.next.text == "_" and reader.next.kind == "op":
        reader.take()
        return ("variable", f"{name}_{_subscript(reader)}")
    return ("constant", name) if name in ("e", "i") else ("variable", name)


def _words(reader: Reader, first: str) -> Tree:
    """Words in a row, with the numbers and letters between them: `two lines`, `october 30`."""
    text = first
    while reader.next.kind in ("word", "letter", "number") and reader.next.text not in BETWEEN:
        text += " " + reader.take().text.lower()
    return ("word", text)


def _subscript(reader: Reader) -> str:
    tree = _argument(reader)
    if tree[0] not in ("number", "variable", "constant", "word"):
        raise Unreadable("a subscript that is no name")
    return words.digits(tree[1])


def _function(reader: Reader, name: str) -> Tree:
    power = base = None
    while reader.next.kind == "op" and reader.next.text in ("^", "_"):
        if reader.take().text == "^":
            power = _argument(reader)
        else:
            base = _argument(reader)
    if reader.next.kind == "op" and reader.next.text in ("(", "{", "["):
        inner = _bracket(reader, reader.take().text)
        arguments = inner[3:] if inner[0] == "tuple" else (inner,)
    else:
        product = _factor(reader)
        while starts_factor(reader.next) and reader.next.kind != "function":
            product = ("*", product, _factor(reader))
        arguments = (product,)
    if power == ("-", ("number", "1")):
        return ("call", "arc" + name, *arguments)
    tree = ("call", name, *arguments) if base is None else ("/", ("call", "ln", *arguments), ("call", "ln", base))
    return tree if power is None else ("^", tree, power)


def _bracket(reader: Reader, opening: str) -> Tree:
    if opening == r"\{" and reader.skip(r"\}"):
        return ("set",)
    inner = _listed(reader)
    closing = reader.expect(*CLOSING[opening])
    if opening == "|":
        return ("call", "abs", inner)
    if opening in (r"\lfloor", r"\lceil"):
        return ("call", "floor", inner) if opening == r"\lfloor" else ("-", ("call", "floor", ("-", inner)))
    items = inner[1:] if inner[0] == "list" else (inner,)
    if opening == r"\{" or (opening == "{" and len(items) > 1):
        return ("set", *items)
    if len(items) == 1 and {"(": ")", "[": "]", "{": "}"}.get(opening) == closing:
        return inner
    if len(items) == 1:
        raise Unreadable("a bracket that is no pair")
    opening, closing = ("(", ")") if opening == r"\langle" else (opening, closing)
    return ("tuple", opening, closing, *items)


def _matrix(reader: Reader, begin: str) -> Tree:
    if "matrix" not in begin and "array" not in begin:
        raise Unreadable(f"{begin} is not a matrix")
    rows: list[list[Tree]] = [[]]
    while reader.next.kind != "end":
        rows[-1].append(_relation(reader))
        if reader.skip(r"\row"):
            rows.append([])
        elif reader.next.kind != "end":
            reader.expect("&")
    reader.take()
    tree = ("matrix", *(tuple(row) for row in rows if row))
    return ("call", "det", tree) if "vmatrix" in begin else tree


def _argument(reader: Reader) -> Tree:
    """What a command, `^` or `_` applies to: a braced group, or one token, a number being one."""
    if reader.skip("{"):
        return _bracket(reader, "{")
    if reader.skip("-"):
        return ("-", _argument(reader))
    return _atom(reader)


def _digit(reader: Reader) -> Tree:
    r"""An argument of `\frac`, which without braces is one digit: `\frac12`."""
    if reader.next.kind == "number":
        return ("number", reader.take_digit())
    return _argument(reader)


def _root(reader: Reader) -> Tree:
    degree: Tree = ("number", "2")
    if reader.skip("["):
        degree = _sum(reader)
        reader.expect("]")
    return ("^", _argument(reader), ("/", ("number", "1"), degree))


_KINDS = {"number": _number, "letter": _variable, "word": _words, "function": _function, "begin": _matrix}
_COMMANDS = {
    r"\frac": lambda reader: ("/", _digit(reader), _digit(reader)),
    r"\sqrt": _root,
    r"\binom": lambda reader: ("call", "binom", _digit(reader), _digit(reader)),
    r"\overline": _argument,
    r"\mathbb": lambda reader: ("word", "all real numbers") if _argument(reader)[1] == "R" else ("word", "numbers"),
    r"\pi": lambda reader: ("constant", "pi"),
    r"\infty": lambda reader: INFINITY,
    r"\emptyset": lambda reader: ("set",),
}
