"""What types cannot say: names that must exist elsewhere in the study or the code, numbers that must fit together."""

from __future__ import annotations

from pathlib import Path

from spo.config import plan
from spo.config.check_pictures import check_audit, check_claim, check_credit, check_pictures, check_trace
from spo.config.layers import one_line
from spo.config.resources import TrainJob
from spo.config.study import Experiment, Method, Study
from spo.config.validate import known, refuse
from spo.errors import UserError
from spo.settings import Dataset, Model, Train


def check(study: Study) -> None:
    """Raise UserError, one line with the dotted key, for the first thing in `study` that cannot work."""
    for name, dataset in study.datasets.items():
        _dataset(name, dataset)
    for name, model in study.models.items():
        _model(f"models.{name}", model, study)
    for name, protocol in study.protocols.items():
        _backend(f"protocols.{name}", protocol.backend)
    for name, method in study.methods.items():
        _method(f"methods.{name}", method, study)
    for name, method in study.methods.items():
        if method.policy is None:
            _train(f"methods.{name}.train", plan.train_settings(study, name))
            plan.lineage(study, name, "start")
    for name, experiment in study.experiments.items():
        _experiment(f"experiments.{name}", experiment, study)
        for method in plan.trained(study, experiment):
            _fits(f"experiments.{name}", plan.train_settings(study, method, name), experiment, study)
    plan.runs(study)
    for name, audit in study.audits.items():
        check_audit(f"audits.{name}", audit, study)
    for name, trace in study.traces.items():
        check_trace(f"traces.{name}", trace, study)
    for name, claim in study.claims.items():
        for place, evidence in enumerate(claim.parts):
            check_claim(f"claims.{name}.parts.{place}", evidence, study)
    check_pictures(study)
    for rule in ("train", "train_with_critic"):
        _processes(f"resources.{rule}", getattr(study.resources, rule))
    for name in study.style.colours:
        known(f"style.colours.{name}", name, (*study.methods, plan.BASE), "method")


def _processes(where: str, job: TrainJob) -> None:
    if 0 < job.gpus < job.processes:
        refuse(f"{where}.processes", f"{job.processes}, but {where}.gpus is {job.gpus}, and each takes one")


def _dataset(name: str, dataset: Dataset) -> None:
    from spo.data import DATASETS, check_settings
    from spo.grading import GRADERS

    where = f"datasets.{name}"
    known(f"{where}.source", dataset.source, DATASETS, "dataset source")
    known(f"{where}.grader", dataset.grader, GRADERS, "grader")
    if "{question}" not in dataset.prompt:
        refuse(f"{where}.prompt", "should contain {question}, where the question goes")
    if "{question}" not in dataset.message:
        refuse(f"{where}.message", "should contain {question}, where the question goes")
    try:
        check_settings(name, dataset)
    except UserError as error:
        raise UserError(one_line(f"config: {error}")) from None


def _model(where: str, model: Model, study: Study) -> None:
    if (model.sft is None) == (model.path is None):
        refuse(where, "give either `sft`, to train it here, or `path`, a folder or hub id")
    if model.sft is not None:
        if model.chat:
            refuse(f"{where}.chat", "a model trained here has no chat template; remove this key")
        if model.parameters is not None:
            refuse(f"{where}.parameters", "only for `path`; `architecture` says the size of a model trained here")
        known(f"{where}.sft.dataset", model.sft.dataset, study.datasets, "dataset")
        if study.datasets[model.sft.dataset].demonstrations == 0:
            refuse(f"datasets.{model.sft.dataset}.demonstrations", f"0, but {where}.sft learns from them")
        if model.tokenizer.special_tokens and model.tokenizer.kind != "bpe":
            refuse(f"{where}.tokenizer.special_tokens", f"only for kind bpe, not {model.tokenizer.kind}")


def _chat(where: str, dataset: str, model: str, study: Study) -> None:
    """Raise UserError where a model without a chat template is to be asked in one; only local folders are looked at."""
    from spo.policy.chat import has_template

    if not plan.asked(study, dataset, model).chat:
        return
    path = study.models[model].path
    if path is None:
        refuse(where, f"datasets.{dataset}.chat, but models.{model} is trained here and has no chat template")
    elif Path(path).is_dir() and not has_template(Path(path)):
        refuse(where, f"{dataset} is asked in a chat template, but models.{model}.path, {path}, has none")


def _backend(where: str, backend: str) -> None:
    from spo.policy import BACKENDS

    known(f"{where}.backend", backend, BACKENDS, "backend")


def _method(where: str, method: Method, study: Study) -> None:
    if method.policy is not None:
        known(f"{where}.policy", method.policy, study.models, "model")
        for key in ("base", "train", "start"):
            if getattr(method, key):
                refuse(f"{where}.{key}", "`policy` is evaluated as it is and never trained; remove one of the two")
    for key in ("base", "start"):
        if (other := getattr(method, key)) is not None:
            known(f"{where}.{key}", other, study.methods, "method")
            if study.methods[other].policy is not None:
                refuse(f"{where}.{key}", f"{other} is a `policy` that others trained; name a method that trains")


def _train(where: str, train: Train) -> None:
    _backend(where, train.backend)
    if train.stop_at is not None and train.stop_at > train.iterations:
        refuse(f"{where}.stop_at", f"{train.stop_at}, but the schedule ends after iterations: {train.iterations}")
    check_credit(f"{where}.credit", train.credit)


def _experiment(where: str, experiment: Experiment, study: Study) -> None:
    known(f"{where}.model", experiment.model, study.models, "model")
    for dataset in (experiment.dataset, *experiment.evaluate_on):
        key = "dataset" if dataset == experiment.dataset else "evaluate_on"
        known(f"{where}.{key}", dataset, study.datasets, "dataset")
    for method in experiment.methods:
        known(f"{where}.methods", method, study.methods, "method")
        start = study.methods[method].start
        if start is not None and start not in experiment.methods:
            refuse(f"{where}.methods", f"{method} starts from {start}, which is not among them; add it")
    for method in experiment.overrides:
        known(f"{where}.overrides.{method}", method, experiment.methods, "method of this experiment")
        if study.methods[method].policy is not None:
            refuse(f"{where}.overrides.{method}", "it is a `policy` that others trained; remove these settings")
    for method in {name for pair in experiment.pairs for name in pair}:
        known(f"{where}.pairs", method, experiment.methods, "method of this experiment")
    for protocol in experiment.protocols:
        known(f"{where}.protocols", protocol, study.protocols, "protocol")
    for key in ("methods", "seeds", "contexts", "protocols", "evaluate_on"):
        values = getattr(experiment, key)
        if len(set(values)) < len(values):
            refuse(f"{where}.{key}", "names something twice")
    if list(experiment.contexts) != sorted(experiment.contexts):
        refuse(f"{where}.contexts", "should ascend")
    for method in experiment.methods:
        policy = study.methods[method].policy or experiment.model
        _reaches(f"{where}.contexts", max(experiment.contexts), policy, study)
        for dataset in plan.test_sets(experiment):
            _chat(f"{where}.methods.{method}", dataset, policy, study)
    _chat(f"{where}.model", experiment.dataset, experiment.model, study)
    for dataset in plan.test_sets(experiment):
        _chat(f"{where}.model", dataset, experiment.model, study)
    if experiment.paper_contexts and len(experiment.paper_contexts) != len(experiment.contexts):
        refuse(f"{where}.paper_contexts", f"should have as many entries as contexts, {len(experiment.contexts)}")


def _fits(where: str, train: Train, experiment: Experiment, study: Study) -> None:
    """Numbers of an experiment's training that must fit its dataset and model."""
    from spo.data import trains

    _train(f"{where}.train", train)
    dataset = study.datasets[experiment.dataset]
    if not trains(dataset):
        refuse(
            f"{where}.dataset", f"{experiment.dataset} ({dataset.source}) has a test split only; name it in evaluate_on"
        )
    if train.validation_problems > dataset.validation:
        refuse(
            f"{where}.train.validation_problems",
            f"{train.validation_problems}, but datasets.{experiment.dataset}.validation is {dataset.validation}",
        )
    if dataset.train is not None and train.problems_per_iteration > dataset.train:
        refuse(
            f"{where}.train.problems_per_iteration",
            f"{train.problems_per_iteration}, but datasets.{experiment.dataset}.train is {dataset.train}",
        )
    _reaches(f"{where}.train.context_tokens", train.context_tokens, experiment.model, study)


def _reaches(where: str, tokens: int, name: str, study: Study) -> None:
    """UserError where a model trained here is shorter than a context."""
    model = study.models[name]
    if model.sft is not None and tokens > model.architecture.max_position_tokens:
        place = f"models.{name}.architecture.max_position_tokens"
        refuse(where, f"{tokens}, but {place} is {model.architecture.max_position_tokens}")
