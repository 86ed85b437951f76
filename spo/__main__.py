"""`python -m spo VERB`: one verb a workflow rule. Misuse ends in one line and exit code 2, failure in 1."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spo import gpus, inspection, launch, verbs
from spo.errors import Interrupted, Libraries, RunFailure, UserError

#: The exit code of a tool that SIGPIPE ends.
READER_LEFT = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code. Ends silently if the reader of the output leaves early, as `| head` does."""
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
        if at is not None and options.verb is not verbs.train:
            raise UserError("torchrun: `train` alone can be shared by several processes; start this verb without it")
        if at is None and getattr(options, "gpus", None) is not None:
            gpus.claim(options.gpus)
        if getattr(options, "model", None) is not None:
            options.model = _checked(options)
        processes = at.local_count if at is not None else getattr(options, "processes", 1)
        if at is not None or processes > 1:
            launch.check(options.settings, processes)
        if at is None and processes > 1:
            return launch.run(arguments, processes)
        with Libraries():
            options.verb(options)
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


def _checked(options: argparse.Namespace) -> Path:
    """Return the folder of `--model`, found sound for the backend that opens it."""
    from spo.policy.locate import locate
    from spo.policy.model_folder import check_model_folder

    folder = locate(options.model)
    how = getattr(options, "train", None) or getattr(options, "settings", None)
    check_model_folder(folder, getattr(how, "backend", None))
    return folder


def _ended(why: str, code: int) -> int:
    """Say so, and the exit code. Before processes of a run know each other, all end alike, and one says it."""
    at = launch.place()
    if at is None or at.rank == 0:
        print("\n".join(f"spo: {line}" for line in why.splitlines()), file=sys.stderr)
    return code


#: In the order of the workflow.
_VERBS = (
    verbs.prepare,
    verbs.sft,
    verbs.train,
    verbs.generate,
    verbs.judge,
    verbs.score,
    inspection.audit,
    inspection.trace,
    inspection.trajectories,
    verbs.figure,
    verbs.table,
    verbs.report,
    verbs.grade,
    verbs.rehearse,
    verbs.check,
    verbs.plan,
)


#: Verb -> module and name of its `--settings`
_SETTINGS = {
    "prepare": ("spo.settings", "Dataset"),
    "sft": ("spo.settings", "Model"),
    "train": ("spo.settings", "Train"),
    "generate": ("spo.settings", "Protocol"),
    "audit": ("spo.settings", "Audit"),
    "trace": ("spo.settings", "Trace"),
    "trajectories": ("spo.analysis.trajectories", "Page"),
    "figure": ("spo.analysis.slices", "Figure"),
    "table": ("spo.analysis.slices", "Table"),
    "report": ("spo.analysis.slices", "Report"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spo", description="Segment Policy Optimization, one verb a workflow rule."
    )
    choices = parser.add_subparsers(metavar="VERB", required=True)
    parsers = {
        verb.__name__: choices.add_parser(verb.__name__, help=verb.__doc__, description=verb.__doc__) for verb in _VERBS
    }
    for name, verb in zip(parsers, _VERBS, strict=True):
        parsers[name].set_defaults(verb=verb)

    def add(names: str, *flags: str, **keywords) -> None:
        for name in names.split():
            needed = {"required": True} if flags[0].startswith("-") else {}
            parsers[name].add_argument(*flags, **(needed | keywords))

    for name, (module, kind) in _SETTINGS.items():
        add(name, "--settings", type=_settings(module, kind), metavar="JSON", help=f"a {kind} of {module}")
    train = _settings("spo.settings", "Train")
    add("audit trace", "--train", type=train, metavar="JSON", help="how the policy is trained, and so how it samples")
    add(
        "sft train generate audit trace",
        "--dataset",
        type=_settings("spo.settings", "Dataset"),
        metavar="JSON",
        help="the dataset's settings",
    )
    add("prepare sft train audit trace figure table", "--name")
    add("sft train generate audit trace", "--data", type=Path, metavar="DIR", help="folder that `prepare` made")
    add("train generate judge audit trace", "--model", type=Path, metavar="DIR", help="model folder")
    add("audit", "--critic", type=Path, metavar="DIR", required=False, help="folder of the run's critic")
    add(
        "sft train generate",
        "--state",
        type=Path,
        metavar="DIR",
        help="where progress is kept; never a declared output",
    )
    add(
        "sft train generate audit trace",
        "--gpus",
        type=int,
        required=False,
        metavar="N",
        help="GPUs to claim, and the only ones seen; without it all are seen",
    )
    add(
        "train",
        "--processes",
        type=int,
        required=False,
        default=1,
        metavar="N",
        help="processes that share the run, each on a GPU of its own where there are any; torchrun can start them, too",
    )
    add("generate judge", "--contexts", type=int, nargs="+", metavar="TOKENS", help="prompt and response together")
    add("judge grade score", "--grader", metavar="NAME")
    add("judge", "--predictions", type=Path)
    add("judge", "--problems", type=Path)
    add("grade", "--input", type=Path, help="JSON lines with `answer` and `response`")
    add("score", "--graded", type=Path)
    add("score", "--run")
    add("score", "--dataset", dest="dataset_name")
    add("score", "--protocol")
    add("figure", "--csv", type=Path)
    add(
        "trajectories figure table report", "--results", type=Path, metavar="DIR", help="folder of runs and evaluations"
    )
    add("report", "--figures", type=Path, metavar="DIR", help="folder of the figures")
    written = "prepare sft train generate judge grade score audit trace trajectories figure table report rehearse"
    add(written, "--output", type=Path)
    add("rehearse", "--digest", help="what stands in the first line of the output")
    add("check plan", "config", type=Path, nargs="+", help="config files, later ones laid over earlier ones")
    return parser


def _settings(module: str, kind: str) -> Callable[[str], object]:
    """JSON text -> validated settings; wrong settings are one line and exit code 2, like every misuse."""

    def parse(text: str) -> object:
        from importlib import import_module

        from spo import config

        try:
            return config.parse(getattr(import_module(module), kind), text)
        except UserError as error:
            raise SystemExit(_ended(str(error), 2)) from None

    return parse


if __name__ == "__main__":
    sys.exit(main())
