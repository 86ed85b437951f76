r"""One way to write each symbol of an answer, and a flat form in which many equal writings are equal strings.

Nothing is run or evaluated here.
"""

from __future__ import annotations

import re

LONGEST_ANSWER = 1000  # characters; longer ones are not read


#: characters, and what they are in LaTeX
_CHARACTERS = str.maketrans(
    dict.fromkeys("−–—‐‑‒", "-")
    | dict.fromkeys("\u00a0\u2009\u202f\u200b\u2002\u2003~", " ")
    | dict.fromkeys("×·⋅", "*")
    | {"²": "^2", "³": "^3", "½": r"\frac12", "¼": r"\frac14", "¾": r"\frac34", "÷": "/", "√": r"\sqrt ", "π": r"\pi "}
    | {"∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∪": r"\cup "}
    | {"∈": r"\in ", "°": r"^\circ ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "∅": r"\emptyset "}
    | {"ℝ": r"\mathbb{R}", "⟨": r"\langle ", "⟩": r"\rangle "}
    | dict.fromkeys("“”„", "")
)
#: commands that mean the same as the first of their line
_SYNONYMS = r"""
\frac dfrac tfrac cfrac
\binom dbinom tbinom
\le leq leqslant
\ge geq geqslant
\ne neq
\approx simeq sim doteq
\emptyset varnothing
^\circ degree degrees
\{ lbrace
\} rbrace
[ lbrack
] rbrack
| lvert rvert vert mid
* times cdot ast
\cup bigcup
/ div
: colon
< lt
> gt
"""
_COMMANDS = {name: line.split()[0] for line in _SYNONYMS.strip().splitlines() for name in line.split()[1:]}
_DROPPED = """
left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle quad qquad limits nolimits rm bf it
bm hfill thinspace space large Large LARGE huge Huge small normalsize underline triangle angle measuredangle therefore
because implies Rightarrow boxed fbox
"""
_COMMANDS |= dict.fromkeys(_DROPPED.split(), "")
TEXT = (
    r"(?:text|mbox|mathrm|textbf|textit|textrm|textnormal|textsf|mathsf|mathbf|mathit|boldsymbol|hbox|operatorname\*?)"
)
_TEXT_GROUP = re.compile(rf"\\{TEXT}\s*\{{[^{{}}]*\}}")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_SPACING = re.compile(r"\\[,;:!> ]|\\(?=\n)|\{\}|\\phantom\s*(?:\{[^{}]*\}|.)|\\[hv]space\{[^{}]*\}")
_COLOUR = re.compile(r"\\(?:text)?color\s*\{[^{}]*\}")
_CHOOSE, _OVER = (re.compile(rf"\{{([^{{}}]*)\\{name}(?![a-zA-Z])([^{{}}]*)\}}") for name in ("choose", "over"))
# {x | 3 < x \le 5} says 3 < x \le 5
_SET_BUILDER = re.compile(r"\\\{\s*[a-zA-Z]\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?[|:]\s*([^{}]+)\\\}")
# One digit three times, or several digits twice, before an ellipsis
_RECURRING = re.compile(
    r"(?P<before>\.\d{0,6}?)(?:(?P<a>\d)(?P=a){2,}|(?P<b>\d{2,6}?)(?P=b)+)\s*(?:\\[lc]?dots(?:\s*\{\})?|\.{3}|…)"
)
_ABOUT = re.compile(rf"\\{TEXT}\s*\{{[^{{}}\w]*(?:or\s+)?(?:approximately|about|roughly)[^{{}}\w]*\}}")
_ALL_BUT = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?\s*\\(?:setminus|backslash)\s*\\\{([^{},]+)\\\}")
_EXPONENT = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]?\d{1,3})(?![\w.])")
_INTRODUCTION = re.compile(r"\s*\\text\s*\{[^{}]*(?:\b(?:is|are|equals)|[:=])\s*\}")
_UNIT_RATIO = re.compile(
    rf"(?<=[\d}}])\s*\\[dt]?frac\s*\{{\s*\\{TEXT}\s*\{{[^{{}}]*\}}\s*\}}\s*\{{\s*\\{TEXT}\s*\{{[^{{}}]*\}}\s*\}}"
)
# 12^{\mathrm{th}}, 12\text{th}, 12th
_NO_TEXT = re.compile(rf"\\{TEXT}\s*\{{\s*\}}")
_ORDINAL = re.compile(
    rf"(?<=\d)\s*(?:\^\s*\{{\s*(?:\\{TEXT}\s*\{{\s*(?:st|nd|rd|th)\s*\}}|st|nd|rd|th)\s*\}}"
    rf"|\^?\s*\\{TEXT}\s*\{{\s*(?:st|nd|rd|th)\s*\}}|(?:st|nd|rd|th)\b)"
)
_ONE_UNIT = r"\\mathrm\s*\{\s*~?\s*[a-zA-Z]{1,4}\s*\}(?:\s*\^\s*(?:\{\s*-?\d\s*\}|\d))?"
# \mathrm{~km} / \mathrm{h}: one letter alone, \mathrm{m}, may be a variable
_UNITS = re.compile(
    rf"(?<=[\d}}\s,])\s*(?:\\mathrm\s*\{{\s*~\s*[a-zA-Z]{{1,4}}\s*\}}(?:\s*\^\s*(?:\{{\s*-?\d\s*\}}|\d))?"
    rf"|{_ONE_UNIT}(?=\s*(?:/|\\cdot|\\,)?\s*\\mathrm))(?:\s*(?:/|\\cdot(?![a-z])|\\,)?\s*{_ONE_UNIT})*\s*$"
)
_TRIGONOMETRIC = re.compile(r"sin|cos|tan|cot|sec|csc")
# A word, a date, a time of day: not a formula, in which case matters.
_WORDY = re.compile(r"[a-zA-Z.:\d]*[a-zA-Z]{3,}[a-zA-Z.:\d]*|\d+(?::\d\d)?[aApP][mM]")


def clean(text: str) -> str:
    r"""One way to write each symbol: no `\left`, `\dfrac`, `$`, spacing commands, separators of thousands in braces.

    >>> clean(r"\left( \dfrac{1}{2},\; 10{,}000 \right)").replace(" ", "")
    '(\\frac{1}{2},10000)'
    """
    text = _ORDINAL.sub("", _UNITS.sub("", text))
    text = (
        re.sub(r"(?<=\d)(?:\{,\}|,\s*\\!\s*|\\!\s*,\s*\\?!?\s*|\\,)(?=\s*\d{3})", "", text)
        .translate(_CHARACTERS)
        .rstrip("\\ ")
    )
    if re.fullmatch(r"\s*-?\$?\d{1,3}(?:\s\d{3})+\s*", text):
        text = re.sub(r"\s", "", text)
    text = _NO_TEXT.sub("", text)
    text = text.replace("\\\\", r"\row " if r"\begin" in text else "\\")
    text = re.sub(r"\\row\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]", r"\\row ", text)
    text = _SPACING.sub(" ", text).replace(r"\$", "").replace("$", "").replace(r"\%", "%").replace("**", "")
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = _OVER.sub(r"\\frac{\1}{\2}", _CHOOSE.sub(r"\\binom{\1}{\2}", text))
    text = _RECURRING.sub(lambda m: rf"{m['before']}\overline{{{m['a'] or m['b']}}}", _COLOUR.sub("", text))
    text = _EXPONENT.sub(r"\1 * 10^{\2}", _ALL_BUT.sub(r"x \\ne \1", _ABOUT.sub(r" \\approx ", text)))
    text = _UNIT_RATIO.sub(" ", text)
    text = text[introduction.end() :] if (introduction := _INTRODUCTION.match(text)) else text
    text = re.sub(r"\\(?:mathbf|boldsymbol|mathrm|mathit|vec|bm)\s*\{\s*([a-zA-Z])\s*\}", r" \1 ", text)
    text = re.sub(r"\(\s*(\w+)\s*\)\s*(?=_)", r"\1", text)
    text = re.sub(r"([\])])\s*U\s*([\[(])", r"\1\\cup \2", text)
    text = _COMMAND.sub(lambda command: _COMMANDS.get(command.group(1), command.group()) + " ", text)
    text = text.strip().strip("`").rstrip(".;,").strip()
    builder = _SET_BUILDER.fullmatch(text)
    return builder[1].strip() if builder else text


def flat(text: str) -> str:
    r"""A string that is the same for writings of an answer that differ in spaces, fonts, units' place and braces.

    >>> flat(r"\text{(C)}") == flat("C") and flat(r"\frac{3}{4}") == flat(r"\dfrac34")
    True
    """
    text = re.sub(rf"\\{TEXT}\s*\{{([^{{}}]*)\}}", r" \1 ", clean(text))
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2", text)
    text = re.sub(r"\\sqrt\s*(\d)(?!\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?::00)?(\s*)\b([ap])\.?\s?m\b\.?", r"\1\2m", text, flags=re.IGNORECASE)
    if not _TRIGONOMETRIC.search(text):
        text = re.sub(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})", "", text)
    bare = re.sub(r"\s+", "", thousands(text)).rstrip(".")
    if re.fullmatch(r"\([a-zA-Z]\)", bare):
        bare = bare[1:-1]
    bare = re.sub(r"(?<![\d.])0+(?=\d+(?::\d\d|$))", "", bare)
    return bare.casefold() if _WORDY.fullmatch(bare) else bare


def thousands(text: str) -> str:
    r"""The text without the commas in numbers such as `10,080`, unless a bracket or another comma says it is a list.

    >>> thousands("10,080"), thousands(r"x = 1,200.50 \text{ dollars}")
    ('10080', 'x = 1200.50 \\text{ dollars}')
    >>> thousands("1,2"), thousands("1, 200"), thousands("(1,200)"), thousands("1,200, 3")
    ('1,2', '1, 200', '(1,200)', '1,200, 3')
    """
    others = _GROUPED.sub("", _TEXT_GROUP.sub("", text))
    if re.search(r"[,;(\[]|\\[{b]", others):
        return text
    return _GROUPED.sub(lambda number: number.group().replace(",", ""), text)
