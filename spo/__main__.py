"""`python -m spo VERB`: one verb a workflow rule. Misuse ends in one line and exit code 2, failure in 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spo import verbs
from spo.errors import RunFailure, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.verb(options)
    except UserError as error:
        print(f"spo: {error}", file=sys.stderr)
        return 2
    except RunFailure as error:
        print(f"spo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"spo: {error.filename or 'input/output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("spo: interrupted; the same command continues", file=sys.stderr)
        return 130
    return 0


#: In the order of the workflow.
_VERBS = (
    verbs.prepare,
    verbs.sft,
    verbs.train,
    verbs.generate,
    verbs.grade,
    verbs.score,
    verbs.figure,
    verbs.table,
    verbs.report,
    verbs.check,
)


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
            parsers[name].add_argument(*flags, **({"required": True} | keywords))

    for name, kind in (("prepare", "Dataset"), ("sft", "Model"), ("train", "Train"), ("generate", "Protocol")):
        add(name, "--settings", type=_settings("spo.settings", kind), metavar="JSON", help=f"a {kind} of spo.settings")
    for name, kind in (("figure", "Figure"), ("table", "Table"), ("report", "Report")):
        add(
            name,
            "--settings",
            type=_settings("spo.analysis.slices", kind),
            metavar="JSON",
            help=f"a {kind} of spo.analysis.slices",
        )
    add(
        "sft train generate",
        "--dataset",
        type=_settings("spo.settings", "Dataset"),
        metavar="JSON",
        help="the dataset's settings",
    )
    add("prepare sft train figure table", "--name")
    add("sft train generate", "--data", type=Path, metavar="DIR", help="folder that `prepare` made")
    add("train generate grade", "--model", type=Path, metavar="DIR", help="model folder")
    add(
        "sft train generate",
        "--state",
        type=Path,
        metavar="DIR",
        help="where progress is kept; never a declared output",
    )
    add("generate grade", "--contexts", type=int, nargs="+", metavar="TOKENS", help="prompt and response together")
    add("grade score", "--grader", metavar="NAME")
    add("grade", "--predictions", type=Path)
    add("grade", "--problems", type=Path)
    add("score", "--graded", type=Path)
    add("score", "--run")
    add("score", "--dataset", dest="dataset_name")
    add("score", "--protocol")
    add("figure", "--csv", type=Path)
    add("figure table report", "--results", type=Path, metavar="DIR", help="folder of runs and evaluations")
    add("report", "--figures", type=Path, metavar="DIR", help="folder of the figures")
    add("prepare sft train generate grade score figure table report", "--output", type=Path)
    parsers["check"].add_argument(
        "config", type=Path, nargs="+", help="config files, later ones laid over earlier ones"
    )
    return parser


def _settings(module: str, kind: str) -> Callable[[str], object]:
    """JSON text -> validated settings; wrong settings are one line and exit code 2, like every misuse."""

    def parse(text: str) -> object:
        from importlib import import_module

        from spo import config

        try:
            return config.parse(getattr(import_module(module), kind), text)
        except UserError as error:
            print(f"spo: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    return parse


if __name__ == "__main__":
    sys.exit(main())
