"""How time and memory of sampling and of a training step grow with prompts, rollouts, response length and model width.

`python benchmarks/growth.py` prints a table, writes benchmarks/results/growth.csv and draws growth.png beside it; every
point has a process of its own. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tables
import torch
from rollouts import VOCABULARY, write_model
from training import PASS_TOKENS

from spo import seeds
from spo.policy.engine import Engine
from spo.settings import Architecture, Group, Loss, Optimizer, Protocol, Train
from spo.training.descent import Descent
from spo.training.optimize import policy_step
from spo.types import Episode, Request, Sampling

#: Seconds for which a point is repeated, at least once and at most `MOST_REPEATS` times.
REPEAT_S, MOST_REPEATS = 1.5, 5
#: Points over which a slope is fitted, and memory that is not told from what Python does on the side.
FITTED, LEAST_MIB = 3, 4.0
PROMPT_TOKENS = 64
#: No token: a random model would end responses anywhere.
NO_EOS = -1
#: work -> the usual value of the setting that bounds its memory
LIMITS = {"sampling": Protocol().batch_rows, "training": PASS_TOKENS}
#: variable -> its values; those of `limit` are shares of the usual one.
VALUES: dict[str, tuple[float, ...]] = {
    "prompts": (1, 4, 16, 64, 256),
    "rollouts": (1, 4, 16, 64, 256),
    "response_tokens": (256, 1024, 4096, 8192, 16384, 32768),
    "width": (64, 128, 256, 512, 1024),
    "limit": (1 / 8, 1 / 4, 1 / 2, 1, 2),
}
#: A long response is alone, and the limits meet more rows than they allow at once.
OTHERS: dict[str, dict[str, int]] = {"response_tokens": {"prompts": 1, "rollouts": 1}, "limit": {"prompts": 256}}


@dataclass(frozen=True)
class Point:
    """One measurement to make: so many prompts, rollouts each, tokens each, at a width of the residual stream.

    `limit`: `batch_rows` of sampling, `optimizer.micro_batch_tokens` of training.
    """

    work: str
    variable: str
    prompts: int = 8
    rollouts: int = 4
    response_tokens: int = 64
    width: int = 128
    limit: int = 512


@dataclass(frozen=True)
class Row:
    """One line of the table. Slopes are of logarithms, over this point and the two before; None where there are none or
    memory is too small to tell. Seconds are of processor time, ± the distance between the quartiles of the repeats;
    memory is the peak above what the process had before it read the model; a step's tokens are distinct ones."""

    work: str
    variable: str
    value: int
    time_slope: float | None
    memory_slope: float | None
    seconds: float
    spread: float
    memory_mib: float
    microseconds_per_token: float
    rows: int
    tokens: int
    repeats: int


def points(tiny: bool = False) -> list[Point]:
    """All measurements, those of one curve in order; `tiny`: the first three of each, and a narrow model."""
    out = []
    for variable, values in VALUES.items():
        for work, limit in LIMITS.items():
            base = replace(Point(work, variable, limit=limit), **OTHERS.get(variable, {}))
            if tiny:
                base = replace(base, width=32, prompts=min(base.prompts, 16), response_tokens=16)
            for value in values[:3] if tiny else values:
                out.append(replace(base, **{variable: int(value * limit) if variable == "limit" else value}))
    return out


# ---- one point, in a process of its own -----------------------------------------------------------------------------

#: What is timed: turn number -> number of tokens.
Call = Callable[[int], int]


def sampling(point: Point, engine: Engine) -> Call:
    """Sample all rollouts of all prompts, each to its last token."""

    def call(turn: int) -> int:
        rng = np.random.default_rng(turn)
        requests = [
            Request(
                _tokens(rng, PROMPT_TOKENS),
                tuple(seeds.key("growth", turn, p, s) for s in range(point.rollouts)),
                point.response_tokens,
            )
            for p in range(point.prompts)
        ]
        sampled = engine.sample(requests, Sampling(), point.limit)
        return sum(len(sample.response_ids) for samples in sampled for sample in samples)

    return call


def training(point: Point, engine: Engine) -> Call:
    """One optimizer step on all responses, without KL term."""
    settings = Train(
        credit=Group(),
        loss=Loss(kl_coefficient=0.0),
        optimizer=Optimizer(lr=1e-12, micro_batch_tokens=point.limit),
    )
    descent = Descent(engine.weights(), settings.optimizer, 10**6)
    count = point.response_tokens

    def call(turn: int) -> int:
        rng = np.random.default_rng(turn)
        episodes = []
        for _ in range(point.prompts):
            prompt = _tokens(rng, PROMPT_TOKENS)
            for _ in range(point.rollouts):
                old, advantages = (-4.0,) * count, (float(rng.normal()),) * count
                episodes.append(Episode("p", prompt, _tokens(rng, count), old, advantages))
        policy_step(engine, descent, episodes, None, settings, "clipped")
        return point.prompts * (PROMPT_TOKENS + point.rollouts * count)

    return call


WORK: dict[str, Callable[[Point, Engine], Call]] = {"sampling": sampling, "training": training}


def _tokens(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    return tuple(rng.integers(2, VOCABULARY, count).tolist())


def model(width: int, folder: Path) -> Path:
    """The folder of a random model of that width, made if it is not there."""
    made = folder / str(width)
    if not made.exists():
        longest = PROMPT_TOKENS + int(max(VALUES["response_tokens"]))
        write_model(made, Architecture(hidden_size=width, intermediate_size=3 * width, max_position_tokens=longest))
    return made


def measure(point: Point, folder: Path) -> dict[str, float]:
    """What a Row has of one point. A short response of a narrow model makes everything ready before."""
    torch.set_num_threads(1)
    ready = replace(point, prompts=1, rollouts=2, response_tokens=8, width=32)
    WORK[point.work](ready, Engine.open(model(ready.width, folder), NO_EOS))(0)
    before = _peak_mib()
    call = WORK[point.work](point, Engine.open(model(point.width, folder), NO_EOS))
    spent: list[float] = []
    while not spent or (sum(spent) < REPEAT_S and len(spent) < MOST_REPEATS):
        start = time.process_time()
        tokens = call(len(spent))
        spent.append(time.process_time() - start)
    low, middle, high = np.quantile(spent, [0.25, 0.5, 0.75])
    timing = {"seconds": float(middle), "spread": float(high - low), "repeats": len(spent)}
    return timing | {"memory_mib": _peak_mib() - before, "tokens": tokens, "rows": point.prompts * point.rollouts}


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # where getrusage begins with the peak of the process that started this one
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


# ---- all points -----------------------------------------------------------------------------------------------------


def table(measured: Sequence[tuple[Point, dict[str, float]]]) -> list[Row]:
    """Rows with slopes, in the order of the points."""
    out = []
    for place, (point, found) in enumerate(measured):
        curve = [(getattr(p, p.variable), each) for p, each in measured[: place + 1] if _curve(p) == _curve(point)]
        last = curve[-FITTED:] if len(curve) >= FITTED else []
        large = last if all(each["memory_mib"] >= LEAST_MIB for _, each in last) else []
        out.append(
            Row(
                work=point.work,
                variable=point.variable,
                value=getattr(point, point.variable),
                time_slope=slope([(x, each["seconds"]) for x, each in last]),
                memory_slope=slope([(x, each["memory_mib"]) for x, each in large]),
                microseconds_per_token=1e6 * found["seconds"] / found["tokens"],
                **found,
            )
        )
    return out


def _curve(point: Point) -> tuple[str, str]:
    return point.work, point.variable


def slope(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Exponent of the power law that is nearest to (x, y) pairs on logarithmic axes; None without pairs.

    >>> slope([(1, 3), (2, 12), (4, 48)])
    2.0
    """
    if not pairs:
        return None
    x, y = np.log2(np.array(pairs, float).T)
    return round(float(np.polyfit(x, y, 1)[0]), 3)


def in_its_own_process(point: Point, folder: Path) -> dict[str, float]:
    model(32, folder), model(point.width, folder)  # made here, or their making would count
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point)), "--folder", str(folder)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variables", nargs="+", choices=list(VALUES), help="default: all, and the picture")
    parser.add_argument("--tiny", action="store_true", help="few points and narrow models: to test this file")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "growth.csv")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.point:
        print(json.dumps(measure(Point(**json.loads(options.point)), options.folder)))
        return
    chosen = [point for point in points(options.tiny) if point.variable in (options.variables or VALUES)]
    measured = []
    print(f"{'work':<9} {'variable':<16} {'value':>6} {'seconds':>18} {'µs/token':>9} {'MiB':>8}  slopes: time, memory")
    with tempfile.TemporaryDirectory() as name:
        for point in chosen:
            measured.append((point, in_its_own_process(point, Path(name))))
            row = table(measured)[-1]
            slopes = ", ".join("–" if s is None else f"{s:.2f}" for s in (row.time_slope, row.memory_slope))
            timing = f"{row.seconds:.3f} ± {row.spread:.3f}"
            numbers = f"{timing:>18} {row.microseconds_per_token:>9.1f} {row.memory_mib:>8.1f}"
            print(f"{row.work:<9} {row.variable:<16} {row.value:>6} {numbers}  {slopes}", flush=True)
    tables.write(options.output, table(measured))
    if not options.variables:
        from growth_figure import draw

        draw(table(measured), options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
