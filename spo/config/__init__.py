"""The desk: YAML files become a checked `Study`, and a study becomes the settings of each job.

The Snakefile and `python -m spo` import this package; nothing else does. It never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spo.analysis.slices import Rehearsal
from spo.config import layers, plan
from spo.config.check import check
from spo.config.check_files import check_files
from spo.config.forecast import forecast, shortest_first
from spo.config.pictures import (
    audit_files,
    digest,
    experiment_files,
    reads,
    rehearsal,
    report_slice,
    slices_of_pictures,
    trace_file,
)
from spo.config.plan import asked, evaluations, runs
from spo.config.prune import pruned
from spo.config.study import Evaluation, Run, Study
from spo.config.validate import parse, repaired, slice_json
from spo.errors import UserError

__all__ = [
    "NUMBERS",
    "Evaluation",
    "Run",
    "Study",
    "asked",
    "audit_files",
    "digest",
    "evaluations",
    "experiment_files",
    "forecast",
    "load",
    "parse",
    "pictures",
    "reads",
    "rehearsed",
    "report_slice",
    "runs",
    "shortest_first",
    "slice_json",
    "summary",
    "trace_file",
]


#: The numbers that the paper prints.
NUMBERS = Path(__file__).parents[2] / "config/paper_numbers.yaml"


def load(
    paths: Sequence[Path], extra: dict[str, Any] | None = None, tell: Callable[[str], None] = lambda line: None
) -> Study:
    """Return the study of config files laid over each other, the first being the default one, `extra` on top.

    `tell` hears of what an overlay makes pointless and is therefore left out. Raises UserError with every mistake, a
    line each, `file:line: key: problem`, in the order of files and lines.
    """
    found = layers.read_all(paths)
    if extra:
        found.append(layers.Layer(extra, "--config"))
    study, mistakes = None, []
    try:
        whole, left_out = pruned(found, layers.stack([layer.tree for layer in found]))
        study, mistakes, gone = repaired(Study, whole)
        mistakes += check(study, gone, _groups(paths[0].parent / "paper_numbers.yaml"))
        mistakes += check_files(study) if not mistakes else []
    except layers.Mistakes as error:
        mistakes += error.found
    if study is None or mistakes:
        raise UserError("\n".join(layers.located(found, mistakes)))
    for line in left_out:
        tell(line)
    return study


def _groups(numbers: Path) -> frozenset[str] | None:
    """Names of the groups of the paper's numbers, which stand beside the default config; None where they do not."""
    return frozenset(layers.read(numbers).tree) if numbers.is_file() else None


def pictures(study: Study, numbers: Path) -> dict[str, str]:
    """Settings of every figure and table as JSON, by name; `numbers` is the file with the paper's numbers."""
    return {name: slice_json(part) for name, part in slices_of_pictures(study, layers.read(numbers).tree).items()}


def rehearsed(study: Study, numbers: Path) -> Rehearsal:
    """Return everything that a study draws, to be tried before it trains; `numbers` as for `pictures`."""
    return rehearsal(study, layers.read(numbers).tree)


def summary(study: Study) -> str:
    """What a study will do, in a few lines, before anything long starts."""
    lines = [f"study {study.study}: {len(runs(study))} training runs, {len(evaluations(study))} evaluations"]
    for key, experiment in study.experiments.items():
        methods, seeds, contexts = (
            ", ".join(map(str, each)) for each in (experiment.methods, experiment.seeds, experiment.contexts)
        )
        lines.append(
            f"  {key}: {experiment.model} on {experiment.dataset}, {methods}; seeds {seeds}; contexts {contexts}"
        )
        for method in experiment.methods:
            if (policy := study.methods[method].policy) is not None:
                lines.append(f"    {method}: {policy}, evaluated as it is")
                continue
            train = plan.train_settings(study, method, key)
            stop = f", stopped after {train.stop_at}," if train.stop_at else ""
            lines.append(
                f"    {method}: {train.iterations} iterations{stop} of {train.problems_per_iteration} problems"
            )
    for key, audit in study.audits.items():
        lines.append(f"  audit {key}: {audit.experiment}, {audit.method}; {', '.join(audit.audit.estimators)}")
    for key, trace in study.traces.items():
        lines.append(f"  trace {key}: {trace.experiment}, {trace.method or 'before training'}")
    if study.claims:
        lines.append(f"  claims {', '.join(study.claims)}")
    lines.append(f"  figures {', '.join(study.figures) or 'none'}; tables {', '.join(study.tables) or 'none'}")
    return "\n".join(lines)
