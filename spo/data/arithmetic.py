"""Column arithmetic as pupils write it, with the systematic bugs that pupils have.

The bugs are after Brown & Burton, "Diagnostic models for procedural bugs in basic mathematical skills", 1978: a pupil
who has one makes the same mistake wherever it applies, and goes on calmly from the wrong result.
"""

from __future__ import annotations

from collections.abc import Collection

#: bug -> what a pupil who has it does
BUGS = {
    "forgets_carry": "adds or multiplies a column and drops what should be carried to the next",
    "smaller_from_larger": "takes the smaller digit from the larger one, whichever stands on top",
    "forgets_payback": "borrows ten for a column and does not take the one off the next",
    "forgets_rest": "halves a digit and does not carry what is left to the next",
    "mixes_tables": "has learnt a few products by heart wrongly",
    "adds_for_times": "reads `times` as `more`",
    "adds_for_minus": "reads a loss as a gain",
}

# Products that the pupils of `mixes_tables` have learnt: right ones of a neighbouring row or column.
MIXED_UP = {(6, 3): 21, (7, 3): 24, (8, 3): 21, (6, 4): 28, (7, 4): 24, (8, 4): 36, (9, 4): 32, (7, 5): 30, (9, 5): 40}


def work(sign: str, left: int, right: int, bugs: Collection[str] = ()) -> tuple[str, int]:
    """One line of working, least digit first (halving: first digit first), and its result with the given `bugs`.

    `sign` is one of `+ - x /`; `x` takes a one-digit `right`, `/` takes 2. What cannot be taken away is turned round.

    >>> work("+", 47, 38)
    ('47 + 38: 7 + 8 = 15, 4 + 3 + 1 = 8, so 85.', 85)
    >>> work("-", 85, 47)
    ('85 - 47: 15 - 7 = 8, 8 - 4 - 1 = 3, so 38.', 38)
    >>> work("-", 85, 47, ["smaller_from_larger"])
    ('85 - 47: 7 - 5 = 2, 8 - 4 = 4, so 42.', 42)
    >>> work("x", 47, 3)
    ('47 x 3: 7 x 3 = 21, 4 x 3 + 2 = 14, so 141.', 141)
    >>> work("/", 76, 2)
    ('76 / 2: 7 / 2 = 3 left 1, 16 / 2 = 8, so 38.', 38)
    """
    if (sign == "x" and "adds_for_times" in bugs) or (sign == "-" and "adds_for_minus" in bugs):
        sign = "+"
    if sign == "-" and left < right:
        left, right = right, left
    columns, result = _METHODS[sign](left, right, bugs)
    return f"{left} {sign} {right}: {', '.join(columns)}, so {result}.", result


def _add(left: int, right: int, bugs: Collection[str]) -> tuple[list[str], int]:
    first, second = _digits(left), _digits(right)
    columns, written, carry = [], [], 0
    for place in range(max(len(first), len(second))):
        terms = [number[place] for number in (first, second) if place < len(number)] + ([carry] if carry else [])
        total = sum(terms)
        if len(terms) > 1:
            columns.append(f"{' + '.join(map(str, terms))} = {total}")
        written.append(total % 10)
        carry = total // 10
        if "forgets_carry" in bugs and place + 1 < max(len(first), len(second)):
            carry = 0
    return columns, _number(written, carry)


def _subtract(left: int, right: int, bugs: Collection[str]) -> tuple[list[str], int]:
    top, bottom = _digits(left), _digits(right)
    columns, written, borrowed = [], [], 0
    for place, digit in enumerate(top):
        away = ([bottom[place]] if place < len(bottom) else []) + ([borrowed] if borrowed else [])
        borrowed = 0
        if sum(away) > digit and "smaller_from_larger" in bugs:
            digit, away = away[0], [digit]
        elif sum(away) > digit:
            digit += 10
            borrowed = 0 if "forgets_payback" in bugs else 1
        rest = digit - sum(away)
        if away:
            columns.append(f"{' - '.join(map(str, [digit, *away]))} = {rest}")
        written.append(rest)
    return columns, _number(written)


def _multiply(left: int, right: int, bugs: Collection[str]) -> tuple[list[str], int]:
    columns, written, carry = [], [], 0
    digits = _digits(left)
    for place, digit in enumerate(digits):
        product = digit * right
        if "mixes_tables" in bugs:
            product = MIXED_UP.get((digit, right), product)
        total = product + carry
        columns.append(f"{digit} x {right}{f' + {carry}' if carry else ''} = {total}")
        written.append(total % 10)
        carry = total // 10
        if "forgets_carry" in bugs and place + 1 < len(digits):
            carry = 0
    return columns, _number(written, carry)


def _halve(left: int, right: int, bugs: Collection[str]) -> tuple[list[str], int]:
    columns, result, rest = [], 0, 0
    for digit in reversed(_digits(left)):
        part = 10 * rest + digit
        rest = part % right
        columns.append(f"{part} / {right} = {part // right}{f' left {rest}' if rest else ''}")
        result = 10 * result + part // right
        if "forgets_rest" in bugs:
            rest = 0
    return columns, result


_METHODS = {"+": _add, "-": _subtract, "x": _multiply, "/": _halve}


def _digits(number: int) -> list[int]:
    """Decimal digits, least first."""
    return [int(digit) for digit in reversed(str(number))]


def _number(digits: list[int], carry: int = 0) -> int:
    return sum(digit * 10**place for place, digit in enumerate([*digits, carry]))
