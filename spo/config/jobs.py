"""Job settings: the part of a study that each job depends on.

Commands read their part, and its digest is the only parameter of the rule. So Snakemake repeats the jobs whose part
changed and no others.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spo import settings
from spo.analysis import slices
from spo.config import pictures, plan
from spo.config.study import Evaluation, Run, Study
from spo.config.validate import unknown
from spo.errors import UserError
from spo.paths import Paths
from spo.settings import Dataset, Group, binding, changed

#: Larger files are identified by size and modification time, since reading gigabytes would slow every dry run.
READ_BYTES = 8_000_000
#: Training settings that decide what an audit or a trace samples.
SAMPLING = ("sampling", "context_tokens", "max_response_tokens", "stop_texts", "unfinished_reward")
SAMPLING += ("backend", "dtype", "memory", "seed")


@dataclass(frozen=True)
class Policy:
    """A model that a job opens: of this study, or an external one."""

    name: str
    path: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Prepare:
    dataset: Dataset


@dataclass(frozen=True)
class Sft:
    model: settings.Model
    asked: Dataset


@dataclass(frozen=True)
class Train:
    train: settings.Train
    dataset: str
    asked: Dataset
    start: Policy
    method: str


@dataclass(frozen=True)
class Generate:
    protocol: settings.Protocol
    asked: Dataset
    context: int
    policy: Policy


@dataclass(frozen=True)
class Grade:
    grader: str
    contexts: tuple[int, ...]
    policy: Policy


@dataclass(frozen=True)
class Score:
    grader: str


@dataclass(frozen=True)
class Audit:
    """`train` has the training settings that its policy samples by, and defaults for all others."""

    audit: settings.Audit
    train: settings.Train
    asked: Dataset
    dataset: str
    policy: Policy
    critic: bool


@dataclass(frozen=True)
class Trace:
    """As `Audit`."""

    trace: settings.Trace
    train: settings.Train
    asked: Dataset
    dataset: str
    policy: Policy


Part = Prepare | Sft | Train | Generate | Grade | Score | Audit | Trace | slices.Page
Part |= slices.Figure | slices.Table | slices.Report | slices.Rehearsal


class Jobs:
    """The jobs of a study by the command that does them and their name, such as `train` and `pupil-stories-grpo-s1`."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.paths = Paths(study.results, study.pictures)
        self._seen: dict[Path, list[list[Any]]] = {}

    @cached_property
    def runs(self) -> dict[str, Run]:
        return plan.runs(self.study)

    @cached_property
    def evaluations(self) -> dict[tuple[str, str, str], Evaluation]:
        return plan.evaluations(self.study)

    def part(self, command: str, name: str = "") -> Part:
        """Return what a job depends on; UserError for a name that the study does not have.

        Its mappings are sorted by key: digests do not see the order of keys, so that no job may depend on it.
        """
        return _sorted(PARTS[command](self, name))

    def digest(self, command: str, name: str = "") -> str:
        """Return 16 hexadecimal digits that change with the part of a job, and with files of others that it reads."""
        part = self.part(command, name)
        bound = {field.name: binding(getattr(part, field.name)) for field in dataclasses.fields(part)}
        plain = changed(dataclasses.replace(part, **bound))
        return pictures.digest(plain, *map(self._identity, _outside(name, part)))

    def rehearsal_digest(self) -> str:
        """Return 16 hexadecimal digits that change with anything that the study draws, or with the code that draws."""
        code = sorted(Path(slices.__file__).parent.glob("*.py"))
        return pictures.digest(self.digest("rehearse"), *(path.read_text(encoding="utf-8") for path in code))

    def policy(self, name: str) -> Policy:
        """Return a policy by the name of its run or model."""
        if name in self.runs:
            return Policy(name)
        model = self.study.models[name]
        return Policy(name, model.path, model.revision)

    def folder(self, policy: Policy) -> str:
        """Return the folder of a policy's model, or its hub id with the revision."""
        if policy.path is not None:
            return f"{policy.path}@{policy.revision}" if policy.revision else policy.path
        return self.paths.trained(policy.name) if policy.name in self.runs else self.paths.model(policy.name)

    def audited(self, audit: str, seed: int | str) -> str:
        """Return the run whose policy an audit looks at."""
        chosen = self._one(self.study.audits, audit, "audit")
        return plan.run_name(self.study.experiments[chosen.experiment], chosen.method, seed)

    def traced(self, trace: str) -> tuple[str, Run]:
        """Return the name of a trace's policy, and the run by whose settings it samples.

        An untrained policy samples as the first run that starts from it.
        """
        chosen = self._one(self.study.traces, trace, "trace")
        experiment = self.study.experiments[chosen.experiment]
        method = chosen.method or plan.trained(self.study, experiment)[0]
        run = self.runs[plan.run_name(experiment, method, experiment.seeds[0])]
        return (run.name if chosen.method else experiment.model), run

    # ---- the part of each command

    def _prepare(self, name: str) -> Prepare:
        return Prepare(self._one(self.study.datasets, name, "dataset"))

    def _sft(self, name: str) -> Sft:
        trained = {key: model for key, model in self.study.models.items() if model.sft is not None}
        model = self._one(trained, name, "model with `sft`")
        return Sft(model, _asking(self.study.datasets[model.sft.dataset], grader=""))

    def _train(self, name: str) -> Train:
        run = self._one(self.runs, name, "run")
        start = self.policy(run.start or run.model)
        return Train(run.train, run.dataset, self._asked(run), start, run.method)

    def _evaluation(self, name: str) -> Evaluation:
        known = {"/".join(key): evaluation for key, evaluation in self.evaluations.items()}
        return self._one(known, name, "evaluation")

    def _generate(self, name: str) -> Generate:
        found = self._evaluation(name)
        protocol, policy = self.study.protocols[found.protocol], found.policy
        model = self.runs[policy].model if policy in self.runs else policy
        asked = _asking(plan.asked(self.study, found.dataset, model), grader="")
        return Generate(protocol, asked, max(found.contexts), self.policy(policy))

    def _grade(self, name: str) -> Grade:
        found = self._evaluation(name)
        return Grade(self.study.datasets[found.dataset].grader, found.contexts, self.policy(found.policy))

    def _score(self, name: str) -> Score:
        return Score(self.study.datasets[self._evaluation(name).dataset].grader)

    def _audit(self, name: str) -> Audit:
        known = {
            f"{key}/s{seed}": (key, seed)
            for key, audit in self.study.audits.items()
            for seed in self.study.experiments[audit.experiment].seeds
        }
        run = self.runs[self.audited(*self._one(known, name, "audit"))]
        audit = self.study.audits[known[name][0]].audit
        critic = any(credit.kind == "critic" for credit in audit.estimators.values())
        return Audit(audit, _sampling(run.train), self._asked(run), run.dataset, Policy(run.name), critic)

    def _trace(self, name: str) -> Trace:
        policy, run = self.traced(name)
        trace = self.study.traces[name].trace
        return Trace(trace, _sampling(run.train), self._asked(run), run.dataset, self.policy(policy))

    def _asked(self, run: Run) -> Dataset:
        return _asking(plan.asked(self.study, run.dataset, run.model))

    def _trajectories(self, name: str) -> slices.Page:
        shown = (
            slices.Shown(title=trace.title or key, file=pictures.trace_file(key), policy=self._label(key))
            for key, trace in self.study.traces.items()
        )
        return slices.Page(title=f"Trajectories, {self.study.title or self.study.study}", traces=tuple(shown))

    def _label(self, trace: str) -> str:
        """Return a trace's policy as readers know it."""
        policy, run = self.traced(trace)
        if policy != run.name:
            return f"the starting policy {policy}"
        return f"{self.study.methods[run.method].label}, seed {run.train.seed}"

    def _figure(self, name: str) -> slices.Figure:
        self._one(self.study.figures, name, "figure")
        return pictures.figure_slice(self.study, name)

    def _table(self, name: str) -> slices.Table:
        self._one(self.study.tables, name, "table")
        return pictures.table_slice(self.study, name)

    def _report(self, name: str) -> slices.Report:
        return pictures.report_slice(self.study)

    def _rehearse(self, name: str) -> slices.Rehearsal:
        return pictures.rehearsal(self.study)

    def _one(self, known: dict[str, Any], name: str, what: str) -> Any:
        if name not in known:
            raise UserError(f"study {self.study.study}: {unknown(name, known, what)}")
        return known[name]

    def _identity(self, path: Path) -> list[Any]:
        if path not in self._seen:
            self._seen[path] = identity(path)
        return self._seen[path]


def _outside(name: str, part: Part) -> Iterable[Path]:
    """Return the files outside of the results folder that a job reads."""
    if isinstance(part, Prepare):
        from spo.data import local_files

        return [path for paths in local_files(name, part.dataset).values() for path in paths]
    # Grading reads only the tokenizer, and predictions are made again when that changes.
    policy = part.start if isinstance(part, Train) else part.policy if isinstance(part, Generate | Trace) else None
    if policy is None or policy.path is None or not Path(policy.path).is_dir():
        return ()  # made by this study, or on the hub
    from spo.policy.model_folder import model_files

    return model_files(Path(policy.path))


def _asking(dataset: Dataset, **changes: str) -> Dataset:
    """Return a dataset with all at its default that decides neither prompts nor verdicts."""
    names = ("source", "grader", "prompt", "message", "chat")
    return Dataset(**{name: getattr(dataset, name) for name in names} | changes)


def _sampling(train: settings.Train) -> settings.Train:
    """Return training settings with all at its default that does not change what is sampled."""
    plain = settings.Train(credit=Group(), **{name: getattr(train, name) for name in SAMPLING})
    passes = dataclasses.replace(plain.optimizer, micro_batch_tokens=train.optimizer.micro_batch_tokens)
    return dataclasses.replace(plain, optimizer=passes)


def _sorted(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _sorted(field) for name, field in fields.items()})
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return tuple(map(_sorted, value)) if isinstance(value, tuple) else value


def identity(path: Path) -> list[Any]:
    """Return what tells the content of a file: its SHA-256, of a large one its size and modification time."""
    try:
        found = path.stat()
        if found.st_size > READ_BYTES:
            return [path.as_posix(), found.st_size, found.st_mtime_ns]
        return [path.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


#: Command -> its part; in the order of the workflow.
PARTS: dict[str, Callable[[Jobs, str], Part]] = {
    "prepare": Jobs._prepare,
    "sft": Jobs._sft,
    "train": Jobs._train,
    "generate": Jobs._generate,
    "grade": Jobs._grade,
    "score": Jobs._score,
    "audit": Jobs._audit,
    "trace": Jobs._trace,
    "trajectories": Jobs._trajectories,
    "figure": Jobs._figure,
    "table": Jobs._table,
    "report": Jobs._report,
    "rehearse": Jobs._rehearse,
}
