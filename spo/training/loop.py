"""Iterations that survive anything: resume, do, log, save. RL and SFT hand it one iteration as a function."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from spo import finite, store
from spo.launch import TERMINAL
from spo.methods.world import Clock
from spo.stopping import stopped, stopped_politely
from spo.training import checkpoint, ranks
from spo.training.checkpoint import BEST, Memory, State
from spo.training.descent import Descent
from spo.training.pending import Pending

#: Phases that are not training time: they would not be there in a run that only wants the model.
NOT_TRAINING = ("validate", "save")
#: A terminal sees one line of a job in this time.
TELL_EVERY_S = 10.0


@dataclass(frozen=True)
class Iterated:
    """What one iteration reports: numbers that every run repeats exactly, and what the next iteration needs."""

    metrics: dict[str, float]
    memory: Memory = ()


@dataclass(frozen=True)
class Midway:
    """Checkpoints inside an iteration.

    `found` is how far the iteration had come when the run was stopped, None if it is to begin. `collecting` is called
    while it collects, when all that is drawn has been kept; `reached` says how far it has come, after its collection
    and after each optimizer step, and saves where that is due. Both raise RunFailure after SIGTERM or
    Ctrl-C.
    """

    found: Pending | None
    collecting: Callable[[], None]
    reached: Callable[[Pending], None]


def run(
    *,
    name: str,
    total: int,
    iterate: Callable[[int, Memory, Clock, Midway], Iterated],
    descents: Mapping[str, Descent],
    state: Path,
    fingerprint: Mapping[str, object],
    checkpoint_every: int,
    checkpoint_every_steps: int | None = None,
    describe: Callable[[dict[str, float]], str],
) -> None:
    """Bring the run in folder `state` to `total` iterations and leave the weights of `descents` there.

    The key of a descent begins the names of its tensors and counters; an empty one adds nothing.

    `iterate(i, memory, clock, midway)` does iteration i (1 to total; 0 only reports). Metrics go to
    `state/metrics.jsonl`, seconds to `state/timing.jsonl`; both are cut back on resume, so a killed run ends in the
    metrics and weights of an undisturbed one. With `checkpoint_every_steps` state is saved inside iterations too.
    SIGTERM and Ctrl-C finish the iteration, or the optimizer step with `checkpoint_every_steps`, save, and raise
    RunFailure (see `spo.stopping`). Of several processes the first writes, and a signal to any of them stops all.
    """
    with store.locked(state) if ranks.first() else nullcontext(), stopped_politely("iteration", ranks.first()) as asked:
        if ranks.first():
            checkpoint.claim(state, fingerprint)
        found = checkpoint.load(state)
        done, memory, counters, pending = -1, (), {"sampled_tokens_total": 0.0, "seconds_total": 0.0}, None
        if found is not None:
            done, memory, counters, pending = found.done, found.memory, dict(found.counters), found.pending
            for prefix, descent in descents.items():
                own = {name.removeprefix(prefix): t for name, t in found.tensors.items() if name.startswith(prefix)}
                descent.restore(own, int(counters[f"{prefix}optimizer_steps"]))
                del own
            found = None  # or its tensors would stay as long as the run
            if ranks.first():
                inside = f", {pending.steps_done} optimizer steps into the next" if pending is not None else ""
                print(f"{name}: resuming after iteration {done} of {total}{inside}", flush=True)
        progress = _Progress(name, total, done)

        def save(iteration: int, memory: Memory, pending: Pending | None, clock: Clock) -> None:
            tensors = {
                prefix + name: tensor
                for prefix, descent in descents.items()
                for name, tensor in descent.tensors().items()
            }
            if pending is not None:
                tensors |= {BEST + name: weight for name, weight in pending.best.items()}
                pending.seconds = dict(clock.seconds)
            steps = {f"{prefix}optimizer_steps": descent.steps for prefix, descent in descents.items()}
            with clock.phase("save"):
                checkpoint.save(state, State(iteration, tensors, memory, counters | steps, pending))

        def midway(iteration: int, found: Pending | None, memory: Memory, clock: Clock) -> Midway:
            def collecting() -> None:
                flags = ranks.anywhere(asked.flags())
                if any(flags):
                    save(iteration - 1, memory, None, clock)
                    raise stopped(flags, f"{name}: {{by}} in iteration {iteration} of {total}, while it sampled")

            def reached(pending: Pending) -> None:
                if checkpoint_every_steps is None:
                    return
                flags = ranks.anywhere(asked.flags())
                stop = any(flags)
                if stop or pending.steps_done % checkpoint_every_steps == 0:
                    save(iteration - 1, (), pending, clock)
                where = f"in iteration {iteration} of {total}, after {pending.steps_done} optimizer steps"
                if stop:
                    raise stopped(flags, f"{name}: {{by}} {where}")
                if pending.steps_done % checkpoint_every_steps == 0 and ranks.first():
                    print(f"{name}: saved {where}", flush=True)

            if found is not None:
                clock.seconds |= found.seconds
            return Midway(found, collecting, reached)

        for iteration in range(done + 1, total + 1):
            clock = Clock()
            with finite.dated(lambda: sum(descent.steps for descent in descents.values())):
                out = iterate(iteration, memory, clock, midway(iteration, pending, memory, clock))
            memory, pending = out.memory, None
            metrics = _log(state, iteration, out.metrics, counters, clock)
            flags = ranks.anywhere(asked.flags())
            stop = any(flags)
            if iteration == total or iteration % checkpoint_every == 0 or stop:
                save(iteration, memory, None, clock)
            if ranks.first():
                progress.show(iteration, describe(metrics))
            if stop and iteration < total:
                raise stopped(flags, f"{name}: {{by}} after iteration {iteration}")


def _log(
    state: Path, iteration: int, metrics: dict[str, float], counters: dict[str, float], clock: Clock
) -> dict[str, float]:
    counters["sampled_tokens_total"] += metrics.get("sampled_tokens", 0)
    counters["seconds_total"] += sum(s for phase, s in clock.seconds.items() if phase not in NOT_TRAINING)
    row = {"iteration": iteration, **metrics, "sampled_tokens_total": int(counters["sampled_tokens_total"])}
    seconds = {phase: round(s, 4) for phase, s in clock.seconds.items()}
    timing = {"iteration": iteration, "seconds": seconds, "seconds_total": round(counters["seconds_total"], 4)}
    if ranks.first():
        for file, content in (("metrics.jsonl", row), ("timing.jsonl", timing)):
            with open(state / file, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(content, allow_nan=False) + "\n")
    return row


class _Progress:
    """One line an iteration in the log, and now and then one, with the time left, on the terminal if there is one.

    Workflow rules send all output to a log and leave the terminal at descriptor 3; several jobs share it, so lines are
    added and never redrawn.
    """

    def __init__(self, name: str, total: int, done: int) -> None:
        self.name, self.total, self.first = name, total, done + 1
        self.start = self.told = time.perf_counter()
        self.terminal = os.isatty(TERMINAL)

    def show(self, iteration: int, text: str) -> None:
        now = time.perf_counter()
        left = (now - self.start) / (iteration - self.first + 1) * (self.total - iteration)
        line = f"{self.name} {iteration}/{self.total}  {text}  eta {left:.0f} s"
        print(line, flush=True)
        if self.terminal and (now - self.told > TELL_EVERY_S or iteration == self.total):
            self.told = now
            try:
                os.write(TERMINAL, f"{line}\n".encode())
            except OSError:  # the window was closed; the log continues
                self.terminal = False
