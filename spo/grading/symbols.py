"""The words and signs of written mathematics that `tokens` and `parse` know."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _names("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp lg gcd lcm max min det")
#: words around an answer that are no part of it
FILLER = _names("option choice approximately about exactly only is the are answer equals equal")
#: lower-case words of two or three letters that are no product of variables
SHORT_WORDS = FILLER | _names(
    "cm mm km ft kg lb lbs oz mi min hr hrs sq sec mph kph mg ml gm in yd deg rad day way per and or am pm usd no yes"
    " to odd one two six ten all"
)

#: what a unit may be per: 60 km/h
UNIT_LETTERS = _names("h s m g l L")
#: words between values, which are no units
BETWEEN = ("and", "or", "to")
#: LaTeX names of what plain text spells out
SPELT = {"sqrt": r"\sqrt", "pi": r"\pi", "inf": r"\infty", "infinity": r"\infty", "frac": r"\frac"}
RELATIONS = {sign: sign for sign in ("=", "<", ">", "<=", ">=", "!=")}
RELATIONS |= {r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\approx": "~", r"\equiv": "="}
#: opening bracket -> what may close it
CLOSING = {"(": (")", "]"), "[": ("]", ")"), "{": ("}",), r"\{": (r"\}",), "|": ("|",)}
CLOSING |= {r"\langle": (r"\rangle",), r"\lfloor": (r"\rfloor",), r"\lceil": (r"\rceil",)}
GREEK = _names(
    r"\alpha \beta \gamma \delta \epsilon \varepsilon \zeta \eta \theta \lambda \mu \nu \xi \rho \sigma \tau \phi"
    r" \varphi \chi \psi \omega \Delta \Gamma \Omega \ell"
)
#: signs and commands that begin a factor
STARTS = GREEK | _names(r"\pi \infty \frac \sqrt \binom \overline \mathbb \emptyset \{ \langle \lfloor \lceil ( [ {")
