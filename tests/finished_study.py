"""A results folder as a finished study leaves it, filled with numbers drawn from known accuracies."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from spo.analysis.slices import Arm, PaperNumber, Run, Study

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
LABELS = {
    "grpo": "GRPO",
    "spo_chain": "SPO-chain",
    "spo_tree": "SPO-tree",
    "ppo": "PPO",
    "vineppo": "VinePPO",
    "rloo": "RLOO",
    "restem": "RestEM",
    "dpo_positive": "DPO+",
}
ABLATIONS = {
    "grpo.mask": "GRPO + mask",
    "spo_chain.no_mask": "SPO-chain without mask",
    "spo_chain.int100": "SPO-chain, interval 100",
    "spo_chain.lines": "SPO-chain, lines",
    "spo_chain.fixed_count": "SPO-chain, equal lengths",
    "spo_tree.std": "SPO-tree divided by std",
}
FINAL = {
    "grpo": 0.52,
    "spo_chain": 0.66,
    "spo_tree": 0.63,
    "ppo": 0.55,
    "vineppo": 0.64,
    "rloo": 0.51,
    "restem": 0.44,
    "dpo_positive": 0.47,
    "grpo.mask": 0.58,
    "spo_chain.no_mask": 0.64,
    "spo_chain.int100": 0.56,
    "spo_chain.lines": 0.63,
    "spo_chain.fixed_count": 0.61,
    "spo_tree.std": 0.62,
}
#: States whose value is estimated by rollouts, a response, at the start of training; the others estimate none.
STATES = {
    "spo_chain": 2.9,
    "spo_tree": 0.33,
    "vineppo": 4.4,
    "spo_chain.no_mask": 2.9,
    "spo_chain.int100": 1.0,
    "spo_chain.lines": 4.4,
    "spo_chain.fixed_count": 3.0,
    "spo_tree.std": 0.33,
}
PAPER = {
    "base": 40.3,
    "restem": 42.8,
    "rloo": 44.5,
    "grpo": 44.6,
    "dpo_positive": 46.4,
    "ppo": 50.1,
    "vineppo": 53.4,
    "spo_tree": 56.4,
    "spo_chain": 56.7,
}


def make_study(methods: tuple[str, ...] = ("grpo", "spo_chain", "spo_tree"), seeds: int = 3, **changes) -> Study:
    arms = tuple(
        Arm(
            method=method,
            label=(LABELS | ABLATIONS)[method],
            colour=colour,
            runs=tuple(Run(run=f"pupil-stories-{method}-s{seed}", seed=seed) for seed in range(1, seeds + 1)),
        )
        for method, colour in zip(methods, itertools.cycle(COLOURS), strict=False)
    )
    base = Arm(method="base", label="SFT base", colour="#999999", runs=(Run(run="pupil"),))
    known = {"name": "short_cot", "title": "short chain of thought", "dataset": "stories", "protocol": "greedy"}
    return Study(**{**known, "contexts": (128, 256), "base": base, "arms": arms, **changes})


def paper_numbers(where: str = "Fig. 3a") -> tuple[PaperNumber, ...]:
    return tuple(PaperNumber(method=method, value=value, where=where) for method, value in PAPER.items())


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_evaluation(folder: Path, study: Study, run: str, correct: dict[int, np.ndarray]) -> None:
    """graded.jsonl and score.json of one run; `correct[context]` (P) is 1 where the answer is right."""
    rows, contexts = [], {}
    for context, verdicts in correct.items():
        for index, right in enumerate(verdicts):
            verdict = {"correct": bool(right), "extracted": "7", "reason": "equal" if right else "differs"}
            text = f"3 + 4 = 7 .\nanswer {7 if right else 8}"
            size = {"finished": context > 128 or index % 2 == 0, "response_tokens": 60, "response": text}
            rows.append({"problem_id": f"p{index:03d}", "sample": 0, "context": context, **verdict, **size})
        accuracy, n = float(np.mean(verdicts)), len(verdicts)
        truncated = 0.5 if context == 128 else 0.0
        share = {"accuracy": accuracy, "correct": int(np.sum(verdicts)), "n": n, "low": accuracy, "high": accuracy}
        contexts[str(context)] = {**share, "truncated": truncated, "response_tokens_mean": 60.0}
    place = folder / "evals" / run / study.dataset / study.protocol
    write_jsonl(place / "graded.jsonl", rows)
    head = {"run": run, "dataset": study.dataset, "protocol": study.protocol, "grader": "number", "grader_version": "1"}
    (place / "score.json").write_text(
        json.dumps({**head, "problems": n, "samples_per_problem": 1, "contexts": contexts}), encoding="utf-8"
    )


def write_run(folder: Path, run: Run, method: str, tokens: int, seconds: float, iterations: int) -> None:
    """metrics.jsonl and timing.jsonl of one run whose validation accuracy climbs from 0.32 towards the method's own."""
    generator = np.random.default_rng([run.seed, *method.encode()])
    drift, start = np.cumsum(generator.normal(0, 0.004, iterations + 1)), 0.32
    metrics, timing = [], []
    for iteration in range(iterations + 1):
        row = {"iteration": iteration}
        done = 1 - np.exp(-4 * iteration / iterations)
        reached = start + (FINAL[method] - start) * done
        if iteration:
            row |= sampled(generator, STATES.get(method, 0.0), reached + 0.2 * done, done) | {"sampled_tokens": tokens}
        if iteration % 5 == 0:
            noise = drift[iteration] + generator.normal(0, 0.012) if iteration else 0.0
            accuracy = float(np.clip(reached + noise, 0, 1))
            row |= {"validation_accuracy": accuracy, "validation_truncated": 0.0, "validation_n": 300}
        metrics.append(row | {"sampled_tokens_total": iteration * tokens})
        share = generator.normal(0.7, 0.03)
        phases = {"sample": seconds * share, "score": 0.1 * seconds, "train": (0.9 - share) * seconds}
        part = phases if iteration else {"validate": 1.5}
        timing.append({"iteration": iteration, "seconds": part, "seconds_total": iteration * seconds})
    write_jsonl(folder / "runs" / run.run / "metrics.jsonl", metrics)
    write_jsonl(folder / "runs" / run.run / "timing.jsonl", timing)


def sampled(generator: np.random.Generator, states: float, accuracy: float, done: float) -> dict[str, float]:
    """Metrics of 32 responses, four a problem; `done` is how far training is, from 0 to 1."""
    correct = generator.binomial(32, min(accuracy, 1.0)) / 32
    points = round(32 * states * (1 - 0.3 * done) + states * generator.normal(0, 1.5))
    return {
        "problems": 8,
        "trajectories": 32,
        "reward": correct,
        "accuracy": correct,
        "response_tokens": 110.0,
        "truncated": 0.0,
        "distinct_responses": float(np.clip(0.95 - 0.5 * done + generator.normal(0, 0.05), 0.25, 1)),
        "mc_points": points,
        "loss": 0.01,
    }


def fill(root: Path, study: Study, problems: int = 500, iterations: int = 60) -> None:
    """Write everything that `study` reads under `root`."""
    generator = np.random.default_rng(7)
    ease = generator.normal(0, 1.5, problems)
    everyone = [(study.base, 0.32), *((arm, FINAL[arm.method]) for arm in study.arms)]
    for arm, accuracy in everyone:
        for run in arm.runs:
            level = np.log(accuracy / (1 - accuracy)) * 1.4 + generator.normal(0, 0.12)
            verdicts = {
                context: generator.random(problems) < 1 / (1 + np.exp(-(ease + level - (1.2 if context == 128 else 0))))
                for context in study.contexts
            }
            write_evaluation(root, study, run.run, verdicts)
            if arm.method == "base":
                continue
            cost = 1.0 + 0.6 * STATES.get(arm.method, 0.0)
            write_run(root, run, arm.method, int(9000 * cost), cost * generator.uniform(2.9, 3.3), iterations)
    texts = [(f"p{i:03d}", f"Ana has 3 pens and gets {i} more . How many has she ?") for i in range(problems)]
    questions = [{"id": name, "question": text, "answer": "7"} for name, text in texts]
    write_jsonl(root / "data" / study.dataset / "test.jsonl", questions)
    shown = {"id": "d1", "question": "Bo has 2 apples and eats 1.", "response": "2 - 1 = 1 .\nanswer 1"}
    write_jsonl(root / "data" / study.dataset / "demonstrations.jsonl", [shown])
    for rule, seconds in (("train", 210.5), ("generate", 4.25)):
        path = root / "benchmarks" / rule / "pupil-stories-grpo-s1.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
        path.write_text(f"{head}\n{seconds}\t0:03:30\t812.40\t2000\t800\t805\t1\t2\t98.1\t205\n", encoding="utf-8")
