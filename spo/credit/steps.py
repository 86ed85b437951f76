"""Where the steps of a solution end, read from the text of its tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The line that states the answer, as in GSM8K, after any empty ones.
_CONCLUSION = re.compile(r"\s*####")


def step_ends(pieces: Sequence[str]) -> tuple[int, ...]:
    """Positions of the tokens that end a line, but for those that only the conclusion `#### ...` follows.

    pieces (T): the text of each token. The conclusion so belongs to the last step (VinePPO; spec §4.4).

    >>> step_ends(["1+1", "=2", "\\n", "2+1=3", "\\n", "####", " 3"])
    (2,)
    """
    text, ends, start = "".join(pieces), [], 0
    for position, piece in enumerate(pieces):
        if "\n" in piece and not _CONCLUSION.match(text, start + piece.rindex("\n") + 1):
            ends.append(position)
        start += len(piece)
    return tuple(ends)
