"""Where a response states its final answer: the last box, a `####` line, "the answer is", the last formula or number.

Every search runs in time linear in the length of the text.
"""

from __future__ import annotations

import re

# A base model that does not stop writes the next problem; what it says there is not about this one.
_NEXT_PROBLEM = re.compile(
    r"\n[ \t#*]*(?:\[MATH_TASK\]|\[?(?:Problem|Question|Exercise|Example)\]?(?:\s*\d+)?[ \t*]*[:.]|Q\d*:|"
    r"(?:Human|User|Instruction|Input)\**:|Below is an instruction)|\n#+[ \t]*\**(?:Problem|Question|Exercise)\b"
)
# What code prints may be the answer, the code is not
_CODE = re.compile(r"```(?!output)\w*\n.*?(?:```|\Z)|\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext|end_of_text|eot_id|end)\|>|<｜end▁of▁sentence｜>|</s>")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE_BOX = re.compile(r"\s*(-?(?:\d[\d.,]*\d|\d)|[a-zA-Z]\b|\\d?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d))")
_PHRASE = re.compile(
    r"\b(?:answer|result|solution)s?\b[^.\n:=$\\]{0,60}?"
    r"(?:\bis\b(?:\s+(?:simply|just|equal\s+to|given\s+by|approximately|therefore))?|"
    r"\bare\b|:|=)[\s*_:=]*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$[^$]+\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\$[^$]+\$|"
    r"\\begin\{(?P<lines>align|aligned|gather|eqnarray|equation)\*?\}.+?\\end\{(?P=lines)\*?\}",
    re.DOTALL,
)
_EQUALS = re.compile(r"=|\\equiv(?![a-z])")
_LETTER = re.compile(r"\W*[a-zA-Z]\W*")
_SAYS_MORE = re.compile(r"[.!?]\s|\n|[=:]|\b(?:is|are|so|and|which|for|of which)\b", re.IGNORECASE)
_THERE_ARE = re.compile(r"\bthere\s+(?:are|is)\s+(?:only\s+|exactly\s+|a total of\s+)?", re.IGNORECASE)
_BOLD = re.compile(r"\*\*(?P<a>[^*\n]+)\*\*|\\textbf\{(?P<b>[^{}]+)\}")
_NUMBER = re.compile(r"[-\u2212]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\\?%)?")
# Not the 25 of 25\pi
_WHOLE_NUMBER = re.compile(
    _NUMBER.pattern + r"(?![\d.,/]*\s*(?:\\(?:pi|sqrt|frac|cdot|times|pm|ldots)|[π√^_*+×(]|[xyzni]\b|-\s*\d))"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_ASIDE = re.compile(r",?\s+(?:as|since|because|which|so|where|when|not|if)\b")
_OTHER_NUMBER = {"no", "not", "never", "than", "between", "or"}  # with these a number is not what is stated
MOST_PHRASES = 20  # so many of the last "answer is" are looked at
_LONGEST_NAME = 6  # characters before `=`
_LONGEST_PHRASE = 400  # characters
_LONGEST_TAIL = 5_000


def first_problem(text: str) -> str:
    """`text` up to the end of the turn, or where another problem follows if an explicit answer stands before that.

    >>> first_problem("So 5.\\n#### 5\\n\\nProblem:\\nWhat is 2 + 4?\\n#### 6")
    'So 5.\\n#### 5'
    """
    text = next((turn for turn in _END_OF_TURN.split(text) if turn.strip()), "")
    next_problem = _NEXT_PROBLEM.search(text)
    if next_problem is None:
        return text
    before = text[: next_problem.start()].rstrip()
    return before if "####" in before or _BOX.search(before) or _PHRASE.search(before) else text


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
    text = first_problem(text)
    thought, closed, said = text.rpartition("</think>")
    parts = (said, thought) if closed and said.strip() else (text,)
    for part in parts:
        if found := _last_boxes(part) or _in_words(_marked(part)) or _phrased(part):
            return found
    stated = _last_formula(parts[0])
    return [*_in_words(stated), *_last_side(stated or "")]


def _last_boxes(text: str) -> list[str]:
    found = boxes(text)
    line = text.rfind("\n", 0, found[-1][0]) + 1 if found else 0
    together = [content for start, content in found if start >= line]
    if len(set(together)) > 1:
        return [together[-1], ", ".join(together)]
    sentence = together and re.fullmatch(r"\\text\s*\{([^{}\\]*)\}", together[-1])
    return together[-1:] + (_in_words(sentence[1])[1:] if sentence else [])


def _in_words(stated: str | None) -> list[str]:
    """What is stated, and if it is a sentence with one number in it, that number."""
    if not stated:
        return []
    words = re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}", stated.lower())
    if len(words) < 3 or _OTHER_NUMBER & set(words) or len(_NUMBER.findall(stated)) != 1:
        return [stated]
    return [stated, *_WHOLE_NUMBER.findall(stated)]


def _marked(text: str) -> str | None:
    _, mark, after = text.rpartition("####")
    line = after.strip().splitlines()[0] if mark and after.strip() else ""
    return _bare(line) if line and not re.match(r"step\b|\d+[.)]\s+[A-Z]", line, re.IGNORECASE) else None


def _phrased(text: str) -> list[str]:
    """What follows the last "answer is" or "answer:" that anything follows."""
    for match in list(_PHRASE.finditer(text))[: -MOST_PHRASES - 1 : -1]:
        rest = text[match.end() : match.end() + _LONGEST_PHRASE].lstrip()
        if not (said := _sentence(rest)):
            continue
        if formula := _FORMULA.match(said):
            # "$2$ and $3$", "$5$ cm": what is between formulas belongs to the answer. "$5$, as desired" does not.
            more = _ASIDE.split(said[formula.end() :].partition(" (")[0], maxsplit=1)[0]
            alone = [] if re.search(r"[\d$\\]", more) else [_bare(formula.group())]
            return [stated for stated in dict.fromkeys([*_in_words(_bare(said)), *alone]) if stated]
        inner = _FORMULA.search(said)
        return _in_words(_bare(inner.group() if inner else _ASIDE.split(said, maxsplit=1)[0]))
    return []


def _last_formula(text: str) -> str | None:
    """What "there are" names in the last sentence, else the last formula, or the last number if it stands later.

    A letter such as the $n$ of "2 values of $n$" is passed over; without any number, what is in bold is returned.
    """
    text = without_code(text)[-_LONGEST_TAIL:]
    formulas = [match for match in _FORMULA.finditer(text) if not _LETTER.fullmatch(match.group())]
    numbers = list(_NUMBER.finditer(text, formulas[-1].end() if formulas else 0))
    stated = numbers[-1:] or formulas[-1:] or list(_BOLD.finditer(text))[-1:]
    for named in list(_THERE_ARE.finditer(text))[-1:]:
        first = _FORMULA.match(text, named.end()) or _NUMBER.match(text, named.end())
        if first and stated and not _SAYS_MORE.search(text, first.end(), stated[0].end()):
            stated = [first]
    return _bare(stated[0].group()) if stated else None


def _last_side(stated: str) -> list[str]:
    """What stands last in a chain of equations whose left side is more than a name, if there is one."""
    equals = [sign for sign in _EQUALS.finditer(stated) if sign.start() > _LONGEST_NAME]
    side = _bare(re.split(r"\\end\{|\\pmod", stated[equals[-1].end() :], maxsplit=1)[0]) if equals else None
    return [side] if side else []


def _sentence(text: str) -> str:
    """`text` up to the end of its first sentence; a full stop in a number or a formula does not end one."""
    inside = [match.span() for match in _FORMULA.finditer(text)]
    for end in _SENTENCE_END.finditer(text):
        if not any(start <= end.start() < stop for start, stop in inside):
            return text[: end.start()].strip()
    return text.strip()


def _bare(text: str) -> str | None:
    """Without dollar signs of formulas, markdown, and punctuation around it."""
    text = re.sub(r"(?<!\\)\$|\\\[|\\\]|\\\(|\\\)|\*\*|`|^#+", " ", text).strip()
    return text.strip("*_").strip().rstrip(".;,").strip() or None


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
