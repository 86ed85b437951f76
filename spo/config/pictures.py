"""What figures, tables and the report are told: only what they show, so that a colour never reruns a training run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from spo.analysis import slices
from spo.analysis.slices import FIGURE_READS, OF_TRAINING, OF_VALIDATION, STATISTIC_READS, TABLE_READS, Metric
from spo.config import plan
from spo.config.cost import Rates
from spo.config.layers import KeyPath, Mistake, Mistakes
from spo.config.resources import Resources
from spo.config.settings_columns import settings_columns
from spo.config.study import Evidence, Experiment, Figure, Study, Table
from spo.config.validate import plain_text, unknown
from spo.paths import Paths
from spo.settings import Train, binding, changed
from spo.types import Sampling

#: Colours of methods that `style` does not name, in order of `methods:` (Okabe & Ito; safe for the colour-blind).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442", "#000000")
GREY = "#7F7F7F"
#: Of variants without a colour of their own, one after the other: how much of white (or, below 0, of black) is mixed
#: into the colour of their method, and how their lines are drawn.
SHADES = ((0.4, "dashed"), (-0.35, "dotted"), (0.2, "dashdot"), (-0.55, "dashed"), (0.55, "dotted"), (-0.2, "dashdot"))

#: What pictures can be made of.
KINDS = ("score", "graded", "metrics", "timing")

#: Paths under the results folder
INSIDE = Paths("", "")


def pictures(study: Study) -> dict[str, slices.Figure | slices.Table]:
    """Return the settings of every figure and table by name."""
    figures = {name: figure_slice(study, name) for name in study.figures}
    return figures | {name: table_slice(study, name) for name in study.tables}


def figure_slice(study: Study, name: str) -> slices.Figure:
    """Return the settings of one figure."""
    figure = study.figures[name]
    return slices.Figure(
        draw=figure.draw,
        title=figure.title,
        study=_shown(study, figure) if figure.experiment is not None else None,
        context=figure.context,
        x=figure.x,
        **_validated(study, figure.draw, figure),
        files=tuple(_special_files(study, figure)),
        paper=(paper := _paper(study, ("figures", name, "paper"), figure.paper, study.paper_numbers)),
        quoted=tuple(_quoted(study, ("figures", name, "quoted"), method, paper) for method in figure.quoted),
        note=figure.note,
        dpi=study.style.dpi,
        options=figure.options,
    )


def table_slice(study: Study, name: str) -> slices.Table:
    """Return the settings of one table."""
    table = study.tables[name]
    return slices.Table(
        make=table.make,
        title=table.title,
        study=_shown(study, table) if table.experiment is not None else None,
        context=table.context,
        **_validated(study, table.make, table),
        claims=_claims(study) if TABLE_READS[table.make] == ("claims",) else (),
        columns=settings_columns(study, table) if table.make == "settings_table" else (),
        paper=_paper(study, ("tables", name, "paper"), table.paper, study.paper_numbers),
        note=table.note,
        options=table.options,
    )


def validation_metric(study: Study, kind: str, part: Figure | Table | Evidence) -> Metric:
    """Return the validation accuracy that a part of that kind shows: its own, or the sampled one if all runs have it.

    Kinds that show none get the default of their settings.
    """
    if kind not in OF_VALIDATION or part.experiment is None:
        return "validation_accuracy"
    sampled = all(train.validation_samples for train in validated_runs(study, part).values())
    return part.metric or ("validation_sampled_accuracy" if sampled else "validation_accuracy")


def validated_runs(study: Study, part: Figure | Table | Evidence) -> dict[str, Train]:
    """Return the training settings of the methods that a part shows, by method."""
    experiment = study.experiments[part.experiment]
    methods = (part.first, part.second) if isinstance(part, Evidence) else part.methods
    named = [method for method in methods if method is not None] or plan.trained(study, experiment)
    return {method: plan.train_settings(study, method, part.experiment) for method in named}


def _validated(study: Study, kind: str, picture: Figure | Table) -> dict[str, str]:
    metric = validation_metric(study, kind, picture)
    if metric == "validation_accuracy":
        return {"metric": metric}
    runs = validated_runs(study, picture).values()
    words = {_drawn(train.validation_samples, train.validation_sampling) for train in runs}
    return {"metric": metric, "sampled": " or ".join(sorted(words))}


def _drawn(samples: int, sampling: Sampling) -> str:
    """Return how samples are drawn, in words.

    >>> _drawn(16, Sampling(temperature=0.35)), _drawn(1, Sampling(temperature=0.6, top_p=0.9))
    ('16 samples per problem at temperature 0.35', '1 sample per problem at temperature 0.6, top-p 0.9')
    """
    nucleus = f", top-p {sampling.top_p:g}" if sampling.top_p < 1 else ""
    count = f"{samples} sample{'s' if samples > 1 else ''}"
    return f"{count} per problem at temperature {sampling.temperature:g}{nucleus}"


def rehearsal(study: Study) -> slices.Rehearsal:
    """Return everything that the study draws, to be tried before it trains."""
    return slices.Rehearsal(
        figures={name: figure_slice(study, name) for name in study.figures},
        tables={name: table_slice(study, name) for name in study.tables},
        report=dataclasses.replace(report_slice(study), command=""),
        estimators={
            path: tuple(audit.audit.estimators)
            for key, audit in study.audits.items()
            for path in audit_files(study, key)
        },
        traces={trace_file(key): trace.trace for key, trace in study.traces.items()},
    )


def report_slice(study: Study) -> slices.Report:
    """Return the settings of the report."""
    return slices.Report(
        title=study.title or study.study,
        study=study.study,
        figures=tuple(study.figures),
        tables=tuple(study.tables),
        experiments=tuple(
            _experiment(study, key, dataset, protocol, ())
            for key, experiment in study.experiments.items()
            for dataset in plan.test_sets(experiment)
            for protocol in experiment.protocols
        ),
        experiment_of={
            name: picture.experiment
            for name, picture in (study.figures | study.tables).items()
            if picture.experiment is not None
        },
        config_digest=_study_digest(study),
        command=_command(study),
    )


def _study_digest(study: Study) -> str:
    """Return the digest of everything that results depend on, `resources` and `rates` left out.

    Training settings count as runs have them, so that a default written out is no other study.
    """
    plain = dataclasses.replace(
        study,
        resources=Resources(),
        rates=Rates(),
        files=(),
        training={},
        models={name: binding(model) for name, model in study.models.items()},
        protocols={name: binding(protocol) for name, protocol in study.protocols.items()},
        methods={name: dataclasses.replace(method, train={}) for name, method in study.methods.items()},
        experiments={
            name: dataclasses.replace(experiment, train={}, overrides={})
            for name, experiment in study.experiments.items()
        },
    )
    return digest(changed(plain), {name: changed(binding(run.train)) for name, run in plan.runs(study).items()})


def _command(study: Study) -> str:
    """Return the command that makes this study again; the first file is the default one."""
    files = " ".join(map(shlex.quote, study.files[1:]))
    return f"snakemake --cores all --configfile {files}" if files else "snakemake --cores all"


def digest(*plain: Any) -> str:
    """Return 16 hexadecimal digits that change with any of the values, which are plain data."""
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reads(study: Study, picture: Figure | Table) -> list[str]:
    """Files under the results folder that a figure or table is made of."""
    kinds = FIGURE_READS[picture.draw] if isinstance(picture, Figure) else TABLE_READS[picture.make]
    if kinds == ("claims",):
        return sorted({path for claim in _claims(study) for part in claim.parts for path in _evidence_files(part)})
    if isinstance(picture, Figure) and picture.experiment is None:
        return _special_files(study, picture)
    if picture.experiment is None:
        return sorted({path for key in study.experiments for path in experiment_files(study, key, kinds)})
    return _files(_shown(study, picture), kinds)


def audit_files(study: Study, key: str) -> list[str]:
    """Files of an audit under the results folder, one a seed."""
    return [INSIDE.audit(key, seed) for seed in study.experiments[study.audits[key].experiment].seeds]


def trace_file(key: str) -> str:
    """File of a trace under the results folder."""
    return INSIDE.trace(key)


def _claims(study: Study) -> tuple[slices.Claim, ...]:
    return tuple(
        slices.Claim(
            name=name,
            text=claim.text,
            source=claim.source,
            parts=tuple(_evidence(study, part) for part in claim.parts),
            note=claim.note,
        )
        for name, claim in study.claims.items()
    )


def _evidence(study: Study, part: Evidence) -> slices.Evidence:
    return slices.Evidence(
        statistic=part.statistic,
        study=_compared(study, part) if part.experiment is not None else None,
        files=tuple(audit_files(study, part.audit)) if part.audit is not None else (),
        first=part.first,
        second=part.second,
        context=part.context,
        metric=validation_metric(study, part.statistic, part),
        rule=part.rule,
        relevant=part.relevant,
    )


def _compared(study: Study, part: Evidence) -> slices.Study:
    """The experiment on its own test set by its first protocol, with nobody but who is compared."""
    experiment = study.experiments[part.experiment]
    named = [name for name in (part.first, part.second) if name is not None]
    methods = tuple(name for name in named if name != plan.BASE)
    shown = _experiment(study, part.experiment, plan.test_sets(experiment)[0], experiment.protocols[0], methods)
    return shown if plan.BASE in named else dataclasses.replace(shown, base=None)


def _evidence_files(part: slices.Evidence) -> list[str]:
    return list(part.files) if part.study is None else _files(part.study, STATISTIC_READS[part.statistic])


def _special_files(study: Study, figure: Figure) -> list[str]:
    if figure.audit is not None:
        return audit_files(study, figure.audit)
    return [trace_file(figure.trace)] if figure.trace is not None else []


def experiment_files(study: Study, key: str, kinds: tuple[str, ...] = KINDS) -> list[str]:
    """Files of an experiment under the results folder, of the given kinds."""
    experiment = study.experiments[key]
    return sorted(
        {
            path
            for dataset in plan.test_sets(experiment)
            for protocol in experiment.protocols
            for path in _files(_experiment(study, key, dataset, protocol, ()), kinds)
        }
    )


def _files(shown: slices.Study, kinds: tuple[str, ...]) -> list[str]:
    arms = (*((shown.base,) if shown.base else ()), *shown.arms)
    policies = [run.run for arm in arms for run in arm.runs]
    trained = [run.run for arm in arms for run in arm.runs if arm.trained]
    files = []
    for kind in kinds:
        if kind in ("score", "graded"):
            files += [getattr(INSIDE, kind)(run, shown.dataset, shown.protocol) for run in policies]
        else:
            files += [getattr(INSIDE, kind)(run) for run in trained]
    return files


def _shown(study: Study, picture: Figure | Table) -> slices.Study:
    experiment = study.experiments[picture.experiment]
    dataset = picture.dataset or plan.test_sets(experiment)[0]
    protocol = picture.protocol or experiment.protocols[0]
    kinds = FIGURE_READS[picture.draw] if isinstance(picture, Figure) else TABLE_READS[picture.make]
    shown = picture.methods or tuple(plan.trained(study, experiment) if OF_TRAINING & {*kinds} else experiment.methods)
    return _experiment(study, picture.experiment, dataset, protocol, shown)


def _experiment(study: Study, key: str, dataset: str, protocol: str, only: tuple[str, ...]) -> slices.Study:
    experiment = study.experiments[key]
    methods = only or experiment.methods
    return slices.Study(
        name=key,
        title=experiment.title or key,
        dataset=dataset,
        protocol=protocol,
        contexts=experiment.contexts,
        paper_contexts=experiment.paper_contexts,
        base=_base(study, experiment),
        arms=tuple(_arm(study, experiment, method) for method in methods),
        pairs=tuple(pair for pair in experiment.pairs if set(pair) <= set(methods)),
    )


def _base(study: Study, experiment: Experiment) -> slices.Arm:
    label = "SFT base" if study.models[experiment.model].sft is not None else "base"
    colour = study.style.colours.get(plan.BASE, GREY)
    runs = (slices.Run(run=experiment.model),)
    return slices.Arm(method=plan.BASE, label=label, colour=colour, runs=runs, trained=False)


def _arm(study: Study, experiment: Experiment, method: str) -> slices.Arm:
    policies = plan.policies(study, experiment, method)
    own = study.methods[method]
    return slices.Arm(
        method=method,
        label=own.label,
        **_look(study, method),
        runs=tuple(slices.Run(run=name, seed=seed) for name, seed in policies.items()),
        trained=own.policy is None,
        variant_of=study.methods[own.base].label if own.base is not None else "",
        changes=tuple(_flat(own.train)) if own.base is not None else (),
    )


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted keys with their values as text.

    >>> list(_flat({"optimizer": {"lr": 1e-05}, "epochs": 2}))
    [('optimizer.lr', '1e-5'), ('epochs', '2')]
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", plain_text(value)


def _look(study: Study, method: str) -> dict[str, str]:
    """Return colour and line of a method; a variant without a colour has a shade of its method's, and another line."""
    owner = _owner(study, method)
    colour = study.style.colours.get(owner) or PALETTE[list(study.methods).index(owner) % len(PALETTE)]
    if owner == method:
        return {"colour": colour}
    alike = [name for name in study.methods if name != owner and _owner(study, name) == owner]
    share, line = SHADES[alike.index(method) % len(SHADES)]
    return {"colour": _shade(colour, share), "line": line}


def _owner(study: Study, method: str) -> str:
    """Return whose colour a method has: the nearest of its bases that has one, else the first of them."""
    lineage = plan.lineage(study, method)
    return next((name for name in reversed(lineage) if name in study.style.colours), lineage[0])


def _shade(colour: str, share: float) -> str:
    """Return a hex colour with that share of white, or below 0 of black, mixed in.

    >>> _shade("#0072B2", 0.5), _shade("#0072B2", -0.5)
    ('#80B9D9', '#003959')
    """
    into = 255 if share > 0 else 0
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{int(part + abs(share) * (into - part) + 0.5):02X}" for part in parts)


def _quoted(study: Study, path: KeyPath, method: str, paper: tuple[slices.PaperNumber, ...]) -> slices.Quoted:
    number = next((number for number in paper if number.method == method), None)
    if number is None:
        raise Mistakes([Mistake(path, f"the paper's numbers of this figure have none of {method}. Remove it")])
    return slices.Quoted(label=study.methods[method].label, number=number)


def _paper(study: Study, path: KeyPath, key: str | None, numbers: Mapping[str, Any]) -> tuple[slices.PaperNumber, ...]:
    """A group of the paper's numbers, repeated for the methods that borrow another one's."""
    if key is None:
        return ()
    if key not in numbers:
        raise Mistakes([Mistake(path, unknown(key, numbers, "entry of config/paper_numbers.yaml"))])
    group = numbers[key]
    borrowers = {name: method.paper for name, method in study.methods.items() if method.paper is not None}
    rows = [number for number in group["numbers"] if number["method"] not in borrowers]
    rows += [
        {**number, "method": name}
        for name, of in borrowers.items()
        for number in group["numbers"]
        if number["method"] == of
    ]
    return tuple(slices.PaperNumber(where=group["where"], **number) for number in rows)
