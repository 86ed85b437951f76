"""Where the time of a finished study went, by rule, from what Snakemake and training leave in its results folder.

`python benchmarks/study.py results` prints a table and writes benchmarks/results/study.csv; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tables

from spo import store
from spo.analysis import results
from spo.errors import UserError

#: Snakemake reads a job's processor time every half second, and after so many readings every half minute.
SHORT_S, SHORT_READINGS, LONG_S = 0.5, 30, 30.0
#: Without any job for so long, the study was not running: it was interrupted, or some files were made again later.
PAUSE_S = 60.0
#: rule -> the folder in which its jobs leave timing.jsonl
TIMED = {"train": "runs", "sft": "models"}
NO_JOB, WHOLE = "(no job)", "(whole)"


@dataclass(frozen=True)
class Row:
    """One line of the table: a rule; a phase of one, as its jobs timed it; cores without a job; or everything.

    `share`: of the cores times the time from the first start to the last end. `busy`: processor time by seconds.
    """

    rule: str
    phase: str
    jobs: int
    share: float
    seconds: float
    cpu_seconds: float | None
    busy: float | None


def last_reading_s(seconds: float) -> float:
    """When Snakemake last read the processor time of a job that took so long.

    >>> last_reading_s(2.2), last_reading_s(44.0), last_reading_s(110.0)
    (2.0, 15.0, 105.0)
    """
    short = SHORT_S * SHORT_READINGS
    if seconds < short + LONG_S:
        return min(SHORT_S * int(seconds / SHORT_S), short)
    return short + LONG_S * int((seconds - short) / LONG_S)


def used_cores(jobs: pd.DataFrame) -> float | None:
    """Cores that jobs kept busy on average, up to the last reading of each; None if all took less than a second."""
    known = jobs[jobs["cpu_seconds"].notna() & (jobs["seconds"] >= 1)]
    return float(known["cpu_seconds"].sum() / known["seconds"].map(last_reading_s).sum()) if len(known) else None


def without_pauses(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """starts and ends (N), in seconds, as if there had been no stretch of more than `PAUSE_S` without a job.

    >>> without_pauses(np.array([0.0, 5.0, 500.0]), np.array([10.0, 8.0, 510.0]))
    (array([ 0.,  5., 10.]), array([10.,  8., 20.]))
    """
    order = np.argsort(starts)
    ended = np.maximum.accumulate(ends[order])
    gaps = np.append(0.0, starts[order][1:] - ended[:-1])
    shift = np.empty_like(starts)
    shift[order] = np.cumsum(np.where(gaps > PAUSE_S, gaps, 0.0))
    return starts - shift, ends - shift


def idle_core_seconds(starts: np.ndarray, ends: np.ndarray, cores: int) -> tuple[float, float]:
    """Seconds of cores without a job: (before the last job started, after).

    starts and ends (N): of jobs of one core each, in seconds.

    >>> idle_core_seconds(np.array([0.0, 0.0, 5.0]), np.array([4.0, 6.0, 9.0]), cores=2)
    (1.0, 3.0)
    """
    last = starts.max()
    wall = {"before": last - starts.min(), "after": ends.max() - last}
    before = (np.minimum(ends, last) - np.minimum(starts, last)).sum()
    after = (np.maximum(ends, last) - np.maximum(starts, last)).sum()
    return float(cores * wall["before"] - before), float(cores * wall["after"] - after)


def most_at_once(starts: np.ndarray, ends: np.ndarray) -> int:
    """Jobs that ran at the same time, at most.

    >>> most_at_once(np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 4.0]))
    2
    """
    times, changes = np.concatenate((ends, starts)), np.repeat((-1, 1), (len(ends), len(starts)))
    return int(np.cumsum(changes[np.argsort(times, kind="stable")]).max())


def phases(root: Path, rule: str, jobs: pd.DataFrame) -> dict[str, float]:
    """Seconds of each phase of a rule's jobs, longest first, then `other`: imports, reading, writing the model."""
    if rule not in TIMED:
        return {}
    total: dict[str, float] = {}
    for job in jobs["job"]:
        path = root / TIMED[rule] / Path(job).name / "timing.jsonl"
        for row in store.read_jsonl(path):
            for phase, seconds in row["seconds"].items():
                total[phase] = total.get(phase, 0.0) + seconds
    ordered = dict(sorted(total.items(), key=lambda item: -item[1]))
    return ordered | {"other": float(jobs["seconds"].sum()) - sum(total.values())}


def table(root: Path, cores: int | None) -> list[Row]:
    """All lines, rules by their seconds; `cores` None takes the jobs that ran at once. UserError without jobs."""
    jobs = results.benchmarks(root)
    starts, ends = without_pauses((jobs["ended"] - jobs["seconds"]).to_numpy(), jobs["ended"].to_numpy())
    cores = cores or most_at_once(starts, ends)
    whole = cores * float(ends.max() - starts.min())
    out = []
    for rule, own in sorted(jobs.groupby("rule"), key=lambda item: -item[1]["seconds"].sum()):
        seconds, busy = float(own["seconds"].sum()), used_cores(own)
        cpu = None if busy is None else seconds * busy
        out.append(Row(rule, "", len(own), seconds / whole, seconds, cpu, busy))
        out += [Row(rule, phase, len(own), s / whole, s, None, None) for phase, s in phases(root, rule, own).items()]
    for words, idle in zip(("between jobs", "at the end"), idle_core_seconds(starts, ends, cores), strict=True):
        out.append(Row(NO_JOB, words, 0, idle / whole, idle, None, None))
    cpu = sum(row.cpu_seconds or 0.0 for row in out)
    return [*out, Row(WHOLE, f"{cores} cores", len(jobs), 1.0, whole, cpu, cpu / whole)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder whose files have kept their times")
    parser.add_argument("--cores", type=int, help="that Snakemake had; default: the most jobs that ran at once")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "study.csv")
    options = parser.parse_args(arguments)
    try:
        lines = table(options.results, options.cores)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    tables.write(options.output, lines)
    print(f"{'rule':<20} {'phase':<13} {'jobs':>5} {'share':>7} {'seconds':>9} {'CPU s':>9} {'busy':>5}")
    for row in lines:
        cpu, busy = (f"{row.cpu_seconds:.0f}", f"{row.busy:.2f}") if row.busy is not None else ("", "")
        print(f"{row.rule:<20} {row.phase:<13} {row.jobs:>5} {row.share:>7.1%} {row.seconds:>9.1f} {cpu:>9} {busy:>5}")
    whole = lines[-1]
    cores = int(whole.phase.split()[0])
    print(f"{whole.jobs} jobs in {whole.seconds / cores / 60:.1f} minutes; cores busy {whole.busy:.0%} of the time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
