"""Final answers of responses: answer tags, the last box, a `####` line, "the answer is", a conclusion.

Every search runs in time linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from spo.grading.cutoff import is_open_ended, is_unfinished
from spo.grading.turns import parts, tagged

# What code prints may be the answer, the code is not
_CODE = re.compile(r"```(?!output)\w*\n.*?(?:```|\Z)|\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_ENDS_OF_CODE = ("[/asy]", "```")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE_BOX = re.compile(r"\s*(-?(?:\d[\d.,]*\d|\d)|[a-zA-Z]\b|\\d?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d))")
# The minus of `= -\boxed{5}` belongs to the answer, that of `10 - \boxed{5}` does not.
_SIGN = re.compile(r"(?:^|[=$(,:]|\\\[|\\\(|\bis)\s*[-\u2212]\s*$")
_ADVERBS = (
    r"(?:[\s,]*\b(?:simply|just|equal\s+to|given\s+(?:by|as)|approximately|about|therefore|thus|hence|then|indeed|clearly|"
    r"actually|exactly|obviously|really|still|also|now|again|probably|likely|in\s+fact|found\s+to\s+be|going\s+to\s+be|"
    r"always|only)\b[\s,]*)*"
)
_PHRASE = re.compile(
    r"\b(?P<strong>(?P<final>final\s+)?answers?|results?|solutions?)\b"
    r"(?:[^.\n:=$\\]{0,60}?(?:\b(?:is|are)\b" + _ADVERBS + r"|[:=])|(?<=final answer)[ \t*_]*\n)[\s*_:=]*",
    re.IGNORECASE,
)
_REVERSED = re.compile(
    r"(?:\b(?:which|and\s+this|and\s+that)\s+)?\b(?:is|are|must\s+be)\s+(?:indeed\s+|therefore\s+|thus\s+)?(?:the|our|your|my)\s+"
    r"(?:correct\s+|final\s+|right\s+|desired\s+|required\s+)?answers?\b(?!\s*(?:is\b|:))",
    re.IGNORECASE,
)
# Before "answer is": what makes it no statement
_UNSURE = re.compile(
    r"\b(?:if|whether|suppose|assume|unless|maybe|perhaps|doubt|unsure|not\s+sure)\s+(?:(?:that|if|whether)\s+){0,2}"
    r"(?:(?:the|our|my|this|his)\s+)?(?:\S+\s+)?$",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:\bnot|n't|\bnever)\s+(?:equal\s+(?:to\s+)?)?$", re.IGNORECASE)
_NEGATED = re.compile(r"\W*(?:not|never|neither|wrong|incorrect|false)\b", re.IGNORECASE)
# "The answer is correct" states nothing
_NO_ANSWER = re.compile(
    r"\W*(?:as\s+follows|the\s+same|in\s+(?:the\s+)?simplest|"
    r"(?:correct|right|valid|reasonable|consistent|plausible|verified|unique|below|above|clear|obvious|long|simple|"
    r"straightforward|complete|shown|given|expected|required|found|obtained|computed)"
    r"(?=\W*$|\s*[,;:]|\s+(?:because|since|as|and|for|in|when|by|with|to|if|here|now|indeed)\b))",
    re.IGNORECASE,
)
# What follows it gives reasons for an answer that stands before.
REASONS = re.compile(
    r"\W*(?:explanation|reasoning|justification|rationale|here(?:'s|\s+is)\s+(?:why|how))\b", re.IGNORECASE
)
_DESCRIPTION = re.compile(r"\W*(?:the|that|this|a|an)\s", re.IGNORECASE)
_FORMULA = re.compile(
    r"\$\$[^$]+\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\$[^$]+\$|"
    r"\\begin\{(?P<lines>align|aligned|gather|eqnarray|equation)\*?\}.+?\\end\{(?P=lines)\*?\}",
    re.DOTALL,
)
_EQUALS = re.compile(r"=|\\equiv(?![a-z])")
_LETTER = re.compile(r"\W*[a-zA-Z](?:_\W*\w+\W*)?\W*")
_SAYS_MORE = re.compile(r"[.!?]\s|\n|[=:]|\b(?:is|are|so|and|which|for|of which)\b", re.IGNORECASE)
_THERE_ARE = re.compile(r"\bthere\s+(?:are|is)\s+(?:only\s+|exactly\s+|a total of\s+)?", re.IGNORECASE)
_BOLD = re.compile(r"\*\*(?P<a>[^*\n]+)\*\*|\\textbf\{(?P<b>[^{}]+)\}")
_NUMBER = re.compile(r"[-\u2212]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:_\{?\d+\}?)?(?:\\?%)?")
# Not the 25 of 25\pi
_WHOLE_NUMBER = re.compile(
    _NUMBER.pattern + r"(?![\d.,/]*\s*(?:\\(?:pi|sqrt|frac|cdot|times|pm|ldots)|[π√^_*+×(]|[xyzni]\b|-\s*\d))"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|(?<=\.\$)\s(?=[A-Z])")
_ASIDE = re.compile(
    r",?\s+(?:as|since|because|which|so|where|when|while|whereas|but|not|if|with|for\s+which|such\s+that)\b"
)
_COPULA = re.compile(r"(?:\b(?:is|are|equals|be)\b|=)" + _ADVERBS + r"\s*", re.IGNORECASE)
# "The result is 2.4 divided by 0.2, so I get 12"
_HENCE = re.compile(r"[,;]\s*(?:so|thus|hence|therefore|which\s+(?:is|gives|equals|means)|giving)\b", re.IGNORECASE)
_CONCLUDES = re.compile(
    r"(?:^|[.!?\n]\$?\s{0,3})(?:so|thus|therefore|hence|finally|in\s+conclusion|consequently)\b", re.IGNORECASE
)
# The last sentence begins so
_ENDS = re.compile(
    r"(?:^|[.!?]\s|\n)\s{0,3}(?:so|thus|therefore|hence|finally|in\s+conclusion|consequently)\b(?:(?![.!?]\s|\n).)*[.!?$)\]\s]*$",
    re.I,
)
_OTHER_NUMBER = {"no", "not", "never", "than", "between", "or"}  # with these a number is not what is stated
_MINUS = re.compile(r"\b(?:minus|negative)\s+(?=[\d$\\])", re.IGNORECASE)
_QUOTES = "\"'`“”‘’"
MOST_PHRASES = 20  # so many of the last "answer is" are looked at
LONGEST_SEARCH = 200_000  # characters at the end in which phrases are looked for
_LONGEST_NAME = 6  # characters before `=`
_LONGEST_PHRASE = 400  # characters
_LONGEST_LINE = 2_000
_LONGEST_TAIL = 5_000
_MOST_WORDS = 5  # of an answer without number or formula


def without_code(text: str) -> str:
    """`text` without blocks of code, unless nothing else has a digit in it; blocks of its output stay."""
    rest = _CODE.sub("\n", text)
    return rest if any(character.isdigit() for character in rest) else text


def boxes(text: str) -> list[tuple[int, str]]:
    """(start, content) of every box with something in it, in order; inner boxes belong to the outer one.

    A box that is never closed is its content up to the end of the line or formula, provided that all braces inside
    it are closed.

    >>> boxes(r"\\boxed{\\frac{1}{2}} or \\fbox{3}, \\boxed 4, \\boxed{5")
    [(0, '\\\\frac{1}{2}'), (23, '3'), (33, '4'), (43, '5')]
    """
    found: list[tuple[int, str]] = []
    done = 0
    for start in _BOX.finditer(text):
        if start.start() < done:
            continue
        place = start.end()
        while place < len(text) and text[place].isspace():
            place += 1
        if place < len(text) and text[place] == "{":
            end = _closing(text, place)
            content = text[place + 1 : end] if end is not None else _unclosed(text[place + 1 :])
            done = len(text) if end is None else end
        else:
            bare = _BARE_BOX.match(text, start.end())
            content = bare.group(1) if bare else ""
        if content.strip():
            found.append((start.start(), content.strip()))
    return found


def box_end(text: str, start: int, content: str) -> int:
    """Return where the content of a box ends that begins at `start`."""
    return text.index(content, start) + len(content)


def last_box(text: str) -> str | None:
    """The content of the last box, None without one."""
    found = boxes(text)
    return found[-1][1] if found else None


def final_answers(text: str) -> list[str]:
    """The final answer as the response states it, best reading first, and last; empty if nothing is stated.

    With several boxes in the last line that has any, the first entry is the last box and the second all of them,
    joined by commas: for a question with several answers.

    >>> final_answers("So $x=3$ or $x=4$.\\nThe answer is $\\\\frac{3}{4}$.")
    ['\\\\frac{3}{4}']
    >>> final_answers(r"Thus \\boxed{2} and \\boxed{3}.")
    ['3', '2, 3']
    """
    thought, said = parts(text)
    if (content := tagged(said)) is not None:
        return _explicit(content) or _whole(content)
    if found := _explicit(said) or ([] if thought and is_unfinished(said) else _mentioned(said)):
        return found
    concluded = _concluded(said)
    return concluded if concluded and _ENDS.search(said[-_LONGEST_PHRASE:]) else _explicit(thought) or concluded


# ---- explicit statements ---------------------------------------------------------------------------------------------


def _explicit(text: str) -> list[str]:
    """Boxes, a `####` line, "the answer is": a final answer after the last box counts more than the box."""
    found, end = _last_boxes(text)
    said = _phrased(text, strong=True, after=end)
    return (said or found) if found else (_in_words(_marked(text)) or said)


def _mentioned(text: str) -> list[str]:
    """ "The result is", unless a conclusion follows."""
    return _phrased(text, strong=False)


def _whole(content: str) -> list[str]:
    """All of what stands in answer tags, or of several lines what they conclude with."""
    if len(content.splitlines()) > 1 and (found := _mentioned(content) or _concluded(content)):
        return found
    stated = _bare(content)
    return [*_in_words(stated), *_last_side(stated or "")]


def _last_boxes(text: str) -> tuple[list[str], int]:
    """(readings, place where the last box ends)."""
    found = boxes(text)
    if not found:
        return [], 0
    end = box_end(text, *found[-1])
    line = text.rfind("\n", 0, found[-1][0]) + 1
    together = [_signed(text, start, content) for start, content in found if start >= line]
    if len(set(together)) > 1:
        return [together[-1], ", ".join(together)], end
    sentence = re.fullmatch(r"\\text\s*\{([^{}\\]*)\}", together[-1])
    return together[-1:] + (_in_words(sentence[1])[1:] if sentence else []), end


def _signed(text: str, start: int, content: str) -> str:
    return f"-{content}" if _SIGN.search(text[max(0, start - 10) : start]) else content


def _marked(text: str) -> str | None:
    _, mark, after = text.rpartition("####")
    line = after.strip().splitlines()[0] if mark and after.strip() else ""
    return _bare(line) if line and not re.match(r"step\b|\d+[.)]\s+[A-Z]", line, re.IGNORECASE) else None


def _phrased(text: str, strong: bool, after: int = 0) -> list[str]:
    """Return what the last "answer is" or "is the answer" states that states anything; not strong: "the result is".

    `after`: the place of the last box. What stands before it does not count, nor does an answer without a value then.
    """
    start = max(after, len(text) - LONGEST_SEARCH)
    statements = [*_PHRASE.finditer(text, start), *(_REVERSED.finditer(text, start) if strong and not after else ())]
    for match in sorted(statements, key=lambda match: match.start())[: -MOST_PHRASES - 1 : -1]:
        if match.re is _REVERSED:
            found = _before(text, match.start())
        elif match["strong"].lower().startswith(("answer", "final")) == strong:
            found = _stated(text, match, strong, bool(after))
        else:
            continue
        if found:
            return found
    return []


def _stated(text: str, match: re.Match[str], strong: bool, boxed: bool) -> list[str]:
    """The readings of what follows a phrase."""
    if _UNSURE.search(text, max(0, match.start() - 60), match.start()):
        return []
    rest = text[match.end() : match.end() + _LONGEST_PHRASE].lstrip()
    said = _sentence(rest)
    if boxed and not match["final"] and not re.search(r"\banswer\s+(?:is|are)\b", match.group(), re.IGNORECASE):
        return []
    if not said or _NEGATED.match(said) or (_NO_ANSWER.match(said) and not match.group().rstrip("* \n").endswith(":")):
        return []
    if strong and not match["final"] and match.group().rstrip("* \n")[-1:] in ":=" and _is_working(text, match, said):
        return []
    has_value = bool(re.search(r"\d|\\|\$", said))
    concludes = _CONCLUDES.search(text, match.end() + len(said))
    if not strong and (not has_value or concludes):
        return []
    if not has_value and concludes and _DESCRIPTION.match(said) and re.search(r"\d", text[concludes.end() :]):
        return []
    if not has_value and (boxed or len(said.split()) > _MOST_WORDS):
        return []
    if (
        not strong
        and (hence := _HENCE.search(said))
        and re.search(r"\d", said[hence.end() :])
        and re.search(r"[a-z]{3}", said)
    ):
        said = said[hence.end() :]
    return _readings(said)


def _is_working(text: str, match: re.Match[str], said: str) -> bool:
    """Return whether "Answer:" is the heading of the working, so that its first sentence is not the answer."""
    if text[: match.start()].strip("#*_ \t\n") or _is_value(said):
        return False
    end = text.find(said, match.end()) + len(said)
    return bool(re.search(r"\d", text[end:])) and not REASONS.match(text, end)


def _is_value(said: str) -> bool:
    """Return whether a sentence is nothing but a value, perhaps with a unit."""
    return bool(_FORMULA.fullmatch(said)) or len(re.findall(r"[a-zA-Z]{2,}", said)) <= 3 and "=" not in said


def _readings(said: str) -> list[str]:
    """The readings of a sentence that states an answer."""
    said = _MINUS.sub("-", said)
    if formula := _FORMULA.match(said):
        # "$2$ and $3$", "$5$ cm": what is between formulas belongs to the answer. "$5$, as desired" does not.
        more = _ASIDE.split(said[formula.end() :].partition(" (")[0], maxsplit=1)[0]
        alone = [] if re.search(r"[\d$\\]", more) else [_bare(formula.group())]
        return [stated for stated in dict.fromkeys([*_in_words(_bare(said)), *alone]) if stated]
    main = _ASIDE.split(said, maxsplit=1)[0]
    if not re.search(r"[\d$\\]", main) and (_DESCRIPTION.match(main) or len(main.split()) > _MOST_WORDS):
        main = said
    if not re.match(r"[a-zA-Z]{2}|[IA]\s", main.lstrip(_QUOTES + "*_ ")):
        return _in_words(_bare(main if not _FORMULA.search(main) else said))
    for named in list(_THERE_ARE.finditer(main))[-1:]:
        if first := _FORMULA.match(main, named.end()) or _NUMBER.match(main, named.end()):
            return _in_words(_bare(first.group()))
    for copula in reversed(list(_outside(main, _COPULA))):
        rest = main[copula.end() :].strip()
        if re.match(r"\W*(?:\d|\$|\\)", rest):
            return _readings(rest)
    formulas = [match for match in _FORMULA.finditer(main) if not _LETTER.fullmatch(match.group())]
    return _in_words(_bare(formulas[0].group() if formulas else main))


def _before(text: str, end: int) -> list[str]:
    """The formula or number that stands right before `end`, as in "so 44 is the answer"."""
    start = max(text.rfind("\n", 0, end) + 1, end - _LONGEST_LINE)
    if _UNSURE.search(text, max(start, end - 60), end):
        return []
    values = [*_FORMULA.finditer(text, start, end), *_NUMBER.finditer(text, start, end)]
    last = max(values, key=lambda match: (match.end(), -match.start()), default=None)
    if last is None or len(text[last.end() : end].split()) > 2:
        return []
    shown = _bare(last.group())
    return [*_in_words(shown), *_last_side(shown or "")]


# ---- what a text ends with -------------------------------------------------------------------------------------------


def _concluded(text: str) -> list[str]:
    """The last formula or number of a text that is not broken off and does not end in doubt."""
    plain = without_code(text)[-_LONGEST_TAIL:]
    stated = _last_value(plain)
    if stated is None or _DENIED.search(plain, max(0, stated.start() - 40), stated.start()):
        return []
    if not text.rstrip().endswith(_ENDS_OF_CODE) and is_open_ended(plain, *stated.span()):
        return []
    shown = _bare(stated.group())
    return [*_in_words(shown), *_last_side(shown or "")]


def _last_value(text: str) -> re.Match[str] | None:
    """What "there are" names in the last sentence, else the last formula, or the last number if it stands later.

    A letter such as the $n$ of "2 values of $n$" is passed over; without any number, what is in bold is returned.
    """
    formulas = [match for match in _FORMULA.finditer(text) if not _LETTER.fullmatch(match.group())]
    numbers = list(_NUMBER.finditer(text, formulas[-1].end() if formulas else 0))
    stated = numbers[-1:] or formulas[-1:] or list(_BOLD.finditer(text))[-1:]
    for named in list(_THERE_ARE.finditer(text))[-1:]:
        first = _FORMULA.match(text, named.end()) or _NUMBER.match(text, named.end())
        if first and stated and not _SAYS_MORE.search(text, first.end(), stated[0].end()):
            stated = [first]
    return stated[0] if stated else None


def _last_side(stated: str) -> list[str]:
    """What stands last in a chain of equations whose left side is more than a name, if there is one."""
    equals = [sign for sign in _EQUALS.finditer(stated) if sign.start() > _LONGEST_NAME]
    side = _bare(re.split(r"\\end\{|\\pmod", stated[equals[-1].end() :], maxsplit=1)[0]) if equals else None
    return [side] if side else []


# ---- pieces of text --------------------------------------------------------------------------------------------------


def _in_words(stated: str | None) -> list[str]:
    """Return what is stated, and if it is a sentence with one number in it, that number."""
    if not stated:
        return []
    words = re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}", stated.lower())
    if len(words) < 3 or _OTHER_NUMBER & set(words) or len(_NUMBER.findall(stated)) != 1:
        return [stated]
    return [stated, *_WHOLE_NUMBER.findall(stated)]


def _outside(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """The matches of `pattern` that are not inside a formula."""
    inside = [match.span() for match in _FORMULA.finditer(text)]
    for match in pattern.finditer(text):
        if not any(start <= match.start() < stop for start, stop in inside):
            yield match


def _sentence(text: str) -> str:
    """`text` up to the end of its first sentence; a full stop in a number or a formula does not end one."""
    return text[: next((end.start() for end in _outside(text, _SENTENCE_END)), len(text))].strip()


def _bare(text: str) -> str | None:
    """Without dollar signs of formulas, markdown, quotes, and punctuation around it."""
    text = re.sub(r"(?<!\\)\$|\\\[|\\\]|\\\(|\\\)|\*\*|(?<!`)`(?!`)|^#+", " ", text).strip()
    text = text.strip("*_").strip().rstrip(".;,").strip()
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text.strip(_QUOTES).rstrip(".,").strip()
    return text or None


def _closing(text: str, opening: int) -> int | None:
    """Where the brace at `opening` is closed."""
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, opening):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return brace.start()
    return None


def _unclosed(text: str) -> str:
    content = re.split(r"(?<!\\)\$|\n|\\\)|\\\]", text.lstrip()[:1000], maxsplit=1)[0].rstrip()
    return content if content.count("{") == content.count("}") else ""
