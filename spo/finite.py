"""Logits, values and losses that are NaN or infinite: one line that says whether the weights are the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from spo.errors import RunFailure

_NAMED = 2


class NotFinite(RunFailure):
    """Numbers that nothing can be computed from; `problem` is the message without its remedy."""

    def __init__(self, problem: str, remedy: str = "Take another copy of the model") -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem


def check(numbers: Any, name: str = "logits") -> None:
    """Raise NotFinite if one of `numbers` (a tensor or an array), which are `name`, is NaN or infinite."""
    # A sum is one pass and one number to fetch from a GPU; finite log-probabilities do not add up to infinity.
    if not abs(float(numbers.sum())) < float("inf"):
        raise NotFinite(f"{name} are not finite")


@contextmanager
def explained(weights: Mapping[str, Any]) -> Iterator[None]:
    """Say of a NotFinite raised inside whether `weights` (tensors by name) are finite, and what to do."""
    try:
        yield
    except NotFinite as error:
        broken = [name for name, weight in weights.items() if not bool(weight.detach().isfinite().all())]
        if not broken:
            raise NotFinite(
                f"{error.problem}, though all weights are finite", "Set dtype: float32, or take another model"
            ) from None
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        names = ", ".join(broken[:_NAMED])
        raise NotFinite(
            f"{error.problem}: weights hold NaN or infinity: {names}{more}",
            "The model's files are damaged, or its training diverged: take another copy or checkpoint",
        ) from None


@contextmanager
def dated(steps: Callable[[], int]) -> Iterator[None]:
    """Say of a NotFinite raised inside how many optimizer steps came before: only they can be to blame on settings."""
    try:
        yield
    except NotFinite as error:
        taken = steps()
        if not taken:
            raise NotFinite(
                f"{error.problem}; nothing was updated yet, so that training is not the reason",
                "Check the starting model",
            ) from None
        raise NotFinite(
            f"{error.problem}; nothing was updated since optimizer step {taken}",
            "Lower optimizer.lr or optimizer.max_grad_norm",
        ) from None
