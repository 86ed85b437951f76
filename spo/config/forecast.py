"""A study's runs and evaluations with what each is estimated to cost: what `plan` prints, and the order of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spo.config import cost, plan
from spo.config.cost import Lengths, Tokens
from spo.config.layers import Mistake, Mistakes
from spo.config.study import Run, Study
from spo.settings import Memory

#: Seconds of a unit of time.
SECONDS = {"CPU minutes": 60.0, "GPU hours": 3600.0}
#: Problems of a test set whose size the config does not say.
TEST_PROBLEMS = 1000


class Cost(NamedTuple):
    """What one job is estimated to take: tokens, time in the unit of `rates`, bytes of memory for what it keeps of its
    models, bytes that stay on disk."""

    tokens: Tokens
    time: float
    memory_bytes: float
    disk_bytes: float


def forecast(study: Study) -> str:
    """Runs, evaluations, tokens, time, memory and disk of each experiment and in all. What experiments share is counted
    once, where it comes first.

    UserError where a model's size is needed and not known.
    """
    rates = study.rates
    lines = [f"study {study.study}: {len(plan.runs(study))} training runs, {len(plan.evaluations(study))} evaluations"]
    lines += [
        "",
        f"  {'':34}{'runs':>6}{'evaluations':>13}{'M sampled':>11}{'M trained':>11}{'GB memory':>11}{rates.unit:>13}"
        f"{'GB disk':>9}",
    ]
    parts = {"starting policies": _models(study)} | _experiments(study)
    for name, (runs, evaluations) in parts.items():
        if runs or evaluations:
            lines.append(_line(name, runs, evaluations))
    lines += [_line("in all", *([cost for part in parts.values() for cost in part[which]] for which in (0, 1))), ""]
    assumed = [name for name in study.datasets if name not in rates.datasets]
    lines.append(
        "These are estimates, not measurements: tokens as the config asks for them with responses of mean length,"
    )
    lines.append(f"times rates. Rates: {rates.source}.")
    if assumed:
        lines.append(f"Lengths of {', '.join(assumed)} are guesses (rates.datasets).")
    lines.append(
        "Memory: weights that the largest job keeps, and gradients and moments where it trains; the rest comes on top."
    )
    lines.append(
        "Experiments share runs and evaluations, which are counted where they come first; audits and traces are not."
    )
    return "\n".join(lines)


def shortest_first(study: Study) -> list[str]:
    """Names of runs by about how long it takes until they and those that start from them are done; Snakemake starts the
    last ones first."""
    named = plan.runs(study)
    costs = dict.fromkeys(named, 0.0)
    for run in named.values():
        before: Run | None = run
        while before is not None:
            costs[before.name] += _seconds(study, run)
            before = named.get(before.start or "")
    return sorted(named, key=lambda name: (costs[name], name))


def _seconds(study: Study, run: Run) -> float:
    """About what a run takes; a model of unknown size counts as that of the rates."""
    tokens = cost.run_tokens(run.train, _lengths(study, run.dataset), study.rates)
    size = cost.parameters(study.models[run.model]) or study.rates.parameters
    return cost.seconds(tokens, size, study.rates) + run.train.last_iteration * study.rates.iteration_s


def _experiments(study: Study) -> dict[str, tuple[list[Cost], list[Cost]]]:
    runs, evaluations = plan.runs(study), plan.evaluations(study)
    seen: set[object] = set()
    parts = {}
    for key, experiment in study.experiments.items():
        names = [name for method in experiment.methods for name in plan.policies(study, experiment, method)]
        own = [runs[name] for name in names if name in runs and name not in seen]
        policies = {experiment.model, *names}
        asked = [
            each for place, each in evaluations.items()
            if each.policy in policies and each.dataset in plan.test_sets(experiment)
            and each.protocol in experiment.protocols and place not in seen
        ]  # fmt: skip
        seen |= {run.name for run in own} | {(each.policy, each.dataset, each.protocol) for each in asked}
        tested = [_evaluation(study, runs, each) for each in asked]
        parts[key] = [_run(study, run) for run in own], tested
    return parts


def _models(study: Study) -> tuple[list[Cost], list[Cost]]:
    """Starting policies that are trained here and used."""
    used = {key[0] for key in plan.evaluations(study)}
    costs = []
    for name, model in study.models.items():
        if model.sft is not None and name in used:
            lengths = _lengths(study, model.sft.dataset)
            longest = model.architecture.max_position_tokens - lengths.prompt_tokens
            whole = lengths.prompt_tokens + (lengths.response_tokens or longest / 2)
            tokens = Tokens(0.0, trained=model.sft.steps * model.sft.batch_examples * whole)
            kept = cost.trained_bytes(Memory())
            costs.append(_cost(study, tokens, name, "sft", cost.MODEL_BYTES + cost.STATE_BYTES, kept))
    return costs, []


def _run(study: Study, run: Run) -> Cost:
    tokens = cost.run_tokens(run.train, _lengths(study, run.dataset), study.rates)
    rule, models = ("train_with_critic", 2) if run.train.credit.kind == "critic" else ("train", 1)
    fixed = run.train.last_iteration * study.rates.iteration_s
    kept = models * cost.trained_bytes(run.train.memory)
    return _cost(study, tokens, run.model, rule, models * (cost.MODEL_BYTES + cost.STATE_BYTES), kept, fixed)


def _evaluation(study: Study, runs: dict[str, Run], asked) -> Cost:
    model = runs[asked.policy].model if asked.policy in runs else asked.policy
    lengths, dataset = _lengths(study, asked.dataset), study.datasets[asked.dataset]
    problems = dataset.test or lengths.test_problems or TEST_PROBLEMS
    protocol = study.protocols[asked.protocol]
    tokens = cost.evaluation_tokens(protocol, max(asked.contexts), problems, lengths)
    made = _cost(study, tokens, model, "generate", 0, 2 if protocol.dtype == "bfloat16" else 4)
    return made._replace(disk_bytes=tokens.sampled * cost.TOKEN_BYTES * (1 + len(asked.contexts)))


def _cost(
    study: Study, tokens: Tokens, model: str, rule: str, disk_bytes: float, memory_bytes: float, fixed_s: float = 0
) -> Cost:
    """`disk_bytes` and `memory_bytes` are those of a parameter."""
    size = cost.parameters(study.models[model])
    if size is None:
        problem = "missing; an estimate needs the number of parameters, such as 1.1e9"
        raise Mistakes([Mistake(("models", model, "parameters"), problem)])
    job = getattr(study.resources, rule)
    processes = getattr(job, "processes", 1)
    units = job.gpus if study.rates.unit == "GPU hours" else processes
    time = (cost.seconds(tokens, size, study.rates) / processes + fixed_s) * units / SECONDS[study.rates.unit]
    return Cost(tokens, time, memory_bytes * size, disk_bytes * size)


def _lengths(study: Study, dataset: str) -> Lengths:
    return study.rates.datasets.get(dataset, Lengths())


def _line(name: str, runs: Sequence[Cost], evaluations: Sequence[Cost]) -> str:
    every = [*runs, *evaluations]
    sampled = sum(each.tokens.sampled for each in every) / 1e6
    trained = sum(each.tokens.trained for each in every) / 1e6
    time, disk = sum(each.time for each in every), sum(each.disk_bytes for each in every) / 1e9
    memory = max((each.memory_bytes for each in every), default=0.0) / 1e9
    numbers = f"{sampled:>11,.1f}{trained:>11,.1f}{memory:>11,.1f}{time:>13,.1f}{disk:>9,.1f}"
    return f"  {name:34}{len(runs):>6}{len(evaluations):>13}{numbers}"
