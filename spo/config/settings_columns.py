"""Columns of the table of hyper-parameters (the paper's appendix H), read from the resolved settings of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spo.analysis.slices import SettingsColumn
from spo.config import plan
from spo.config.study import Experiment, Study, Table
from spo.config.validate import plain_text
from spo.settings import Accepted, Pairs, Train

#: Heading of a row -> where its value stands in the settings of training, in the order of the table. `None` there means
#: that `_rows` works it out.
ROWS: Mapping[str, str | None] = {
    "learning rate": "optimizer.lr",
    "learning rate of Muon": "optimizer.muon_lr",
    "schedule": "optimizer.schedule",
    "warm-up, share of steps": "optimizer.warmup_share",
    "gradient norm, at most": "optimizer.max_grad_norm",
    "iterations": "iterations",
    "stopped after": "stop_at",
    "problems per iteration": "problems_per_iteration",
    "responses per problem": "credit.samples_per_problem",
    "episodes per iteration": None,
    "batch, episodes": "batch_episodes",
    "micro-batch, episodes": "loss.micro_batch_episodes",
    "epochs per iteration": "epochs",
    "temperature": "sampling.temperature",
    "top-p": "sampling.top_p",
    "context, tokens": "context_tokens",
    "response, at most tokens": "max_response_tokens",
    "objective": "loss.objective",
    "clip range": "loss.clip_range",
    "KL coefficient": "loss.kl_coefficient",
    "mask threshold": "loss.probability_mask",
    "whitened advantages": "loss.whiten",
    "normalised over": "loss.scope",
    "beta of policy iteration": "loss.beta",
    "partition": "credit.partition.name",
    "interval, cutpoints per segment": "credit.partition.interval",
    "segments per response": "credit.partition.segments",
    "tokens per segment": "credit.partition.tokens",
    "cutpoint threshold": "credit.partition.threshold",
    "MC samples": "credit.rollouts_per_cut",
    "tree": "credit.branches",
    "tokens per level M": "credit.segment_tokens",
    "replay, iterations": "credit.replay.max_age_iterations",
    "replay, episodes per problem": "credit.replay.max_per_problem",
    "baseline": "credit.baseline",
    "divided by std": "credit.divide_by_std",
    "discount gamma": "credit.gamma",
    "lambda of GAE": "credit.lam",
    "value clip range": "credit.value_clip_range",
    "correct responses learnt per problem": "credit.keep_per_problem",
    "temperature of the likelihood": "credit.temperature",
    "pairs per problem": "credit.pairs_per_problem",
    "beta of preferences": "credit.beta",
    "penalty": "credit.penalty",
    "evaluation contexts, tokens": None,
    "evaluation temperature": None,
    "evaluation top-p": None,
    "evaluation samples per problem": None,
}
#: Keys of a partition -> partitions that read it.
_OF_PARTITIONS = {
    "credit.partition.interval": ("cutpoint_interval",),
    "credit.partition.segments": ("cutpoint_count", "fixed_count"),
    "credit.partition.tokens": ("fixed_tokens",),
    "credit.partition.threshold": ("cutpoint_interval", "cutpoint_count"),
}


def settings_columns(study: Study, table: Table) -> tuple[SettingsColumn, ...]:
    """Return a column for each method of the table, with one text per row of `ROWS`; settings not used are empty."""
    columns = shown_methods(study, table)
    several = len({experiment for experiment, _ in columns}) > 1
    return tuple(_column(study, key, method, several) for key, method in columns)


def shown_methods(study: Study, table: Table) -> list[tuple[str, str]]:
    """Return (experiment, method) of each column: those that `columns` names, or the trained ones of `experiment`."""
    if table.columns:
        return [(key, method) for key, methods in table.columns.items() for method in methods]
    experiment = study.experiments[table.experiment]
    return [(table.experiment, method) for method in table.methods or plan.trained(study, experiment)]


def _column(study: Study, key: str, method: str, several: bool) -> SettingsColumn:
    experiment, train = study.experiments[key], plan.train_settings(study, method, key)
    label = study.methods[method].label
    where = f", {experiment.title or key}" if several else ""
    found = _worked_out(study, experiment, train)
    texts = {row: found[row] if path is None else _text(train, path) for row, path in ROWS.items()}
    return SettingsColumn(method=method, experiment=key, label=label + where, texts=tuple(texts.items()))


def _worked_out(study: Study, experiment: Experiment, train: Train) -> dict[str, str]:
    protocol = study.protocols[experiment.protocols[0]]
    return {
        "episodes per iteration": _episodes(train),
        "evaluation contexts, tokens": ", ".join(map(str, experiment.contexts)),
        "evaluation temperature": plain_text(protocol.sampling.temperature),
        "evaluation top-p": plain_text(protocol.sampling.top_p),
        "evaluation samples per problem": str(protocol.samples_per_problem),
    }


def _episodes(train: Train) -> str:
    """Return the episodes of an iteration; empty where they depend on what is correct."""
    if isinstance(train.credit, Accepted | Pairs):
        return ""
    own = getattr(train.credit, "episodes_per_iteration", None)
    return str(own or train.problems_per_iteration * train.credit.samples_per_problem)


def _text(train: Train, path: str) -> str:
    """Return the setting at a dotted key as text; empty where the method has no such key or does not use it."""
    if not _used(train, path):
        return ""
    value: Any = train
    for part in path.split("."):
        value = getattr(value, part, None)
    if path == "loss.probability_mask" and value is None:
        return "off"
    if path == "credit.branches":
        return "" if value is None else "-".join(map(str, value))
    return "" if value is None else plain_text(value).strip('"')


def _used(train: Train, path: str) -> bool:
    """Return whether a run depends on the setting at a dotted key that it has."""
    if path in _OF_PARTITIONS:
        partition = getattr(train.credit, "partition", None)
        return partition is not None and partition.name in _OF_PARTITIONS[path]
    if path.startswith("loss."):
        if isinstance(train.credit, Accepted | Pairs):
            return False
        iterated = train.loss.objective == "policy_iteration"
        clipped_only = path in ("loss.clip_range", "loss.kl_coefficient")
        return not iterated if clipped_only else iterated if path == "loss.beta" else True
    return True
