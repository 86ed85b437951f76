"""What a study amounts to: its training runs and its evaluations, each with complete settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from spo.config.layers import KeyPath, Mistake, Mistakes, merge
from spo.config.layers import Tree as Nested
from spo.config.study import Evaluation, Experiment, Run, Study
from spo.config.validate import repaired
from spo.settings import Dataset, Train

#: Name of the starting policy among the methods of a figure.
BASE = "base"


def runs(study: Study) -> dict[str, Run]:
    """Return every training run by its folder name; Mistakes where two experiments give a run different settings."""
    found: dict[str, tuple[str, Run]] = {}
    mistakes: dict[tuple[str, str], Mistake] = {}
    for key, experiment in study.experiments.items():
        for method in trained(study, experiment):
            stage = len(lineage(study, method, "start")) - 1
            train = dataclasses.replace(train_settings(study, method, key), stage=stage)
            for seed in experiment.seeds:
                name = run_name(experiment, method, seed)
                settings = dataclasses.replace(train, seed=seed)
                start = study.methods[method].start
                run = Run(
                    name=name,
                    model=experiment.model,
                    dataset=experiment.dataset,
                    method=method,
                    train=settings,
                    start=run_name(experiment, start, seed) if start is not None else None,
                )
                other, same = found.setdefault(name, (key, run))
                if same != run:
                    keys = ", ".join(_differences(dataclasses.asdict(same.train), dataclasses.asdict(run.train)))
                    problem = (
                        f"run {name} is also in experiments.{other}, with another {keys}. Give both the same settings, "
                        "or this one a method variant of its own"
                    )
                    mistakes.setdefault((key, method), Mistake(("experiments", key, "train"), problem))
    if mistakes:
        raise Mistakes(mistakes.values())
    return {name: run for name, (_, run) in found.items()}


def run_name(experiment: Experiment, method: str, seed: int) -> str:
    """Folder name of a run."""
    return f"{experiment.model}-{experiment.dataset}-{method}-s{seed}"


def trained(study: Study, experiment: Experiment) -> list[str]:
    """Methods of an experiment that have training runs: all but policies that others trained."""
    return [method for method in experiment.methods if study.methods[method].policy is None]


def policies(study: Study, experiment: Experiment, method: str) -> dict[str, int]:
    """Names of a method's policies with their seeds: its runs, or the one model that others trained, as of seed 0."""
    model = study.methods[method].policy
    if model is not None:
        return {model: 0}
    return {run_name(experiment, method, seed): seed for seed in experiment.seeds}


def evaluations(study: Study) -> dict[tuple[str, str, str], Evaluation]:
    """Every evaluation by (policy, dataset, protocol), with the contexts of all experiments that ask for it."""
    found: dict[tuple[str, str, str], set[int]] = {}
    for experiment in study.experiments.values():
        names = [name for method in experiment.methods for name in policies(study, experiment, method)]
        for policy in (experiment.model, *names):
            for dataset in test_sets(experiment):
                for protocol in experiment.protocols:
                    found.setdefault((policy, dataset, protocol), set()).update(experiment.contexts)
    return {
        key: Evaluation(policy=key[0], dataset=key[1], protocol=key[2], contexts=tuple(sorted(contexts)))
        for key, contexts in found.items()
    }


def test_sets(experiment: Experiment) -> tuple[str, ...]:
    """Datasets whose test sets an experiment reports."""
    return experiment.evaluate_on or (experiment.dataset,)


def asked(study: Study, dataset: str, model: str) -> Dataset:
    """Return a dataset as a model is asked it: in the model's chat template or with the prompt.

    The other template of the two is at its default, so that changing it repeats nothing.
    """
    found = study.datasets[dataset]
    unused = ("message", "prompt")[found.chat or study.models[model].chat]
    default = {field.name: field.default for field in dataclasses.fields(Dataset)}[unused]
    return dataclasses.replace(found, chat=unused == "prompt", **{unused: default})


def train_settings(study: Study, method: str, experiment: str | None = None) -> Train:
    """Settings of a method's runs: `training`, then the method and those it is based on, then the experiment.

    Mistakes names every wrong key in the uppermost of these layers that holds it.
    """
    train, mistakes, _ = repaired_train(study, method, experiment)
    if train is None or mistakes:
        raise Mistakes(mistakes)
    return train


def repaired_train(
    study: Study, method: str, experiment: str | None = None
) -> tuple[Train | None, list[Mistake], frozenset[KeyPath]]:
    """Return what `train_settings` does without its mistakes, the mistakes, and the keys of `Train` left out with them.

    None instead of settings where too little is left.
    """
    layers = train_layers(study, method, experiment)
    merged: Nested = {}
    for _, layer in layers:
        merged = merge(merged, layer)
    mistakes: list[Mistake] = []
    for key, source in (("seed", "experiments.*.seeds"), ("stage", "methods.*.start")):
        if key in merged:
            mistakes.append(Mistake((key,), f"{key}s come from {source}. Remove this key"))
            del merged[key]
    train, gone = None, frozenset()
    try:
        train, found, gone = repaired(Train, merged)
        mistakes += found
    except Mistakes as error:
        mistakes += error.found
    own = ("methods", method, "train")
    return train, [Mistake(holder(layers, path, own), problem) for path, problem in mistakes], gone


#: Parts of a run's training settings, lowest first: where each stands in the study, and what it says.
TrainLayers = list[tuple[KeyPath, Nested]]


def train_layers(study: Study, method: str, experiment: str | None = None) -> TrainLayers:
    """Return what `train_settings` lays over each other."""
    layers: TrainLayers = [(("training",), study.training)]
    layers += [(("methods", name, "train"), study.methods[name].train) for name in lineage(study, method)]
    if experiment is not None:
        part = study.experiments[experiment]
        layers.append((("experiments", experiment, "train"), part.train))
        layers.append((("experiments", experiment, "overrides", method), part.overrides.get(method, {})))
    return layers


def holder(layers: TrainLayers, path: KeyPath, otherwise: KeyPath) -> KeyPath:
    """Return the path in the study of a training setting: in the uppermost layer that holds it, or in `otherwise`."""
    return (*next((prefix for prefix, layer in reversed(layers) if _holds(layer, path)), otherwise), *path)


def lineage(study: Study, method: str, key: Literal["base", "start"] = "base") -> list[str]:
    """The methods that `method` is based on, or starts from, the first of them first, itself last; Mistakes for a
    circle."""
    names = [method]
    while (before := getattr(study.methods[names[0]], key)) is not None:
        if before in names:
            circle = " -> ".join([*reversed(names), before])
            raise Mistakes([Mistake(("methods", names[0], key), f"{circle} is a circle")])
        names.insert(0, before)
    return names


def _holds(layer: Mapping[str, Any], path: Sequence[str | int]) -> bool:
    here: Any = layer
    for part in path:
        if isinstance(here, list | tuple):
            return True  # a list is replaced whole, so whoever has it has its items
        if not isinstance(here, Mapping) or part not in here:
            return False
        here = here[part]
    return True


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> list[str]:
    keys = []
    for key in dict.fromkeys((*one, *other)):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys += _differences(a, b, f"{above}{key}.")
        elif a != b:
            keys.append(above + key)
    return keys
