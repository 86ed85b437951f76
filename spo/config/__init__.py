"""The desk: YAML files become a checked `Study`, and a study becomes the settings of each job.

The Snakefile and `python -m spo` import this package; nothing else does. It never imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spo.config import jobs, layers, plan
from spo.config.check import check
from spo.config.check_files import check_files
from spo.config.forecast import forecast, shortest_first
from spo.config.pictures import audit_files, digest, experiment_files, pictures, reads, report_slice, trace_file
from spo.config.plan import asked, evaluations, runs
from spo.config.prune import pruned
from spo.config.study import Evaluation, Run, Study
from spo.config.validate import repaired, validate
from spo.errors import UserError

__all__ = [
    "Evaluation",
    "Run",
    "Study",
    "asked",
    "audit_files",
    "digest",
    "evaluations",
    "experiment_files",
    "forecast",
    "jobs",
    "load",
    "pictures",
    "read",
    "reads",
    "report_slice",
    "runs",
    "shortest_first",
    "summary",
    "trace_file",
    "written",
]


def load(
    paths: Sequence[Path], extra: dict[str, Any] | None = None, tell: Callable[[str], None] = lambda line: None
) -> Study:
    """Return the study of config files laid over each other, the first being the default one, `extra` on top.

    `tell` hears of what an overlay makes pointless and is therefore left out. Raises UserError with every mistake, a
    line each, `file:line: key: problem`, in the order of files and lines. A single file that the workflow wrote was
    checked when it was written.
    """
    if len(paths) == 1 and not extra and (tree := _checked(paths[0])) is not None:
        return validate(Study, tree)
    return read(paths, extra, tell)[1]


def read(
    paths: Sequence[Path], extra: dict[str, Any] | None = None, tell: Callable[[str], None] = lambda line: None
) -> tuple[layers.Tree, Study]:
    """Return config files laid over each other as one mapping, and its study, as `load` does."""
    found = layers.read_all(paths)
    if extra:
        found.append(layers.Layer(extra, "--config"))
    study, mistakes = None, []
    try:
        whole, left_out = pruned(found, layers.stack([layer.tree for layer in found]))
        whole = _complete(whole, paths)
        study, mistakes, gone = repaired(Study, whole)
        mistakes += check(study, gone, frozenset(study.paper_numbers) or None)
        mistakes += check_files(study, gone)
    except layers.Mistakes as error:
        mistakes += error.found
    if study is None or mistakes:
        raise UserError("\n".join(layers.located(found, mistakes)))
    for line in left_out:
        tell(line)
    return whole, study


def _complete(tree: layers.Tree, paths: Sequence[Path]) -> layers.Tree:
    """Add the names of the config files and the paper's numbers, unless a file that the workflow wrote has them."""
    numbers = paths[0].with_name("paper_numbers.yaml")
    if not tree.get("paper_numbers") and numbers.is_file():
        tree = tree | {"paper_numbers": layers.read(numbers).tree}
    return tree if tree.get("files") else {"files": list(map(str, paths)), **tree}


def written(tree: layers.Tree) -> tuple[str, str]:
    """Return the mapping of `read` as the text that jobs read, JSON of ASCII letters, and the digest of that text."""
    text = json.dumps(tree, indent=1) + "\n"
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def _checked(path: Path) -> layers.Tree | None:
    """Return the mapping in a file that the workflow wrote; None for any other file."""
    try:
        tree = json.loads(path.read_bytes()) if path.suffix == ".json" else None
    except (OSError, ValueError, RecursionError):
        return None  # the reader of config files says what is wrong
    return tree if isinstance(tree, dict) and tree.get("files") else None


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
