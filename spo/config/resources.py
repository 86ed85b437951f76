"""What the jobs of each rule ask of a machine or a cluster. A change repeats nothing, and changes a result by rounding
at most."""

from __future__ import annotations

from spo.settings import Count, Positive, settings


@settings
class Job:
    """One job of a rule, at its largest."""

    mem_mb: Positive
    """Megabytes of main memory. On a cluster a job that takes more is ended."""
    runtime_min: Positive
    """Minutes after which a cluster ends the job; training and generation then go on from what they saved."""
    gpus: Count = 0
    """GPUs that the job has to itself; 0: it sees none. More than the machine has: one line, exit code 2."""


@settings
class TrainJob:
    """One training run, at its largest."""

    mem_mb: Positive
    """Megabytes of main memory, of all its processes together. On a cluster a job that takes more is ended."""
    runtime_min: Positive
    """Minutes after which a cluster ends the job; it then goes on from what it saved."""
    gpus: Count = 0
    """GPUs that the job has to itself; 0: it sees none. More than the machine has: one line, exit code 2."""
    processes: Positive = 1
    """Processes that share the run, each on a GPU of its own where it has any, so that `gpus` are at least as many.
    They divide samples, scores, micro-batches and the state of the optimizer; each has the whole model. Results are
    those of one process but for rounding, and either goes on from the other's checkpoint."""


@settings
class Resources:
    """What to ask for by rule; the numbers are for the laptop study, whose largest job took 2.1 GB."""

    prepare: Job = Job(mem_mb=1000, runtime_min=30)
    """Datasets."""
    sft: Job = Job(mem_mb=3000, runtime_min=120)
    """Starting policies trained from nothing."""
    train: TrainJob = TrainJob(mem_mb=3000, runtime_min=240)
    """RL runs: weights, those of the starting policy, gradients and two moments, each 4 bytes a parameter."""
    train_with_critic: TrainJob = TrainJob(mem_mb=3000, runtime_min=240)
    """RL runs of methods with a critic (`kind: critic`), a second network of the same size."""
    generate: Job = Job(mem_mb=3000, runtime_min=60)
    """Predictions on test sets."""
    grade: Job = Job(mem_mb=2000, runtime_min=60)
    """Verdicts on predictions."""
    score: Job = Job(mem_mb=500, runtime_min=10)
    """Accuracies."""
    audit: Job = Job(mem_mb=3000, runtime_min=120)
    """Measurements of how wrong advantages are."""
    trace: Job = Job(mem_mb=3000, runtime_min=60)
    """Trajectories to look at."""
    trajectories: Job = Job(mem_mb=1000, runtime_min=10)
    """The page of trajectories."""
    figure: Job = Job(mem_mb=1000, runtime_min=10)
    """Figures."""
    table: Job = Job(mem_mb=1000, runtime_min=10)
    """Tables."""
    report: Job = Job(mem_mb=1000, runtime_min=10)
    """The report."""
