"""The parts of a response: what was thought, what was said, what stands in answer tags, and what belongs to it at all.

Every search runs in time linear in the length of the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# A base model that does not stop writes the next problem; what it says there is not about this one.
_NEXT_PROBLEM = re.compile(
    r"\n[ \t#*]*(?:\[MATH_TASK\]|\[?(?:Problem|Question|Exercise|Example)\]?(?:\s*\d+)?[ \t*]*[:.]|Q\d*:|"
    r"(?:Human|User|Instruction|Input)\**:|Below is an instruction)|\n#+[ \t]*\**(?:Problem|Question|Exercise)\b"
)
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext|end_of_text|eot_id|end)\|>|<｜end▁of▁sentence｜>|</s>")
_STATED = re.compile(
    r"####|\\(?:boxed|fbox)(?![a-zA-Z])|</answer>|\b(?:answer|result|solution)s?\b[^.\n]{0,60}?(?:\bis\b|\bare\b|[:=])",
    re.I,
)
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_CLOSING_TAG = re.compile(r"</answer>", re.IGNORECASE)
_CLOSED = "</think>"
_LONGEST_SEARCH = 200_000  # characters at the beginning in which the first answer is looked for
_LONGEST_OPEN = 500  # characters of an answer whose tag is not closed
_MOST_TAGS = 20  # so many of the last answer tags are looked at


class Parts(NamedTuple):
    """`thought` is empty where nothing was thought aloud; `said` is empty where a thought is never closed."""

    thought: str
    said: str


def parts(response: str) -> Parts:
    r"""The thought of a response and what is said after it, up to the end of the turn or the next problem.

    >>> parts("<think>5? 6!</think>\nIt is 6.\n\nProblem: 1 + 1?")
    Parts(thought='<think>5? 6!', said='\nIt is 6.\n\nProblem: 1 + 1?')
    >>> parts("So 5.\n#### 5\n\nProblem:\nWhat is 2 + 4?\n#### 6")
    Parts(thought='', said='So 5.\n#### 5')
    """
    text = next((turn for turn in _END_OF_TURN.split(response) if turn.strip()), "")
    thought, closed, said = text.partition(_CLOSED)
    if not closed:
        return Parts(text, "") if text.lstrip().startswith("<think>") else Parts("", _first_problem(text))
    before, _, after = _first_problem(said).rpartition(_CLOSED)
    return Parts(thought + before, after) if after.strip() else Parts(thought, before)


def tagged(text: str) -> str | None:
    """The content of the last `<answer>` with anything in it; the last one need not be closed.

    >>> tagged("in <answer> </answer> tags: <answer>5</answer>"), tagged("<answer>5"), tagged("5")
    ('5', '5', None)
    """
    for tag in list(_TAG.finditer(text))[: -_MOST_TAGS - 1 : -1]:
        end = _CLOSING_TAG.search(text, tag.end())
        content = text[tag.end() : end.start() if end else len(text)].strip()
        if content and (end or len(content) <= _LONGEST_OPEN):
            return content
    return None


def _first_problem(text: str) -> str:
    """`text` up to where another problem follows an explicit answer; a problem before that is this one, said again."""
    answer = _STATED.search(text, 0, _LONGEST_SEARCH)
    problem = _NEXT_PROBLEM.search(text, answer.end()) if answer else None
    return text[: problem.start()].rstrip() if problem else text
