"""Training settings that fit their types and still train nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from spo.config.layers import KeyPath, Mistake
from spo.config.resources import TrainJob
from spo.config.validate import known
from spo.settings import Chain, Credit, Group, Loss, Memory, Pairs, Train, Tree
from spo.types import Sampling

#: Partitions that cut at tokens less probable than `threshold`.
AT_CUTPOINTS = ("cutpoint_interval", "cutpoint_count")
#: Keys of `loss` that an objective reads.
READS = {
    "clipped": frozenset(Loss.__dataclass_fields__) - {"beta"},
    "policy_iteration": frozenset(
        ("objective", "beta", "whiten", "whiten_over", "probability_mask", "scope", "micro_batch_episodes")
    ),
    "nll": frozenset(),
    "preference": frozenset(),
}
#: Methods with an objective of their own, by `credit.kind`.
OWN_OBJECTIVE = {"accepted": "nll", "pairs": "preference"}

#: Lowest temperature of training: logits of hundreds, divided by less, leave float32.
COLDEST = 1e-6

Found = Iterator[Mistake]


def check_train(where: Callable[..., KeyPath], train: Train) -> Found:
    """Yield what cannot work in complete training settings; `where` gives the path of a key."""
    yield from check_credit(where("credit"), train.credit)
    if train.sampling.temperature < COLDEST:
        problem = f"{train.sampling.temperature:g}, but training takes the logarithm of what it samples. Take 0.6, say"
        yield Mistake(where("sampling", "temperature"), problem)
    if train.context_tokens < 2:
        yield Mistake(where("context_tokens"), f"{train.context_tokens}, but a prompt and a response take 2 or more")
    if train.stop_at is not None and train.stop_at > train.iterations:
        problem = f"{train.stop_at}, but the schedule ends after iterations: {train.iterations}"
        yield Mistake(where("stop_at"), problem)
    if isinstance(train.credit, Tree):
        before = train.credit.segment_tokens * (len(train.credit.branches) - 1)
        if before >= train.max_response_tokens:
            problem = (
                f"{len(train.credit.branches)} levels, but the last begins {before} tokens into the response, and "
                f"max_response_tokens is {train.max_response_tokens}. Take fewer levels or a smaller segment_tokens"
            )
            yield Mistake(where("credit", "branches"), problem)
    if train.loss.probability_mask == 0 and _objective(train) == "clipped":
        yield Mistake(where("loss", "probability_mask"), "0, but no probability is below 0, so that nothing is learnt")
    if train.memory.weights == "bfloat16" and train.dtype != "bfloat16":
        yield Mistake(where("memory", "weights"), f"bfloat16 needs `dtype: bfloat16`, which is {train.dtype}")
    yield from check_device(where("memory", "device"), train.backend, train.memory)
    samples = train.validation_samples
    yield from check_sampled(where("validation_samples"), samples, train.validation_sampling)


def check_device(at: KeyPath, backend: str, memory: Memory) -> Found:
    """Yield a mistake for a GPU that the backend does not use."""
    if backend == "engine" and memory.device == "cuda":
        yield Mistake(at, "cuda, but backend engine uses the processor. Take backend hf or vllm, or device auto")


def _objective(train: Train) -> str:
    return OWN_OBJECTIVE.get(train.credit.kind, train.loss.objective)


def check_credit(at: KeyPath, credit: Credit) -> Found:
    """Yield what cannot work in the settings of a method: names that do not exist, advantages that are 0 always."""
    from spo.credit.partition import PARTITIONS

    if isinstance(credit, Group | Pairs) and credit.samples_per_problem < 2:
        problem = (
            f"{credit.samples_per_problem}, but responses to a problem are compared with each other. Take 2 or more"
        )
        yield Mistake((*at, "samples_per_problem"), problem)
    if isinstance(credit, Tree) and max(credit.branches) < 2:
        yield Mistake((*at, "branches"), "no node has two children, so that every advantage is 0")
    if not isinstance(credit, Chain):
        return
    partition = credit.partition
    yield from known((*at, "partition", "name"), partition.name, PARTITIONS, "partition")
    threshold = (*at, "partition", "threshold")
    if credit.zero_confident and partition.threshold == 0:
        yield Mistake(threshold, "0, but zero_confident then gives every token advantage 0")
    one_segment = partition.name == "whole" or (partition.name in AT_CUTPOINTS and partition.threshold == 0)
    one_segment |= partition.name in ("cutpoint_count", "fixed_count") and partition.segments == 1
    if credit.first_segment == "zero" and one_segment:
        problem = f"zero, but partition {partition.name} makes one segment here, so that every advantage is 0"
        yield Mistake((*at, "first_segment"), problem)


def check_sampled(at: KeyPath, samples: int, sampling: Sampling) -> Found:
    """Yield a mistake for several samples that are all the same."""
    if samples > 1 and sampling.temperature == 0:
        yield Mistake(
            at, f"{samples}, but at temperature 0 all samples of a problem are the same. Take 1 or a temperature"
        )


def check_loss_keys(at: KeyPath, given: Any, train: Train) -> Found:
    """Yield keys of `loss` that a method itself sets (`given`) and its objective never reads."""
    usual, objective = asdict(Loss()), _objective(train)
    for key, value in given.items() if isinstance(given, Mapping) else ():
        if key not in READS[objective] and value != usual.get(key, value):
            problem = f"never read by kind {train.credit.kind} with objective {objective}. Remove this key"
            yield Mistake((*at, key), problem)


def check_processes(at: KeyPath, job: TrainJob) -> Found:
    """Yield a mistake for more processes than GPUs."""
    if 0 < job.gpus < job.processes:
        where = ".".join(map(str, at))
        yield Mistake((*at, "processes"), f"{job.processes}, but {where}.gpus is {job.gpus}, and each takes one")
