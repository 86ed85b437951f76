r"""The tree of an answer: plain tuples, so that they can be compared, remembered and sent to another process.

Kinds of trees, `a` and `b` being trees themselves:

    ("number", "7" | "0.50")             ("variable", name)        ("constant", "pi" | "e" | "i" | "infinity")
    ("+", a, b) ("*", a, b) ("/", a, b)  ("^", a, b) ("-", a)      ("call", name, a, ...)
    ("percent", a) ("degrees", a)        ("plus-minus", a, b)      ("base", digits, base)
    ("list", a, ...) ("set", a, ...)     ("union", a, ...)         ("tuple", open, close, a, ...)
    ("matrix", (a, ...), ...)            ("word", text)            ("relation", (sign, ...), a, b, ...)
"""

from __future__ import annotations

from fractions import Fraction

Tree = tuple
#: kinds that have a value
EXPRESSIONS = frozenset(
    ("number", "variable", "constant", "+", "*", "/", "^", "-", "call", "percent", "degrees", "base")
)
INFINITY = ("constant", "infinity")
_MOST_DIGITS = 200
_MOST_BITS = 4_000


def repeating(decimal: str, period: str) -> Tree:
    """The fraction that a decimal number with a period is.

    >>> repeating("0.1", "6")
    ('/', ('number', '1'), ('number', '6'))
    """
    scale = 10 ** len(decimal.partition(".")[2])
    value = Fraction(int(decimal.replace(".", "")), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return ("/", ("number", str(value.numerator)), ("number", str(value.denominator)))


def fraction(tree: Tree) -> Fraction | None:
    """The value of a tree of whole and decimal numbers with + - * /, None for any other or a very long one.

    >>> fraction(("+", ("number", "1"), ("/", ("number", "1"), ("number", "2"))))
    Fraction(3, 2)
    """
    if tree[0] == "number":
        return Fraction(tree[1]) if len(tree[1]) <= _MOST_DIGITS else None
    if tree[0] not in ("+", "*", "/", "-"):
        return None
    parts = [fraction(part) for part in tree[1:]]
    if None in parts or (tree[0] == "/" and parts[1] == 0):
        return None
    if sum(part.numerator.bit_length() + part.denominator.bit_length() for part in parts) > _MOST_BITS:
        return None
    if tree[0] == "-":
        return -parts[0]
    return {"+": lambda a, b: a + b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}[tree[0]](*parts)


def has(tree: Tree, *kinds: str) -> bool:
    """Whether a tree of one of the `kinds` is in it."""
    return tree[0] in kinds or any(has(part, *kinds) for part in tree if part and isinstance(part, tuple))


def with_sign(tree: Tree, sign: int) -> Tree:
    """The tree with every plus-minus read as plus (`sign` 1) or minus (-1)."""
    if tree[:1] == ("plus-minus",):
        first, second = with_sign(tree[1], sign), with_sign(tree[2], sign)
        return ("+", first, second if sign > 0 else ("-", second))
    return tuple(with_sign(part, sign) if isinstance(part, tuple) else part for part in tree)
