"""What types cannot say about what is made of runs: audits, traces, claims, figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spo.analysis.slices import (
    FIGURE_READS,
    OF_BARS,
    OF_ONE_METHOD,
    OF_TRAINING,
    OF_VALIDATION,
    STATISTIC_READS,
    TABLE_READS,
)
from spo.config import plan
from spo.config.check_train import check_credit
from spo.config.layers import KeyPath, Mistake, Mistakes
from spo.config.pictures import validated_runs
from spo.config.study import AuditPlan, Evidence, Experiment, Figure, Study, Table, TracePlan
from spo.config.validate import known
from spo.settings import Accepted, Critic, Pairs

#: Rules of the Snakefile; a figure or table of that name could not be asked for.
RESERVED = frozenset(
    ("all", "models", "scores", "figures", "tables", "audits", "traces", "trajectories")
    + ("prepare", "sft", "train", "train_with_critic", "generate", "grade", "score", "audit", "trace")
    + ("figure", "table", "report", "plan")
)

Found = Iterator[Mistake]
#: Section of the study -> names in it, with those of entries that are mistakes themselves.
Names = Callable[[str], list[str]]


def check_audit(at: KeyPath, audit: AuditPlan, study: Study, names: Names) -> Found:
    """Yield why an audit cannot be made."""
    yield from known((*at, "experiment"), audit.experiment, names("experiments"), "experiment")
    experiment = study.experiments.get(audit.experiment)
    if experiment is not None:
        yield from _trained((*at, "method"), audit.method, experiment, study)
        yield from _enough((*at, "audit", "problems"), audit.audit.problems, experiment, study)
    has_critic = experiment is None or _has_critic(study, audit)
    for label, credit in audit.audit.estimators.items():
        place = (*at, "audit", "estimators", label)
        yield from check_credit(place, credit)
        if isinstance(credit, Accepted | Pairs):
            problem = f"{credit.kind} estimates no advantages. Choose chain, tree, group or critic"
            yield Mistake((*place, "kind"), problem)
        if isinstance(credit, Critic) and not has_critic:
            problem = f"critic, but audits.{at[-1]}.method is {audit.method}, which trains none"
            yield Mistake((*place, "kind"), problem)


def _has_critic(study: Study, audit: AuditPlan) -> bool:
    """Return whether the audited method trains a critic; True where another mistake hides that."""
    try:
        return isinstance(plan.train_settings(study, audit.method, audit.experiment).credit, Critic)
    except (Mistakes, KeyError):
        return True


def check_trace(at: KeyPath, trace: TracePlan, study: Study, names: Names) -> Found:
    """Yield why a trace cannot be written."""
    yield from known((*at, "experiment"), trace.experiment, names("experiments"), "experiment")
    yield from check_credit((*at, "trace", "chain"), trace.trace.chain)
    yield from check_credit((*at, "trace", "tree"), trace.trace.tree)
    experiment = study.experiments.get(trace.experiment)
    if experiment is None:
        return
    if trace.method is not None:
        yield from _trained((*at, "method"), trace.method, experiment, study)
    elif _trains_nothing(study, experiment):
        problem = f"{trace.experiment} trains nothing, so that nothing says how to sample"
        yield Mistake((*at, "experiment"), problem)
    yield from _enough((*at, "trace", "problems"), trace.trace.problems, experiment, study)


def check_claim(at: KeyPath, part: Evidence, study: Study, names: Names) -> Found:
    """Yield why no run or audit gives this evidence."""
    unknown = list(known((*at, "statistic"), part.statistic, STATISTIC_READS, "statistic"))
    if unknown:
        yield from unknown
        return
    reads = STATISTIC_READS[part.statistic]
    if part.second is None and part.statistic not in OF_ONE_METHOD:
        yield Mistake((*at, "second"), f"missing; {part.statistic} compares two")
    if part.second is not None and part.statistic in OF_ONE_METHOD:
        yield Mistake((*at, "second"), f"{part.statistic} is of one method alone. Remove this key")
    source = "audit" if reads == ("audit",) else "experiment"
    wrong = list(_one_source(at, part.statistic, source, part))
    yield from wrong
    if getattr(part, source) is None:
        return
    yield from known((*at, source), getattr(part, source), names(f"{source}s"), source)
    given = [(key, getattr(part, key)) for key in ("first", "second") if getattr(part, key) is not None]
    if source == "audit":
        if (audit := study.audits.get(part.audit)) is not None:
            for key, name in given:
                yield from known((*at, key), name, audit.audit.estimators, "estimator of that audit")
        return
    if (experiment := study.experiments.get(part.experiment)) is None:
        return
    base = (plan.BASE,) if "graded" in reads else ()
    if part.context is not None:
        yield from _context((*at, "context"), part.context, experiment)
    for key, name in given:
        yield from known((*at, key), name, [*experiment.methods, *base], "method of that experiment")
        if OF_TRAINING & {*reads} and name in experiment.methods:
            yield from _trained((*at, key), name, experiment, study)
    yield from _metric(at, part.statistic, part, study)


def check_pictures(study: Study, names: Names) -> Found:
    """Yield figures and tables of something that the study does not have."""
    for name, figure in study.figures.items():
        at = ("figures", name)
        unknown = list(known((*at, "draw"), figure.draw, FIGURE_READS, "kind of figure"))
        yield from unknown
        if not unknown:
            source = next((each for each in ("audit", "trace") if each in FIGURE_READS[figure.draw]), "experiment")
            yield from _one_source(at, figure.draw, source, figure)
            if source != "experiment" and getattr(figure, source) is not None:
                yield from known((*at, source), getattr(figure, source), names(f"{source}s"), source)
            yield from _shown(at, name, figure, FIGURE_READS[figure.draw], study, names)
            yield from _metric(at, figure.draw, figure, study)
            yield from _quoted(at, figure, study, names)
    for name, table in study.tables.items():
        at = ("tables", name)
        unknown = list(known((*at, "make"), table.make, TABLE_READS, "kind of table"))
        yield from unknown
        if not unknown:
            if TABLE_READS[table.make] == ("claims",) and not names("claims"):
                yield Mistake((*at, "make"), f"{table.make}, but the study has no `claims`")
            yield from _shown(at, name, table, TABLE_READS[table.make], study, names)
            yield from _columns(at, table, study)
            yield from _metric(at, table.make, table, study)
    for name in study.figures:
        if name in study.tables:
            yield Mistake(("tables", name), "a figure has this name too")


def _shown(
    at: KeyPath, name: str, picture: Figure | Table, kinds: tuple[str, ...], study: Study, names: Names
) -> Found:
    if name in RESERVED:
        yield Mistake(at, f"{name} is the name of a rule. Choose another one")
    if picture.experiment is None:
        return
    yield from known((*at, "experiment"), picture.experiment, names("experiments"), "experiment")
    experiment = study.experiments.get(picture.experiment)
    if experiment is None:
        return
    if picture.dataset is not None:
        sets = plan.test_sets(experiment)
        yield from known((*at, "dataset"), picture.dataset, sets, "test set of that experiment")
    if picture.protocol is not None:
        yield from known((*at, "protocol"), picture.protocol, experiment.protocols, "protocol of that experiment")
    if picture.context is not None:
        yield from _context((*at, "context"), picture.context, experiment)
    of_training = bool(OF_TRAINING & {*kinds})
    for place, method in enumerate(picture.methods):
        yield from known((*at, "methods", place), method, experiment.methods, "method of that experiment")
        if of_training and method in experiment.methods:
            yield from _trained((*at, "methods", place), method, experiment, study)
    if of_training and _trains_nothing(study, experiment):
        problem = f"{picture.experiment} trains nothing, and training is what this shows"
        yield Mistake((*at, "experiment"), problem)


def _quoted(at: KeyPath, figure: Figure, study: Study, names: Names) -> Found:
    """Quoted bars of a figure without bars, and of methods that it shows anyway."""
    if not figure.quoted:
        return
    if figure.draw not in OF_BARS:
        yield Mistake((*at, "quoted"), f"{figure.draw} has no bars. Remove this key")
    if figure.paper is None:
        yield Mistake((*at, "paper"), "missing; `quoted` takes its numbers from there")
    experiment = study.experiments.get(figure.experiment)
    shown = figure.methods or (experiment.methods if experiment is not None else ())
    for place, method in enumerate(figure.quoted):
        yield from known((*at, "quoted", place), method, names("methods"), "method")
        if method in shown:
            problem = f"{method} is run in experiments.{figure.experiment} and has a bar. Remove it here"
            yield Mistake((*at, "quoted", place), problem)


def _columns(at: KeyPath, table: Table, study: Study) -> Found:
    """Columns of settings that no training has."""
    if table.make != "settings_table":
        if table.columns:
            yield Mistake((*at, "columns"), f"{table.make} has no such columns. Remove this key")
        return
    if (table.experiment is None) == (not table.columns):
        yield Mistake(at, "give either `experiment`, for all of its methods, or `columns`")
    for key, methods in table.columns.items():
        yield from known((*at, "columns", key), key, study.experiments, "experiment")
        for method in methods if key in study.experiments else ():
            yield from _trained((*at, "columns", key), method, study.experiments[key], study)
    if (experiment := study.experiments.get(table.experiment)) is not None:
        for method in table.methods:
            yield from _trained((*at, "methods"), method, experiment, study)


def _metric(at: KeyPath, kind: str, part: Figure | Table | Evidence, study: Study) -> Found:
    """A validation accuracy that the runs shown do not have, or that this kind does not show."""
    if part.metric is None:
        return
    if kind not in OF_VALIDATION:
        yield Mistake((*at, "metric"), f"{kind} shows no validation accuracy. Remove this key")
    if part.metric != "validation_sampled_accuracy" or part.experiment not in study.experiments:
        return
    try:
        runs = validated_runs(study, part)
    except (Mistakes, KeyError):
        return  # named by other checks
    for method, train in runs.items():
        if not train.validation_samples:
            key = f"experiments.{part.experiment}"
            problem = f"{part.metric}, but validation_samples of {method} in {key} is 0"
            yield Mistake((*at, "metric"), problem)


def _context(at: KeyPath, context: int, experiment: Experiment) -> Found:
    yield from known(at, str(context), map(str, experiment.contexts), "context of that experiment")


def _one_source(at: KeyPath, kind: str, source: str, part: Figure | Evidence) -> Found:
    """A mistake unless exactly the key `source` says what `part`, of that kind, is made from."""
    if getattr(part, source) is None:
        yield Mistake((*at, source), f"missing; {kind} is made from one")
    for other in ("experiment", "audit", "trace"):
        if other != source and getattr(part, other, None) is not None:
            yield Mistake((*at, other), f"{kind} is made from `{source}` alone. Remove this key")


def _trained(at: KeyPath, method: str, experiment: Experiment, study: Study) -> Found:
    """A mistake unless `method` is trained in that experiment."""
    yield from known(at, method, experiment.methods, "method of that experiment")
    if method in study.methods and study.methods[method].policy is not None:
        problem = f"{method} is a policy that others trained, which says nothing of training. Choose another method"
        yield Mistake(at, problem)


def _trains_nothing(study: Study, experiment: Experiment) -> bool:
    """Return whether all methods of an experiment are policies that others trained."""
    methods = [study.methods.get(method) for method in experiment.methods]
    return all(method is not None and method.policy is not None for method in methods)


def _enough(at: KeyPath, problems: int, experiment: Experiment, study: Study) -> Found:
    dataset = study.datasets.get(experiment.dataset)
    if dataset is not None and problems > dataset.validation:
        yield Mistake(at, f"{problems}, but datasets.{experiment.dataset}.validation is {dataset.validation}")
