"""What types cannot say about what is made of runs: audits, traces, claims, figures and tables."""

from __future__ import annotations

from spo.analysis.slices import FIGURE_READS, OF_ONE_METHOD, OF_TRAINING, OF_VALIDATION, STATISTIC_READS, TABLE_READS
from spo.config import plan
from spo.config.pictures import validated_runs
from spo.config.study import AuditPlan, Evidence, Experiment, Figure, Study, Table, TracePlan
from spo.config.validate import known, refuse
from spo.settings import Accepted, Chain, Credit, Critic, Pairs

#: Rules of the Snakefile; a figure or table of that name could not be asked for.
RESERVED = frozenset(
    ("all", "models", "scores", "figures", "tables", "audits", "traces", "trajectories")
    + ("prepare", "sft", "train", "train_with_critic", "generate", "grade", "score", "audit", "trace")
    + ("figure", "table", "report", "plan")
)


def check_credit(where: str, credit: Credit) -> None:
    """UserError for a partition that does not exist."""
    from spo.credit.partition import PARTITIONS

    if isinstance(credit, Chain):
        known(f"{where}.partition.name", credit.partition.name, PARTITIONS, "partition")


def check_audit(where: str, audit: AuditPlan, study: Study) -> None:
    """UserError for an audit that cannot be made."""
    experiment = _experiment(where, audit.experiment, study)
    _trained(f"{where}.method", audit.method, experiment, study)
    has_critic = isinstance(plan.train_settings(study, audit.method, audit.experiment).credit, Critic)
    for label, credit in audit.audit.estimators.items():
        place = f"{where}.audit.estimators.{label}"
        check_credit(place, credit)
        if isinstance(credit, Accepted | Pairs):
            refuse(f"{place}.kind", f"{credit.kind} estimates no advantages; choose chain, tree, group or critic")
        if isinstance(credit, Critic) and not has_critic:
            refuse(f"{place}.kind", f"critic, but {where}.method is {audit.method}, which trains none")
    _enough(f"{where}.audit.problems", audit.audit.problems, experiment, study)


def check_trace(where: str, trace: TracePlan, study: Study) -> None:
    """UserError for a trace that cannot be written."""
    experiment = _experiment(where, trace.experiment, study)
    if trace.method is not None:
        _trained(f"{where}.method", trace.method, experiment, study)
    elif not plan.trained(study, experiment):
        refuse(f"{where}.experiment", f"{trace.experiment} trains nothing, so that nothing says how to sample")
    check_credit(f"{where}.trace.chain", trace.trace.chain)
    _enough(f"{where}.trace.problems", trace.trace.problems, experiment, study)


def check_claim(where: str, part: Evidence, study: Study) -> None:
    """UserError for evidence that no run or audit gives."""
    known(f"{where}.statistic", part.statistic, STATISTIC_READS, "statistic")
    reads = STATISTIC_READS[part.statistic]
    if reads == ("audit",):
        _one_source(where, part.statistic, "audit", part)
        known(f"{where}.audit", part.audit, study.audits, "audit")
        names, what = list(study.audits[part.audit].audit.estimators), "estimator of that audit"
    else:
        _one_source(where, part.statistic, "experiment", part)
        experiment = _experiment(where, part.experiment, study)
        base = (plan.BASE,) if "graded" in reads else ()
        names, what = [*experiment.methods, *base], "method of that experiment"
        if part.context is not None:
            known(f"{where}.context", str(part.context), map(str, experiment.contexts), "context of that experiment")
    if part.second is None and part.statistic not in OF_ONE_METHOD:
        refuse(f"{where}.second", f"missing; {part.statistic} compares two")
    if part.second is not None and part.statistic in OF_ONE_METHOD:
        refuse(f"{where}.second", f"{part.statistic} is of one method alone; remove this key")
    for key in ("first", "second"):
        if (name := getattr(part, key)) is not None:
            known(f"{where}.{key}", name, names, what)
            if part.experiment is not None and OF_TRAINING & {*reads}:
                _trained(f"{where}.{key}", name, experiment, study)
    _metric(where, part.statistic, part, study)


def check_pictures(study: Study) -> None:
    """UserError for a figure or table of something that the study does not have."""
    for name, figure in study.figures.items():
        where = f"figures.{name}"
        known(f"{where}.draw", figure.draw, FIGURE_READS, "kind of figure")
        source = next((each for each in ("audit", "trace") if each in FIGURE_READS[figure.draw]), "experiment")
        _one_source(where, figure.draw, source, figure)
        if source != "experiment":
            known(f"{where}.{source}", getattr(figure, source), getattr(study, f"{source}s"), source)
        _shown(where, name, figure, study)
        _metric(where, figure.draw, figure, study)
    for name, table in study.tables.items():
        known(f"tables.{name}.make", table.make, TABLE_READS, "kind of table")
        if TABLE_READS[table.make] == ("claims",) and not study.claims:
            refuse(f"tables.{name}.make", f"{table.make}, but the study has no `claims`")
        _shown(f"tables.{name}", name, table, study)
        _columns(f"tables.{name}", table, study)
        _metric(f"tables.{name}", table.make, table, study)
    for name in study.figures.keys() & study.tables.keys():
        refuse(f"tables.{name}", "a figure has this name too")


def _shown(where: str, name: str, picture: Figure | Table, study: Study) -> None:
    if name in RESERVED:
        refuse(where, f"{name} is the name of a rule; choose another one")
    if picture.experiment is None:
        return
    experiment = _experiment(where, picture.experiment, study)
    if picture.dataset is not None:
        known(f"{where}.dataset", picture.dataset, plan.test_sets(experiment), "test set of that experiment")
    if picture.protocol is not None:
        known(f"{where}.protocol", picture.protocol, experiment.protocols, "protocol of that experiment")
    if picture.context is not None:
        known(f"{where}.context", str(picture.context), map(str, experiment.contexts), "context of that experiment")
    for method in picture.methods:
        known(f"{where}.methods", method, experiment.methods, "method of that experiment")
    kinds = FIGURE_READS[picture.draw] if isinstance(picture, Figure) else TABLE_READS[picture.make]
    if OF_TRAINING & {*kinds}:
        for method in picture.methods:
            _trained(f"{where}.methods", method, experiment, study)
        if not plan.trained(study, experiment):
            refuse(f"{where}.experiment", f"{picture.experiment} trains nothing, and training is what this shows")


def _columns(where: str, table: Table, study: Study) -> None:
    """Raise UserError for columns of settings that no training has."""
    if table.make != "settings_table":
        if table.columns:
            refuse(f"{where}.columns", f"{table.make} has no such columns; remove this key")
        return
    if (table.experiment is None) == (not table.columns):
        refuse(where, "give either `experiment`, for all of its methods, or `columns`")
    for key, methods in table.columns.items():
        known(f"{where}.columns", key, study.experiments, "experiment")
        for method in methods:
            _trained(f"{where}.columns.{key}", method, study.experiments[key], study)
    for method in table.methods:
        _trained(f"{where}.methods", method, study.experiments[table.experiment], study)


def _metric(where: str, kind: str, part: Figure | Table | Evidence, study: Study) -> None:
    """Raise UserError for a validation accuracy that the runs shown do not have, or that this kind does not show."""
    if part.metric is None:
        return
    if kind not in OF_VALIDATION:
        refuse(f"{where}.metric", f"{kind} shows no validation accuracy; remove this key")
    if part.metric == "validation_sampled_accuracy" and part.experiment is not None:
        for method, train in validated_runs(study, part).items():
            if not train.validation_samples:
                key = f"experiments.{part.experiment}"
                refuse(f"{where}.metric", f"{part.metric}, but validation_samples of {method} in {key} is 0")


def _one_source(where: str, kind: str, source: str, part: Figure | Evidence) -> None:
    """UserError unless exactly the key `source` says what `part`, of that kind, is made from."""
    if getattr(part, source) is None:
        refuse(f"{where}.{source}", f"missing; {kind} is made from one")
    for other in ("experiment", "audit", "trace"):
        if other != source and getattr(part, other, None) is not None:
            refuse(f"{where}.{other}", f"{kind} is made from `{source}` alone; remove this key")


def _trained(where: str, method: str, experiment: Experiment, study: Study) -> None:
    """UserError unless `method` is trained in that experiment."""
    known(where, method, experiment.methods, "method of that experiment")
    if study.methods[method].policy is not None:
        refuse(
            where, f"{method} is a policy that others trained, which says nothing of training; choose another method"
        )


def _experiment(where: str, name: str, study: Study) -> Experiment:
    known(f"{where}.experiment", name, study.experiments, "experiment")
    return study.experiments[name]


def _enough(where: str, problems: int, experiment: Experiment, study: Study) -> None:
    there = study.datasets[experiment.dataset].validation
    if problems > there:
        refuse(where, f"{problems}, but datasets.{experiment.dataset}.validation is {there}")
