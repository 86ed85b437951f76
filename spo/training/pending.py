"""Unfinished iterations: what was collected, how far training on it has come, and both on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from spo import store
from spo.methods.world import Collected, ValueTarget
from spo.types import Episode

#: Sums of one optimizer step, as `spo.training.optimize` returns them.
Step = dict[str, float]


@dataclass
class Pending:
    """An iteration between its collection and its end.

    `collected` and `reference` (log-probabilities of the Episodes under the starting policy; None where nothing is
    compared) stay as they are; the rest grows with each optimizer step.
    """

    iteration: int
    collected: Collected
    reference: Sequence[Sequence[float]] | None = None
    began: dict[str, int] = field(default_factory=dict)
    """Optimizer steps that were done before this iteration, by the prefix of the optimizer."""
    steps: dict[str, list[Step]] = field(default_factory=dict)
    """Sums of the steps of this iteration, by the prefix of the optimizer."""
    scores: list[tuple[int, float]] = field(default_factory=list)
    """(Steps done, validation accuracy) of each policy of this iteration that may be kept."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the policy that is kept, as far as they are known; those that this process steps."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by phase up to here."""

    @property
    def steps_done(self) -> int:
        """Return the optimizer steps of this iteration so far, of all optimizers."""
        return sum(len(steps) for steps in self.steps.values())


def write_collected(path: Path, pending: Pending) -> None:
    """Write what no longer changes as one safetensors file. Equal sequences are stored once."""
    from safetensors.numpy import save_file

    collected = pending.collected
    arrays = _episodes_to_arrays("episodes", collected.episodes)
    arrays |= _episodes_to_arrays("memory", [episode for _, episode in collected.memory])
    arrays["memory/made"] = np.array([made for made, _ in collected.memory], np.int64)
    for name in ValueTarget._fields:
        arrays |= rows_to_arrays(f"targets/{name}", [getattr(target, name) for target in collected.value_targets])
    if pending.reference is not None:
        arrays |= rows_to_arrays("reference", pending.reference)
    save_file(arrays, path)
    store.permit_usual(path)


def to_json(pending: Pending) -> dict[str, Any]:
    """Return all the rest but `best` as JSON values."""
    collected = pending.collected
    return {
        "iteration": pending.iteration,
        "metrics": collected.metrics,
        "restart": collected.restart,
        "problems": {
            "episodes": [episode.problem_id for episode in collected.episodes],
            "memory": [episode.problem_id for _, episode in collected.memory],
        },
        "began": pending.began,
        "steps": pending.steps,
        "scores": pending.scores,
        "seconds": pending.seconds,
    }


def read(path: Path, document: Mapping[str, Any], best: dict[str, Tensor]) -> Pending:
    """Return what `write_collected` wrote to `path`, with the `document` of `to_json`."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    problems = document["problems"]
    memory = _episodes_from_arrays("memory", arrays, problems["memory"])
    targets = [rows_from_arrays(f"targets/{name}", arrays) for name in ValueTarget._fields]
    collected = Collected(
        episodes=tuple(_episodes_from_arrays("episodes", arrays, problems["episodes"])),
        metrics=document["metrics"],
        memory=tuple(zip(arrays["memory/made"].tolist(), memory, strict=True)),
        value_targets=tuple(ValueTarget(*row) for row in zip(*targets, strict=True)),
        restart=document["restart"],
    )
    return Pending(
        iteration=document["iteration"],
        collected=collected,
        reference=rows_from_arrays("reference", arrays) if "reference/index" in arrays else None,
        began=document["began"],
        steps=document["steps"],
        scores=[(steps, accuracy) for steps, accuracy in document["scores"]],
        best=best,
        seconds=document["seconds"],
    )


#: Fields of an Episode that are sequences of numbers.
_SEQUENCES = ("prompt_ids", "response_ids", "old_logprobs", "advantages")


def _episodes_to_arrays(name: str, episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for key in _SEQUENCES:
        arrays |= rows_to_arrays(f"{name}/{key}", [getattr(episode, key) for episode in episodes])
    return arrays


def _episodes_from_arrays(name: str, arrays: Mapping[str, np.ndarray], problems: Sequence[str]) -> list[Episode]:
    fields = [rows_from_arrays(f"{name}/{key}", arrays) for key in _SEQUENCES]
    return [Episode(problem, *row) for problem, *row in zip(problems, *fields, strict=True)]


def rows_to_arrays(name: str, rows: Sequence[Sequence[float]]) -> dict[str, np.ndarray]:
    """Return different rows one after the other, the length of each, and for each given row its number among them.

    Integers are int32; numbers that float32 holds exactly are float32, others float64.
    """
    places: dict[tuple[float, ...], int] = {}
    index = [places.setdefault(tuple(row), len(places)) for row in rows]
    flat = [number for row in places for number in row]
    if all(isinstance(number, int) for number in flat):
        values = np.array(flat, np.int32)
    else:
        values = np.array(flat, np.float64)
        if np.array_equal(values.astype(np.float32), values):
            values = values.astype(np.float32)
    return {
        f"{name}/values": values,
        f"{name}/lengths": np.array([len(row) for row in places], np.int64),
        f"{name}/index": np.array(index, np.int64),
    }


def rows_from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> list[tuple[float, ...]]:
    """Return the rows that `rows_to_arrays` was given; equal ones are one object."""
    lengths = arrays[f"{name}/lengths"]
    ends = np.cumsum(lengths)
    values = arrays[f"{name}/values"]
    rows = [tuple(values[end - length : end].tolist()) for end, length in zip(ends, lengths, strict=True)]
    return [rows[place] for place in arrays[f"{name}/index"].tolist()]
