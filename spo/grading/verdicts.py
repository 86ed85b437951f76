"""What graders have in common: the fixed phrases of a verdict, and how much of an answer is stored."""

from __future__ import annotations

EQUAL, DIFFERENT, MISSING, SEVERAL = "equal", "different", "no answer", "several conclusions"
LONGEST_SHOWN = 200  # characters


def shown(text: str | None) -> str | None:
    """What a verdict stores of an extracted answer."""
    return text if text is None else text[:LONGEST_SHOWN]
