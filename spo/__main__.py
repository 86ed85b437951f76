"""`python -m spo COMMAND`: one command per workflow rule. Misuse ends in one line and exit code 2, failure in 1."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from spo import config, gpus, inspection, launch, verbs
from spo.errors import Interrupted, Libraries, RunFailure, UserError
from spo.verbs import Job

#: Commands that do a job of a study, in the order of the workflow -> what their NAME is; empty: there is one job.
JOBS = {
    verbs.prepare: "a dataset",
    verbs.sft: "a model with `sft`",
    verbs.train: "a run, {model}-{dataset}-{method}-s{seed}",
    verbs.generate: "{run or model}/{dataset}/{protocol}",
    verbs.grade: "{run or model}/{dataset}/{protocol}",
    verbs.score: "{run or model}/{dataset}/{protocol}",
    inspection.audit: "{audit}/s{seed}",
    inspection.trace: "a trace",
    inspection.trajectories: "",
    verbs.figure: "a figure",
    verbs.table: "a table",
    verbs.report: "",
    verbs.rehearse: "",
}
ON_GPUS = ("sft", "train", "generate", "audit", "trace")

#: The exit code of a tool that SIGPIPE ends.
READER_LEFT = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; end silently if the reader of the output leaves early (`| head`)."""
    _open_standard_files()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
    except SystemExit:
        if _reader_left():
            return READER_LEFT
        raise
    return READER_LEFT if _reader_left() else code


def _open_standard_files() -> None:
    """Open those of stdin, stdout and stderr that the caller has closed (`2>&-`), or other files get their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            opened = open(os.devnull, mode)  # noqa: SIM115
            if not _is_open(number):
                os.dup2(opened.fileno(), number)
            setattr(sys, name, opened)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _reader_left(broken: bool = False) -> bool:
    """Return True if nobody reads the output any more.

    `broken`: some pipe was broken, and the question is whether it was this one.
    """
    try:
        sys.stdout.flush()
    except OSError as error:  # a full disk was told already; what could not be written is dropped
        _drop_output()
        return isinstance(error, BrokenPipeError)
    left = broken and _has_no_reader(sys.stdout.fileno())
    if left:
        _drop_output()
    return left


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _has_no_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _run(arguments: Sequence[str]) -> int:
    options, at = _parser().parse_args(arguments), launch.place()
    try:
        if at is not None and options.command is not verbs.train:
            raise UserError("torchrun: `train` alone can be shared by several processes; start this command without it")
        if options.command not in JOBS:
            with Libraries():
                options.command(options)
            sys.stdout.flush()
            return 0
        if at is None and getattr(options, "gpus", None) is not None:
            gpus.claim(options.gpus)
        job = Job.of(config.load(options.config), options.command.__name__, getattr(options, "name", ""))
        processes = at.local_count if at is not None else getattr(options, "processes", 1)
        if at is not None or processes > 1:
            launch.check(job.part.train, processes)
        if at is None and processes > 1:
            return launch.run(arguments, processes)
        with Libraries():
            options.command(job)
        sys.stdout.flush()
    except UserError as error:
        return _ended(str(error), 2)
    except RunFailure as error:
        return _ended(str(error), 130 if isinstance(error, Interrupted) else 1)
    except BrokenPipeError:
        return READER_LEFT if _reader_left(broken=True) else _ended("input/output: Broken pipe", 1)
    except OSError as error:
        return _ended(f"{error.filename or 'input/output'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _ended("interrupted; the same command continues", 130)
    return 0


def _ended(why: str, code: int) -> int:
    """Print the error on rank 0 and return the exit code."""
    at = launch.place()
    if at is None or at.rank == 0:
        print("\n".join(f"spo: {line}" for line in why.splitlines()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spo", description="Segment Policy Optimization, one command per workflow rule."
    )
    choices = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(command) -> argparse.ArgumentParser:
        name = command.__name__.replace("_", "-")
        found = choices.add_parser(name, help=command.__doc__, description=command.__doc__)
        found.set_defaults(command=command)
        return found

    for command, what in JOBS.items():
        job = add(command)
        if what:
            job.add_argument("name", metavar="NAME", help=what)
        job.add_argument(
            "--config",
            type=Path,
            nargs="+",
            required=True,
            metavar="FILE",
            help="results/config.json, which the workflow writes, or config files, later ones laid over earlier ones",
        )
        if command.__name__ in ON_GPUS:
            job.add_argument(
                "--gpus",
                type=int,
                metavar="N",
                help="GPUs to claim, and the only ones seen; without it all are seen",
            )
        if command is verbs.train:
            job.add_argument(
                "--processes",
                type=int,
                default=1,
                metavar="N",
                help="processes that share the run, each on a GPU of its own where there are any; torchrun can start "
                "them, too",
            )
    grade = add(verbs.grade_file)
    grade.add_argument("--grader", metavar="NAME", required=True)
    grade.add_argument("--input", type=Path, required=True, help="JSON lines with `answer` and `response`")
    grade.add_argument("--output", type=Path, required=True)
    for command in (verbs.check, verbs.plan):
        add(command).add_argument(
            "config", type=Path, nargs="+", help="config files, later ones laid over earlier ones"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
