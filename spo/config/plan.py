"""What a study amounts to: its training runs and its evaluations, each with complete settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from spo.config.layers import Tree as Nested
from spo.config.layers import merge
from spo.config.study import Evaluation, Experiment, Run, Study
from spo.config.validate import Path, dotted, validate
from spo.errors import UserError
from spo.settings import Dataset, Train

#: Name of the starting policy among the methods of a figure.
BASE = "base"


def runs(study: Study) -> dict[str, Run]:
    """Every training run by its folder name; UserError when two experiments give the same run different settings."""
    found: dict[str, tuple[str, Run]] = {}
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
                    raise UserError(
                        f"config: experiments.{key}.train: run {name} is also in experiments.{other}, with another "
                        f"{keys}; give both the same settings, or this one a method variant of its own"
                    )
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

    UserError names the layer that a wrong key stands in.
    """
    layers = [("training", study.training)]
    layers += [(f"methods.{name}.train", study.methods[name].train) for name in lineage(study, method)]
    if experiment is not None:
        part = study.experiments[experiment]
        layers.append((f"experiments.{experiment}.train", part.train))
        layers.append((f"experiments.{experiment}.overrides.{method}", part.overrides.get(method, {})))
    merged: Nested = {}
    for _, layer in layers:
        merged = merge(merged, layer)

    def where(path: Path) -> str:
        holders = [prefix for prefix, layer in layers if _holds(layer, path)]
        return f"{(holders or [f'methods.{method}.train'])[-1]}.{dotted(path)}"

    for key, source in (("seed", "experiments.*.seeds"), ("stage", "methods.*.start")):
        if key in merged:
            raise UserError(f"config: {where((key,))}: {key}s come from {source}; remove this key")
    return validate(Train, merged, where)


def lineage(study: Study, method: str, key: Literal["base", "start"] = "base") -> list[str]:
    """The methods that `method` is based on, or starts from, the first of them first, itself last; UserError for a
    circle."""
    names = [method]
    while (before := getattr(study.methods[names[0]], key)) is not None:
        if before in names:
            raise UserError(f"config: methods.{names[0]}.{key}: {' -> '.join([*reversed(names), before])} is a circle")
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
