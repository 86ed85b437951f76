"""What types cannot say: names that must exist elsewhere in the study or the code, numbers that must fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from spo.config import plan
from spo.config.check_pictures import check_audit, check_claim, check_pictures, check_trace
from spo.config.check_train import check_device, check_loss_keys, check_processes, check_sampled, check_train
from spo.config.layers import KeyPath, Mistake, Mistakes
from spo.config.study import Experiment, Method, Study
from spo.config.validate import known
from spo.errors import UserError
from spo.settings import Dataset, Model, Protocol, Train

Found = Iterator[Mistake]


def check(study: Study, gone: frozenset[KeyPath] = frozenset(), groups: frozenset[str] | None = None) -> list[Mistake]:
    """Return everything in `study` that cannot work.

    `gone` are paths whose settings were left out because they are mistakes themselves: what they name counts as known,
    and nothing is said about values at or below them. `groups` are the groups of the paper's numbers, None if unknown.
    """
    found = [mistake for mistake in _everything(study, gone, groups) if not covered(mistake.path, gone)]
    if not found and not gone:
        try:
            plan.runs(study)
        except Mistakes as error:
            found = list(error.found)
    return list(dict.fromkeys(found))


def trainable(study: Study) -> list[str]:
    """Return the methods that train and whose settings can be put together."""
    whole = (key for key in study.methods if _has_lineage(key, study) and not list(_lineages(key, study)))
    return [key for key in whole if study.methods[key].policy is None]


def covered(path: KeyPath, gone: frozenset[KeyPath]) -> bool:
    """Return True if a path is at or below one of those that were left out."""
    return any(path[: len(cut)] == cut for cut in gone)


def _everything(study: Study, gone: frozenset[KeyPath], groups: frozenset[str] | None) -> Found:
    names = _Names(study, gone)
    for key, dataset in study.datasets.items():
        yield from _dataset(key, dataset)
    for key, model in study.models.items():
        yield from _model(("models", key), model, study, names)
    for key, protocol in study.protocols.items():
        yield from _protocol(("protocols", key), protocol)
    for key, method in study.methods.items():
        yield from _method(("methods", key), method, study, names)
    for key in study.methods:
        if _has_lineage(key, study):
            yield from _lineages(key, study)
    trains = trainable(study)
    for key in trains:
        yield from _train(("methods", key, "train"), study, key, None)
    for key, experiment in study.experiments.items():
        yield from _experiment(("experiments", key), experiment, study, names)
        for method in experiment.methods:
            if method in trains:
                yield from _train(("experiments", key, "train"), study, method, key)
    for key, audit in study.audits.items():
        yield from check_audit(("audits", key), audit, study, names)
    for key, trace in study.traces.items():
        yield from check_trace(("traces", key), trace, study, names)
    for key, claim in study.claims.items():
        for place, evidence in enumerate(claim.parts):
            yield from check_claim(("claims", key, "parts", place), evidence, study, names)
    yield from check_pictures(study, names)
    for section in ("figures", "tables"):
        for key, picture in getattr(study, section).items():
            if picture.paper is not None and groups is not None:
                yield from known((section, key, "paper"), picture.paper, groups, "entry of config/paper_numbers.yaml")
    for rule in ("train", "train_with_critic"):
        yield from check_processes(("resources", rule), getattr(study.resources, rule))
    for key in study.style.colours:
        yield from known(("style", "colours", key), key, (*names("methods"), plan.BASE), "method")


class _Names:
    """Names in a section of the study, with those of entries that are mistakes themselves."""

    def __init__(self, study: Study, gone: Iterable[KeyPath]) -> None:
        self.study, self.gone = study, tuple(gone)

    def __call__(self, section: str) -> list[str]:
        left_out = sorted(str(path[1]) for path in self.gone if path[0] == section and len(path) == 2)
        return [*getattr(self.study, section), *left_out]


def _has_lineage(method: str, study: Study) -> bool:
    """Return whether every method that this one is based on, or starts from, exists; other checks name it."""
    seen, waiting = set(), [method]
    while waiting:
        each = waiting.pop()
        if each not in study.methods:
            return False
        if each not in seen:
            seen.add(each)
            waiting += [other for other in (study.methods[each].base, study.methods[each].start) if other is not None]
    return True


def _lineages(method: str, study: Study) -> Found:
    for key in ("base", "start"):
        try:
            plan.lineage(study, method, key)
        except Mistakes as error:
            yield from error.found


def _dataset(key: str, dataset: Dataset) -> Found:
    from spo.data import DATASETS, check_settings
    from spo.grading import GRADERS

    at = ("datasets", key)
    unknown = list(known((*at, "source"), dataset.source, DATASETS, "dataset source"))
    yield from unknown
    yield from known((*at, "grader"), dataset.grader, GRADERS, "grader")
    if "{question}" not in dataset.prompt:
        yield Mistake((*at, "prompt"), "should contain {question}, where the question goes")
    if "{question}" not in dataset.message:
        yield Mistake((*at, "message"), "should contain {question}, where the question goes")
    if not unknown:
        try:
            check_settings(key, dataset)
        except UserError as error:
            yield _named(at, str(error))


def _named(at: KeyPath, text: str) -> Mistake:
    """A line of another room, `datasets.x.options.steps: problem`, as a mistake."""
    place, _, problem = text.partition(": ")
    inner = place.removeprefix(".".join(map(str, at))).strip(".")
    words = inner.split(" ")[0]
    return Mistake((*at, *words.split(".")) if words else at, f"{inner[len(words) :]} {problem}".strip())


def _model(at: KeyPath, model: Model, study: Study, names: _Names) -> Found:
    if (model.sft is None) == (model.path is None):
        yield Mistake(at, "give either `sft`, to train it here, or `path`, a folder or hub id")
    if model.sft is None:
        return
    if model.chat:
        yield Mistake((*at, "chat"), "a model trained here has no chat template. Remove this key")
    if model.parameters is not None:
        yield Mistake((*at, "parameters"), "only for `path`. `architecture` gives the size of a model trained here")
    yield from known((*at, "sft", "dataset"), model.sft.dataset, names("datasets"), "dataset")
    dataset = study.datasets.get(model.sft.dataset)
    if dataset is not None and dataset.demonstrations == 0:
        where = ".".join(map(str, at))
        yield Mistake(("datasets", model.sft.dataset, "demonstrations"), f"0, but {where}.sft learns from them")
    if model.tokenizer.special_tokens and model.tokenizer.kind != "bpe":
        yield Mistake((*at, "tokenizer", "special_tokens"), f"only for kind bpe, not {model.tokenizer.kind}")
    least = 258 + len(model.tokenizer.special_tokens)
    if model.tokenizer.kind == "bpe" and model.tokenizer.vocabulary_size < least:
        problem = f"{model.tokenizer.vocabulary_size}, but byte-level BPE needs at least {least}"
        yield Mistake((*at, "tokenizer", "vocabulary_size"), problem)
    shape = model.architecture
    if shape.hidden_size % (2 * shape.heads):
        problem = f"{shape.heads}, but hidden_size {shape.hidden_size} should be an even multiple of it"
        yield Mistake((*at, "architecture", "heads"), problem)
    if shape.heads % shape.kv_heads:
        yield Mistake(
            (*at, "architecture", "kv_heads"), f"{shape.kv_heads}, but heads {shape.heads} is no multiple of it"
        )


def _chat(at: KeyPath, dataset: str, model: str, study: Study) -> Found:
    """A model without a chat template that is to be asked in one; only local folders are looked at."""
    from spo.policy.chat import has_template

    if dataset not in study.datasets or model not in study.models or not plan.asked(study, dataset, model).chat:
        return
    path = study.models[model].path
    if path is None:
        yield Mistake(at, f"datasets.{dataset}.chat, but models.{model} is trained here and has no chat template")
    elif Path(path).is_dir() and not has_template(Path(path)):
        yield Mistake(at, f"{dataset} is asked in a chat template, but models.{model}.path, {path}, has none")


def _protocol(at: KeyPath, protocol: Protocol) -> Found:
    yield from check_backend((*at, "backend"), protocol.backend)
    yield from check_sampled((*at, "samples_per_problem"), protocol.samples_per_problem, protocol.sampling)
    yield from check_device((*at, "memory", "device"), protocol.backend, protocol.memory)


def check_backend(at: KeyPath, backend: str) -> Found:
    """Yield a mistake for a backend that does not exist."""
    from spo.policy import BACKENDS

    yield from known(at, backend, BACKENDS, "backend")


def _method(at: KeyPath, method: Method, study: Study, names: _Names) -> Found:
    if method.policy is not None:
        yield from known((*at, "policy"), method.policy, names("models"), "model")
        for key in ("base", "train", "start"):
            if getattr(method, key):
                problem = "`policy` is evaluated as it is and never trained. Remove one of the two"
                yield Mistake((*at, key), problem)
    for key in ("base", "start"):
        if (other := getattr(method, key)) is not None:
            yield from known((*at, key), other, names("methods"), "method")
            if other in study.methods and study.methods[other].policy is not None:
                yield Mistake((*at, key), f"{other} is a `policy` that others trained. Name a method that trains")


def _train(at: KeyPath, study: Study, method: str, experiment: str | None) -> Found:
    """Mistakes of a method's complete settings, in an experiment or by themselves."""
    train, mistakes, gone = plan.repaired_train(study, method, experiment)
    yield from mistakes
    if train is None:
        return
    where = _Finder(at, study, method, experiment)
    found = [*check_backend(where("backend"), train.backend), *check_train(where, train)]
    if experiment is None:
        found += check_loss_keys((*at, "loss"), study.methods[method].train.get("loss"), train)
    else:
        found += _fits(where, train, study.experiments[experiment], study)
    hidden = [where(*path) for path in gone]
    yield from (mistake for mistake in found if mistake.path not in hidden)


class _Finder:
    """Key of a training setting -> its path in the uppermost layer that holds it, by default in the layer `at`."""

    def __init__(self, at: KeyPath, study: Study, method: str, experiment: str | None) -> None:
        self.at, self.layers = at, plan.train_layers(study, method, experiment)

    def __call__(self, *key: str | int) -> KeyPath:
        return plan.holder(self.layers, key, self.at)


def _experiment(at: KeyPath, experiment: Experiment, study: Study, names: _Names) -> Found:
    yield from known((*at, "model"), experiment.model, names("models"), "model")
    yield from known((*at, "dataset"), experiment.dataset, names("datasets"), "dataset")
    for place, dataset in enumerate(experiment.evaluate_on):
        yield from known((*at, "evaluate_on", place), dataset, names("datasets"), "dataset")
    for place, method in enumerate(experiment.methods):
        yield from known((*at, "methods", place), method, names("methods"), "method")
        start = study.methods[method].start if method in study.methods else None
        if start is not None and start not in experiment.methods:
            yield Mistake((*at, "methods"), f"{method} starts from {start}, which is not among them. Add it")
    of_this = "method of this experiment"
    for method in experiment.overrides:
        yield from known((*at, "overrides", method), method, experiment.methods, of_this)
        if method in study.methods and study.methods[method].policy is not None:
            problem = "it is a `policy` that others trained. Remove these settings"
            yield Mistake((*at, "overrides", method), problem)
    for place, pair in enumerate(experiment.pairs):
        for method in pair:
            yield from known((*at, "pairs", place), method, experiment.methods, of_this)
    for place, protocol in enumerate(experiment.protocols):
        yield from known((*at, "protocols", place), protocol, names("protocols"), "protocol")
    for key in ("methods", "seeds", "contexts", "protocols", "evaluate_on"):
        values = getattr(experiment, key)
        if len(set(values)) < len(values):
            yield Mistake((*at, key), "names something twice")
    if list(experiment.contexts) != sorted(experiment.contexts):
        yield Mistake((*at, "contexts"), "should ascend")
    policies = [study.methods[method].policy for method in experiment.methods if method in study.methods]
    for policy in dict.fromkeys((experiment.model, *(policy for policy in policies if policy is not None))):
        yield from _reaches((*at, "contexts"), max(experiment.contexts), policy, study)
    for dataset in dict.fromkeys((experiment.dataset, *plan.test_sets(experiment))):
        yield from _chat((*at, "model"), dataset, experiment.model, study)
    for place, method in enumerate(experiment.methods):
        policy = study.methods[method].policy if method in study.methods else None
        for dataset in plan.test_sets(experiment) if policy is not None else ():
            yield from _chat((*at, "methods", place), dataset, policy, study)
    if experiment.paper_contexts and len(experiment.paper_contexts) != len(experiment.contexts):
        problem = f"should have as many entries as contexts, {len(experiment.contexts)}"
        yield Mistake((*at, "paper_contexts"), problem)


def _fits(where: _Finder, train: Train, experiment: Experiment, study: Study) -> Found:
    """Numbers of an experiment's training that must fit its dataset and model."""
    from spo.data import DATASETS, trains

    dataset = study.datasets.get(experiment.dataset)
    if dataset is not None and dataset.source in DATASETS and not trains(dataset):
        problem = f"{experiment.dataset} ({dataset.source}) has a test split only. Name it in evaluate_on"
        yield Mistake((*where.at[:2], "dataset"), problem)
    for key, split in (("validation_problems", "validation"), ("problems_per_iteration", "train")):
        there = getattr(dataset, split, None)
        if there is not None and getattr(train, key) > there:
            problem = f"{getattr(train, key)}, but datasets.{experiment.dataset}.{split} is {there}"
            yield Mistake(where(key), problem)
    yield from _reaches(where("context_tokens"), train.context_tokens, experiment.model, study)


def _reaches(at: KeyPath, tokens: int, name: str, study: Study) -> Found:
    """A model trained here that is shorter than a context."""
    model = study.models.get(name)
    if model is not None and model.sft is not None and tokens > model.architecture.max_position_tokens:
        place = f"models.{name}.architecture.max_position_tokens"
        yield Mistake(at, f"{tokens}, but {place} is {model.architecture.max_position_tokens}")
