r"""Whether two mathematical answers are the same: flat strings first, then structure, then values.

The structure is compared here (what is a pair, an interval, a list, an equation). Of single expressions, plain
fractions are compared here and all others by a worker of `pool`. A decimal approximation of an exact value is wrong,
unless the reference is itself a decimal with two places or more that the value rounds to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from spo.grading import pool, values, words
from spo.grading.latex import LONGEST_ANSWER, flat
from spo.grading.parse import parse
from spo.grading.tokens import Unreadable
from spo.grading.trees import EXPRESSIONS, INFINITY, Tree, has, with_sign
from spo.grading.verdicts import DIFFERENT, EQUAL

_EVERYTHING = ("tuple", "(", ")", ("-", INFINITY), INFINITY)
_ENDS_OF_POINTS = (("(", ")"), ("[", "]"))
_MOST_ITEMS = 50
_NEGATIONS = {"no", "not", "neither", "nor", "never", "non"}
# What an answer says more than the reference: 12 \pmod{13}
_MODULUS = re.compile(r"(?:\\[pb]?mod(?![a-z])|\(?\s*\\text\s*\{\s*\(?\s*mod\b|\(\s*mod\b).*", re.DOTALL)
# What a reference says may be left out: the base of a numeral with letters or digits, the half of the day.
_LEFT_OUT = re.compile(r"([0-9A-Z]*\d[0-9A-Z]*)_\{\d\d\}|(\d\d?:\d\d)[ap]m")


def compare(reference: str, answer: str) -> str:
    r"""`equal`, `different`, or the reason why a worker was killed over it: `timeout`, `memory`.

    >>> compare(r"\frac{\sqrt{3}}{3}", r"1/\sqrt3"), compare("(3,5]", "(3,5)"), compare("1,-2", r"x=-2\text{ or }x=1")
    ('equal', 'different', 'equal')
    """
    if len(answer) > LONGEST_ANSWER:
        return DIFFERENT
    if "mod" not in reference:
        answer = _MODULUS.sub("", answer)
    if _same_text(flat(reference), flat(answer)):
        return EQUAL
    try:
        expected = _settled(parse(reference))
        outcome = _compared(expected, _settled(parse(answer)))
        if outcome == DIFFERENT and expected[0] == "list":
            outcome = _compared(expected, _settled(parse(answer, thousand=False)))
    except Unreadable:
        return DIFFERENT
    return outcome


def _same_text(reference: str, answer: str) -> bool:
    """Equal up to what may be left out; a choice such as B may be answered with its value too: `(B) 12`."""
    if reference == answer or ((more := _LEFT_OUT.fullmatch(reference)) and answer in more.groups()):
        return True
    return bool(re.fullmatch(r"[A-H]", reference) and re.fullmatch(rf"\({reference}\)(?!.*\([A-H]\))[^,;].*", answer))


# ---- structure -------------------------------------------------------------------------------------------------------


def _compared(reference: Tree, answer: Tree) -> str:
    if reference == answer:
        return EQUAL
    if "relation" in (reference[0], answer[0]):
        return _relations(reference, answer)
    kinds = (reference[0], answer[0])
    if set(kinds) <= {"list", "set"} or "list" in kinds or "set" in kinds:
        return _collections(reference, answer)
    if "union" in kinds:
        return _unordered(_parts(reference, "union"), _parts(answer, "union"))
    if set(kinds) <= {"tuple", "range"}:
        same_ends = reference[1:3] == answer[1:3] or (len(reference) > 5 and answer[1:3] in _ENDS_OF_POINTS)
        return _ordered(reference[3:], answer[3:]) if same_ends else DIFFERENT
    if "matrix" in kinds:
        return _matrices(reference, answer)
    if kinds == ("word", "word"):
        return EQUAL if _same_words(reference[1].split(), answer[1].split()) else DIFFERENT
    if {"tuple", "range", "word"} & set(kinds):
        return DIFFERENT
    return values.compare(reference, answer)


def _relations(reference: Tree, answer: Tree) -> str:
    if reference[0] == answer[0] == "relation":
        if reference[1] == answer[1] and (outcome := _ordered(reference[2:], answer[2:])) != DIFFERENT:
            return outcome
        if reference[1] == answer[1] == ("=",):
            if _is_function(reference[2]) and _is_function(answer[2]):
                return _compared(reference[3], answer[3])
            return _equations(reference, answer)
        return DIFFERENT
    if answer[0] == "relation":
        # 2 + 3 = 5 answers with 5, and x = 5 does.
        return _compared(reference, answer[-1]) if set(answer[1]) == {"="} or answer[1] == ("in",) else DIFFERENT
    if set(reference[1]) == {"="} and (_is_label(reference[2]) or not has(reference, "variable", "word")):
        return _any(_compared(side, answer) for side in reference[:1:-1] if not _is_label(side))
    return _compared(reference[3], answer) if reference[1] == ("in",) else DIFFERENT


def _equations(reference: Tree, answer: Tree) -> str:
    """Equations with the same solutions, up to a factor: y = 2x and 2x - y = 0; x = 5 and y = 5 are different."""
    sides = [("+", tree[2], ("-", tree[3])) for tree in (reference, answer)]
    if any(part[0] not in EXPRESSIONS for tree in (reference, answer) for part in tree[2:]):
        return DIFFERENT
    return pool.ask("ratio", *sides)


def _collections(reference: Tree, answer: Tree) -> str:
    """Lists and sets have no order; a list may also answer for a pair, and then has one."""
    if reference[0] == "tuple" and answer[0] in ("list", "set"):
        ordered = answer[0] == "list" and reference[1:3] == ("(", ")")
        return _ordered(reference[3:], answer[1:]) if ordered else DIFFERENT
    first, second = _items(reference), _items(answer)
    if "set" in (reference[0], answer[0]):
        first, second = _distinct(first), _distinct(second)
    if len(first) != len(second):
        return DIFFERENT
    return _unordered(first, second)


def _unordered(first: Sequence[Tree], second: Sequence[Tree]) -> str:
    """Each of `first` has an equal in `second`, one to one."""
    left = list(second)
    if len(first) != len(left) or len(left) > _MOST_ITEMS:
        return DIFFERENT
    for item in first:
        for place, other in enumerate(left):
            outcome = _compared(item, other)
            if outcome == EQUAL:
                del left[place]
                break
            if outcome != DIFFERENT:
                return outcome
        else:
            return DIFFERENT
    return EQUAL


def _ordered(first: Sequence[Tree], second: Sequence[Tree]) -> str:
    if len(first) != len(second):
        return DIFFERENT
    for item, other in zip(first, second, strict=True):
        if (outcome := _compared(item, other)) != EQUAL:
            return outcome
    return EQUAL


def _matrices(reference: Tree, answer: Tree) -> str:
    """Row by row; a column or row may be written as a tuple."""
    first, second = (_rows(tree) for tree in (reference, answer))
    if [len(row) for row in first] != [len(row) for row in second]:
        flat_pair = [[item for row in rows for item in row] for rows in (first, second)]
        if "tuple" not in (reference[0], answer[0]) or len(first) != 1 and len(first[0]) != 1:
            return DIFFERENT
        return _ordered(*flat_pair)
    return _ordered([item for row in first for item in row], [item for row in second for item in row])


def _rows(tree: Tree) -> list[Sequence[Tree]]:
    if tree[0] == "matrix":
        return list(tree[1:])
    return [(item,) for item in tree[3:]] if tree[0] == "tuple" else [(tree,)]


def _same_words(reference: list[str], answer: list[str]) -> bool:
    """ "odd" may be answered with "an odd function", and not with "not odd"."""
    more = set(answer) - set(reference)
    if _NEGATIONS & set(reference):
        more.discard("nor")  # "neither" and "neither odd nor even"
    return set(reference) <= set(answer) and len(answer) <= len(reference) + 3 and not _NEGATIONS & more


def _any(outcomes: Iterable[str]) -> str:
    outcome = DIFFERENT
    for outcome in outcomes:
        if outcome != DIFFERENT:
            break
    return outcome


def _items(tree: Tree) -> Sequence[Tree]:
    if tree[0] in ("list", "set"):
        return tree[1:]
    return tree[3:] if tree[0] == "tuple" and tree[1:3] == ("(", ")") else (tree,)


def _parts(tree: Tree, kind: str) -> Sequence[Tree]:
    return tree[1:] if tree[0] == kind else (tree,)


def _distinct(items: Sequence[Tree]) -> list[Tree]:
    kept: list[Tree] = []
    for item in items[:_MOST_ITEMS]:
        if not any(_compared(item, other) == EQUAL for other in kept):
            kept.append(item)
    return kept


# ---- one way to say it -----------------------------------------------------------------------------------------------


def _settled(tree: Tree) -> Tree:
    """The tree with plus-minus as two items, inequalities as intervals, chains downwards, words as numbers."""
    if tree[0] == "list":
        items = [item for part in tree[1:] for item in _parts(_settled(part), "list")]
        if all(_is_range(item) for item in items):
            return ("union", *(part for item in items for part in _parts(item, "union")))
        return ("list", *items)
    if tree[0] in ("set", "tuple", "union"):
        start = 3 if tree[0] == "tuple" else 1
        parts = [_settled(part) for part in tree[start:]]
        if tree[0] != "tuple":
            parts = [item for part in parts for item in _parts(part, "list")]
        return (*tree[:start], *parts)
    if tree[0] == "word":
        return _word(tree[1])
    if tree[0] == "relation":
        return _settled_relation(tree)
    if has(tree, "plus-minus"):
        return ("list", with_sign(tree, 1), with_sign(tree, -1))
    return _scaled(tree)


def _scaled(tree: Tree) -> Tree:
    """A number times a matrix, multiplied out."""
    if tree[0] == "-" and tree[1][0] == "matrix":
        return _scaled(("*", ("number", "-1"), tree[1]))
    if tree[0] == "*" and tree[2][0] == "matrix" and tree[1][0] in EXPRESSIONS:
        return ("matrix", *(tuple(("*", tree[1], item) for item in row) for row in tree[2][1:]))
    return tree


def _settled_relation(tree: Tree) -> Tree:
    signs, sides = tree[1], [_settled(side) for side in tree[2:]]
    if "~" in signs:
        # x \approx 5 answers with 5; 2 \sqrt5 \approx 4.47 with 2 \sqrt5.
        end = signs.index("~") + 1
        if _is_label(sides[end - 1]):
            return sides[end]
        return _settled_relation(("relation", signs[: end - 1], *tree[2 : end + 2])) if end > 1 else sides[0]
    if signs == ("=",) and sides[1][0] == "list" and _is_label(sides[0]):
        return sides[1]  # x = 1, 2 is read as (x = 1), 2; this is x = 3 \pm 1
    if signs == ("in",):
        return sides[1]
    if set(signs) <= {">", ">="}:
        signs, sides = tuple(sign.replace(">", "<") for sign in reversed(signs)), sides[::-1]
    ends = {"<": "()", "<=": "[]"}
    if len(signs) == 1 and signs[0] in ends and _is_label(sides[0]) and not has(sides[1], "variable", "word"):
        return ("range", "(", ends[signs[0]][1], ("-", INFINITY), sides[1])
    if len(signs) == 1 and signs[0] in ends and _is_label(sides[1]) and not has(sides[0], "variable", "word"):
        return ("range", ends[signs[0]][0], ")", sides[0], INFINITY)
    # Not about f(x), whose range the question may ask for in this form.
    if (
        len(signs) == 2
        and set(signs) <= set(ends)
        and sides[1][0] == "variable"
        and not has((sides[0], sides[2]), "variable", "word")
    ):
        return ("range", ends[signs[0]][0], ends[signs[1]][1], sides[0], sides[2])
    if signs == ("!=",) and _is_label(sides[0]) and not has(sides[1], "variable", "word"):
        below, above = ("range", "(", ")", ("-", INFINITY), sides[1]), ("range", "(", ")", sides[1], INFINITY)
        return ("union", below, above)
    return ("relation", signs, *sides)


def _word(text: str) -> Tree:
    if (number := words.digits(text)) != text:
        return ("number", number)
    if text in ("all real numbers", "all reals", "real numbers", "reals", "all real"):
        return _EVERYTHING
    if text in ("infinity", "no solution", "no solutions", "no real solution", "no real solutions", "empty set"):
        return INFINITY if text == "infinity" else ("set",)
    return ("word", text.removesuffix(" only"))


def _is_range(tree: Tree) -> bool:
    """An interval that nobody would take for a point: infinite or with a closed end."""
    if tree[0] in ("union", "range"):
        return True
    return tree[0] == "tuple" and len(tree) == 5 and (tree[1:3] != ("(", ")") or INFINITY in (tree[4], tree[3][-1]))


def _is_label(tree: Tree) -> bool:
    r"""Return what stands before `=` and only names the answer: x, AB, \theta_1, f(x), the area, (p, q)."""
    if tree[0] in ("variable", "word", "constant"):
        return tree != INFINITY
    if tree[0] == "tuple":
        return all(item[0] == "variable" for item in tree[3:])
    return tree[0] == "*" and tree[1][0] == "variable" and tree[2][0] in ("variable", "word")


def _is_function(tree: Tree) -> bool:
    """What may stand for the value of a function before `=`: y, f(x)."""
    return tree == ("variable", "y") or (tree[0] == "*" and _is_label(tree))
