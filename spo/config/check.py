"""What types cannot say: names that must exist elsewhere in the study or the code, numbers that must fit together."""

from __future__ import annotations

from collections.abc import Iterable

from spo.config import plan
from spo.config.layers import one_line
from spo.config.study import Experiment, Figure, Study, Table
from spo.config.validate import unknown
from spo.errors import UserError
from spo.settings import Chain, Dataset, Model, Train

#: Rules of the Snakefile; a figure or table of that name could not be asked for.
RESERVED = frozenset(
    ("all", "models", "scores", "figures", "tables")
    + ("prepare", "sft", "train", "generate", "grade", "score", "figure", "table", "report")
)


def check(study: Study) -> None:
    """Raise UserError, one line with the dotted key, for the first thing in `study` that cannot work."""
    for name, dataset in study.datasets.items():
        _dataset(name, dataset)
    for name, model in study.models.items():
        _model(f"models.{name}", model, study)
    for name, protocol in study.protocols.items():
        _backend(f"protocols.{name}", protocol.backend)
    for name, method in study.methods.items():
        if method.base is not None:
            _known(f"methods.{name}.base", method.base, study.methods, "method")
    for name in study.methods:
        _train(f"methods.{name}.train", plan.train_settings(study, name))
    for name, experiment in study.experiments.items():
        _experiment(f"experiments.{name}", experiment, study)
        for method in experiment.methods:
            _fits(f"experiments.{name}", plan.train_settings(study, method, name), experiment, study)
    plan.runs(study)
    _pictures(study)
    for name in study.style.colours:
        _known(f"style.colours.{name}", name, (*study.methods, plan.BASE), "method")


def _known(where: str, name: str, known: Iterable[str], what: str) -> None:
    if name not in known:
        raise UserError(f"config: {where}: {unknown(name, known, what)}")


def _refuse(where: str, problem: str) -> None:
    raise UserError(f"config: {where}: {problem}")


def _dataset(name: str, dataset: Dataset) -> None:
    from spo.data import DATASETS, check_settings
    from spo.grading import GRADERS

    where = f"datasets.{name}"
    _known(f"{where}.source", dataset.source, DATASETS, "dataset source")
    _known(f"{where}.grader", dataset.grader, GRADERS, "grader")
    if "{question}" not in dataset.prompt:
        _refuse(f"{where}.prompt", "should contain {question}, where the question goes")
    try:
        check_settings(name, dataset)
    except UserError as error:
        raise UserError(one_line(f"config: {error}")) from None


def _model(where: str, model: Model, study: Study) -> None:
    if (model.sft is None) == (model.path is None):
        _refuse(where, "give either `sft`, to train it here, or `path`, a folder or hub id")
    if model.sft is not None:
        _known(f"{where}.sft.dataset", model.sft.dataset, study.datasets, "dataset")
        if study.datasets[model.sft.dataset].demonstrations == 0:
            _refuse(f"datasets.{model.sft.dataset}.demonstrations", f"0, but {where}.sft learns from them")


def _backend(where: str, backend: str) -> None:
    from spo.policy import BACKENDS

    _known(f"{where}.backend", backend, BACKENDS, "backend")


def _train(where: str, train: Train) -> None:
    from spo.credit.partition import PARTITIONS

    _backend(where, train.backend)
    if isinstance(train.credit, Chain):
        _known(f"{where}.credit.partition.name", train.credit.partition.name, PARTITIONS, "partition")


def _experiment(where: str, experiment: Experiment, study: Study) -> None:
    _known(f"{where}.model", experiment.model, study.models, "model")
    for dataset in (experiment.dataset, *experiment.evaluate_on):
        key = "dataset" if dataset == experiment.dataset else "evaluate_on"
        _known(f"{where}.{key}", dataset, study.datasets, "dataset")
    for method in experiment.methods:
        _known(f"{where}.methods", method, study.methods, "method")
    for method in experiment.overrides:
        _known(f"{where}.overrides.{method}", method, experiment.methods, "method of this experiment")
    for method in {name for pair in experiment.pairs for name in pair}:
        _known(f"{where}.pairs", method, experiment.methods, "method of this experiment")
    for protocol in experiment.protocols:
        _known(f"{where}.protocols", protocol, study.protocols, "protocol")
    for key in ("methods", "seeds", "contexts", "protocols", "evaluate_on"):
        values = getattr(experiment, key)
        if len(set(values)) < len(values):
            _refuse(f"{where}.{key}", "names something twice")
    if list(experiment.contexts) != sorted(experiment.contexts):
        _refuse(f"{where}.contexts", "should ascend")
    if experiment.paper_contexts and len(experiment.paper_contexts) != len(experiment.contexts):
        _refuse(f"{where}.paper_contexts", f"should have as many entries as contexts, {len(experiment.contexts)}")


def _fits(where: str, train: Train, experiment: Experiment, study: Study) -> None:
    """Numbers of an experiment's training that must fit its dataset and model."""
    _train(f"{where}.train", train)
    dataset, model = study.datasets[experiment.dataset], study.models[experiment.model]
    if train.validation_problems > dataset.validation:
        _refuse(
            f"{where}.train.validation_problems",
            f"{train.validation_problems}, but datasets.{experiment.dataset}.validation is {dataset.validation}",
        )
    if dataset.train is not None and train.problems_per_iteration > dataset.train:
        _refuse(
            f"{where}.train.problems_per_iteration",
            f"{train.problems_per_iteration}, but datasets.{experiment.dataset}.train is {dataset.train}",
        )
    if model.sft is not None:
        limit = model.architecture.max_position_tokens
        for key, tokens in (("train.context_tokens", train.context_tokens), ("contexts", max(experiment.contexts))):
            if tokens > limit:
                place = f"models.{experiment.model}.architecture.max_position_tokens"
                _refuse(f"{where}.{key}", f"{tokens}, but {place} is {limit}")


def _pictures(study: Study) -> None:
    from spo.analysis.slices import FIGURE_READS, TABLE_READS

    for name, figure in study.figures.items():
        _known(f"figures.{name}.draw", figure.draw, FIGURE_READS, "kind of figure")
        _shown(f"figures.{name}", name, figure, study)
    for name, table in study.tables.items():
        _known(f"tables.{name}.make", table.make, TABLE_READS, "kind of table")
        _shown(f"tables.{name}", name, table, study)
    for name in study.figures.keys() & study.tables.keys():
        _refuse(f"tables.{name}", "a figure has this name too")


def _shown(where: str, name: str, picture: Figure | Table, study: Study) -> None:
    if name in RESERVED:
        _refuse(where, f"{name} is the name of a rule; choose another one")
    if picture.experiment is None:
        return
    _known(f"{where}.experiment", picture.experiment, study.experiments, "experiment")
    experiment = study.experiments[picture.experiment]
    if picture.dataset is not None:
        _known(f"{where}.dataset", picture.dataset, plan.test_sets(experiment), "test set of that experiment")
    if picture.protocol is not None:
        _known(f"{where}.protocol", picture.protocol, experiment.protocols, "protocol of that experiment")
    if picture.context is not None:
        _known(f"{where}.context", str(picture.context), map(str, experiment.contexts), "context of that experiment")
    for method in picture.methods:
        _known(f"{where}.methods", method, experiment.methods, "method of that experiment")
