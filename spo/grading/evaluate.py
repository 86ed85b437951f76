"""Whether two expressions have the same value: exact fractions where possible, else 50 digits at several points.

Runs in a worker of `pool`: numbers are bounded before they are computed, but what bounds the time for certain is the
worker's deadline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import mpmath

Value = Fraction | mpmath.mpf | mpmath.mpc
DIGITS = 50
_AGREES = mpmath.mpf(10) ** -30  # relative difference below which two values of 50 digits are the same
_MOST_BITS = 20_000  # of an exact number
_GREATEST_LOG2 = 100_000  # of the size of an inexact one
# Values of variables: no small numbers, at which different expressions meet. The negative ones come last.
_POINTS = ((1.37, 2.71, 0.83, 3.19, 1.91), (0.57, 1.13, 2.39, 4.73, 0.31), (3.41, 0.29, 1.67, 0.71, 2.17),
           (-1.43, 0.61, -2.29, 1.77, -0.47), (0.67, -1.59, 0.37, -2.83, 1.21))  # fmt: skip
_NEGATIVE_FROM = 3
_MOST_NAMES = 25  # of complex variables
_FACTORS = (1, -7, 17, 23, mpmath.mpc(0, 5))  # of the points, for values on both sides and far from 0
_GREATEST_ARGUMENT = 2000  # of a factorial and the like
_CONTINUED = {"factorial": mpmath.factorial, "binom": mpmath.binomial}  # as a variable has no whole value here
_FUNCTIONS = {
    **{
        name: getattr(mpmath, name)
        for name in ["sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "ln", "exp"]
    },
    **{"arc" + name: getattr(mpmath, "a" + name) for name in ["sin", "cos", "tan", "cot", "sec", "csc"]},
    "lg": mpmath.log10,
}


class NoValue(ValueError):
    """The expression has no value here: division by zero, an unknown function, a number too large to compute."""


def same(first: tuple, second: tuple, ratio: bool = False, complex_variables: bool = False) -> bool:
    """Whether two trees of `parse` agree at every point; with `ratio`, whether one is a constant times the other.

    With `complex_variables` roots and logarithms are principal values, so that sqrt(x^2) is not x. Raises NoValue where
    neither can be evaluated at enough points.

    >>> same(("^", ("number", "8"), ("/", ("number", "1"), ("number", "2"))),
    ...      ("*", ("number", "2"), ("^", ("number", "2"), ("/", ("number", "1"), ("number", "2")))))
    True
    """
    with mpmath.workdps(DIGITS):
        names = sorted({*_variables(first), *_variables(second)})
        if len(names) > (_MOST_NAMES if complex_variables else len(_POINTS[0])):
            raise NoValue("too many variables")
        # A root of a negative number has no agreed branch: expressions with roots are compared where all is positive.
        rooted = not complex_variables and (_has_roots(first) or _has_roots(second))
        points = _POINTS[: _NEGATIVE_FROM if rooted else None] if names else _POINTS[:1]
        pairs = []
        for point, factor in zip(points, _FACTORS, strict=False):
            values: dict[str, Value] = dict(zip(names, map(Fraction, map(str, point)), strict=False))
            if complex_variables:
                parts = [(point[n % 5], point[(n + 1) % 5] + n // 5) for n in range(len(names))]
                values = {name: factor * mpmath.mpc(*part) for name, part in zip(names, parts, strict=True)}
            pairs.append((_value(first, values), _value(second, values)))
        if not ratio:
            return all(_equal(a, b) for a, b in pairs)
        if any(a == 0 or b == 0 for a, b in pairs):
            return all((a == 0) == (b == 0) for a, b in pairs) and not all(a == 0 for a, b in pairs)
        return all(_equal(a * pairs[0][1], b * pairs[0][0]) for a, b in pairs)


def rounds_to(first: tuple, decimal: str) -> bool:
    """Whether `first`, a constant, is `decimal` when rounded to its digits after the point.

    >>> rounds_to(("^", ("number", "2"), ("/", ("number", "1"), ("number", "2"))), "1.41")
    True
    """
    with mpmath.workdps(DIGITS):
        value = _value(first, {})
        return bool(abs(_inexact(value) - mpmath.mpf(decimal)) <= mpmath.mpf(10) ** -len(decimal.partition(".")[2]) / 2)


def close(first: tuple, second: tuple) -> bool:
    """Return whether two real constants, rounded to doubles, differ by at most 0.001 or a billionth of the larger.

    The bound is the official one: of two numbers just 0.001 apart rounding decides.

    >>> close(("^", ("number", "2"), ("/", ("number", "1"), ("number", "2"))), ("number", "1.414"))
    True
    """
    with mpmath.workdps(DIGITS):
        a, b = (mpmath.mpmathify(_inexact(_value(tree, {}))) for tree in (first, second))
        if a.imag or b.imag:
            raise NoValue("a complex number has no place on the line")
        return math.isclose(float(a.real), float(b.real), abs_tol=1e-3)


def _equal(a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = _inexact(a), _inexact(b)
    if mpmath.isinf(a) or mpmath.isinf(b):
        return a == b
    return bool(abs(a - b) <= _AGREES * max(abs(a), abs(b), _AGREES))


def _value(tree: tuple, values: dict[str, Value], degrees: bool = False) -> Value:
    """`degrees`: the degree sign here counts as pi/180, as it does inside a trigonometric function."""
    kind = tree[0]
    if kind == "number":
        return Fraction(tree[1])
    if kind == "variable":
        if tree[1] not in values:
            raise NoValue(f"{tree[1]} is no constant")
        return values[tree[1]]
    if kind == "constant":
        return {"pi": mpmath.pi, "e": mpmath.e, "i": mpmath.mpc(0, 1), "infinity": mpmath.inf}[tree[1]] * 1
    if kind == "call":
        return _bounded(_called(tree[1], [_value(part, values, _turns(tree[1])) for part in tree[2:]]))
    if kind == "base":
        return _in_base(tree[1], tree[2])
    if kind not in ("+", "*", "/", "^", "-", "percent", "degrees"):
        raise NoValue(f"a {kind} has no value")
    parts = [_value(part, values, degrees) for part in tree[1:]]
    if kind == "percent":
        return _bounded(parts[0] * Fraction(1, 100))
    if kind == "degrees":
        return _inexact(parts[0]) * mpmath.pi / 180 if degrees else parts[0]
    return _bounded(_computed(kind, parts))


def _computed(kind: str, parts: list[Value]) -> Value:
    if kind == "-":
        return -parts[0]
    a, b = parts
    if kind == "^":
        return _power(a, b)
    if kind == "/" and b == 0:
        raise NoValue("division by zero")
    if not (isinstance(a, Fraction) and isinstance(b, Fraction)):
        a, b = _inexact(a), _inexact(b)
    return a + b if kind == "+" else a * b if kind == "*" else a / b


def _power(base: Value, exponent: Value) -> Value:
    if base == 0:
        if exponent == 0 or mpmath.re(_inexact(exponent)) < 0:
            raise NoValue("a power of zero")
        return Fraction(0)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits <= _MOST_BITS:
            return base ** int(exponent)
    if isinstance(base, Fraction) and base < 0 and isinstance(exponent, Fraction) and exponent.denominator % 2:
        # An odd root of a negative number is the real one, as in school.
        return (-1) ** (exponent.numerator % 2) * _power(-base, exponent)
    base, exponent = _inexact(base), _inexact(exponent)
    if abs(exponent * mpmath.log(abs(base), 2)) > _GREATEST_LOG2:
        raise NoValue("too large a power")
    return mpmath.power(base, exponent)


def _called(name: str, arguments: list[Value]) -> Value:
    if name in ("factorial", "binom", "gcd", "lcm"):
        return _whole_number_function(name, arguments)
    if name == "abs":
        return abs(arguments[0])
    if name == "floor":
        return Fraction(int(mpmath.floor(_inexact(arguments[0]))))
    if name in ("max", "min") and all(isinstance(argument, Fraction) for argument in arguments):
        return max(arguments) if name == "max" else min(arguments)
    if name not in _FUNCTIONS | {"log": None} or len(arguments) != 1:
        raise NoValue(f"no function {name} of {len(arguments)}")
    # `log` without a base is base 10 in schoolbooks and e elsewhere; both sides are read alike.
    try:
        return _FUNCTIONS.get(name, mpmath.log10)(_inexact(arguments[0]))
    except (ValueError, ZeroDivisionError):
        raise NoValue(f"{name} has no value there") from None


def _whole_number_function(name: str, arguments: list[Value]) -> Value:
    if any(abs(a) > _GREATEST_ARGUMENT for a in arguments):
        raise NoValue(f"{name} of no small numbers")
    exact = all(isinstance(a, Fraction) for a in arguments)
    if name in _CONTINUED and (not exact or any(a.denominator > 1 for a in arguments)):
        return _CONTINUED[name](*map(_inexact, arguments))
    if not exact or not all(a.denominator == 1 and a >= 0 for a in arguments):
        raise NoValue(f"{name} of no whole numbers")
    numbers = [int(argument) for argument in arguments]
    functions = {"factorial": math.factorial, "binom": math.comb, "gcd": math.gcd, "lcm": math.lcm}
    try:
        return Fraction(functions[name](*numbers))
    except TypeError:
        raise NoValue(f"{name} of {len(numbers)}") from None


def _in_base(digits: str, base: str) -> Fraction:
    try:
        return Fraction(int(digits, int(base)))
    except ValueError:
        raise NoValue(f"{digits} in base {base}") from None


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > 2 * _MOST_BITS:
            raise NoValue("too large a number")
    elif mpmath.isnan(value) or (value and not mpmath.isinf(value) and abs(mpmath.mag(value)) > 2 * _GREATEST_LOG2):
        raise NoValue("not a number, or too large a one")
    return value


def _inexact(value: Value) -> Value:
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _turns(name: str) -> bool:
    return name in ("sin", "cos", "tan", "cot", "sec", "csc")


def _variables(tree: tuple) -> Iterator[str]:
    if tree[0] == "variable":
        yield tree[1]
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from _variables(part)


def _has_roots(tree: tuple) -> bool:
    """Whether a power that is no whole number, or a logarithm, has a variable in it."""
    rooted = (tree[0] == "^" and tree[2][0] != "number") or (tree[0] == "call" and tree[1] in ("ln", "log", "lg"))
    if rooted and any(True for _ in _variables(tree)):
        return True
    return any(_has_roots(part) for part in tree[1:] if isinstance(part, tuple))
