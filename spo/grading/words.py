"""Numbers in words: `twenty-five`, `one hundred and five`, `two million`."""

from __future__ import annotations

import re

_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {name: value for value, name in enumerate(["zero", *_UNITS, *_TEENS])}
_SMALL |= {name: 10 * value for value, name in enumerate(_TENS, start=2)}
SCALES = {"dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[\s-]+(?:{'|'.join(_UNITS)}))?|{'|'.join(['zero', *_TEENS, *_UNITS])})"
_NUMBER = re.compile(
    rf"\b(?:(?P<hundreds>{_BELOW_100})\s+hundred(?:\s+(?:and\s+)?(?P<rest>{_BELOW_100}))?|(?P<small>{_BELOW_100}))"
    rf"(?:\s+(?P<scale>{'|'.join(SCALES)}))?\b",
    re.IGNORECASE,
)


def values(text: str) -> list[int]:
    """The numbers that are written in words, in order.

    >>> values("Forty-two, one hundred and five or two million"), values("someone")
    ([42, 105, 2000000], [])
    """
    return [_value(match) for match in _NUMBER.finditer(text)]


def digits(text: str) -> str:
    """A text that is nothing but a number in words, in digits; any other text unchanged.

    >>> digits("sixteen"), digits("sixteen tons")
    ('16', 'sixteen tons')
    """
    match = _NUMBER.fullmatch(text)
    return str(_value(match)) if match else text


def _value(match: re.Match[str]) -> int:
    value = _small(match["small"] or match["rest"])
    if match["hundreds"]:
        value += 100 * _small(match["hundreds"])
    return value * SCALES.get((match["scale"] or "").lower(), 1)


def _small(name: str | None) -> int:
    return sum(_SMALL[part] for part in re.split(r"[\s-]+", name.lower())) if name else 0
