"""A results folder as a finished study leaves it, filled with numbers drawn from known accuracies."""

from __future__ import annotations

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
FINAL = {
    "grpo": 0.52,
    "spo_chain": 0.66,
    "spo_tree": 0.63,
    "ppo": 0.55,
    "vineppo": 0.64,
    "rloo": 0.51,
    "restem": 0.44,
    "dpo_positive": 0.47,
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
            label=LABELS[method],
            colour=colour,
            runs=tuple(Run(run=f"pupil-stories-{method}-s{seed}", seed=seed) for seed in range(1, seeds + 1)),
        )
        for method, colour in zip(methods, COLOURS, strict=False)
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


def write_run(folder: Path, run: str, final: float, tokens: int, seconds: float, noise: np.ndarray) -> None:
    """metrics.jsonl and timing.jsonl of one run whose validation accuracy climbs from 0.32 to `final`."""
    start = 0.32
    iterations = len(noise) - 1
    metrics, timing = [], []
    for iteration in range(iterations + 1):
        row = {"iteration": iteration, "sampled_tokens_total": iteration * tokens}
        if iteration:
            row |= {"reward": 0.5, "loss": 0.01, "sampled_tokens": tokens}
        if iteration % 5 == 0:
            reached = start + (final - start) * (1 - np.exp(-4 * iteration / iterations))
            accuracy = float(np.clip(reached + (noise[iteration] if iteration else 0.0), 0, 1))
            row |= {"validation_accuracy": accuracy, "validation_truncated": 0.0, "validation_n": 300}
        metrics.append(row)
        timing.append({"iteration": iteration, "seconds": {"sample": seconds}, "seconds_total": iteration * seconds})
    write_jsonl(folder / "runs" / run / "metrics.jsonl", metrics)
    write_jsonl(folder / "runs" / run / "timing.jsonl", timing)


def fill(root: Path, study: Study, problems: int = 500, iterations: int = 60) -> None:
    """Write everything that `study` reads under `root`."""
    generator = np.random.default_rng(7)
    ease = generator.normal(0, 1.5, problems)
    everyone = [(study.base, 0.32), *((arm, FINAL[arm.method]) for arm in study.arms)]
    for number, (arm, accuracy) in enumerate(everyone):
        for run in arm.runs:
            level = np.log(accuracy / (1 - accuracy)) * 1.4 + generator.normal(0, 0.12)
            verdicts = {
                context: generator.random(problems) < 1 / (1 + np.exp(-(ease + level - (1.2 if context == 128 else 0))))
                for context in study.contexts
            }
            write_evaluation(root, study, run.run, verdicts)
            if arm.method == "base":
                continue
            noise = np.cumsum(generator.normal(0, 0.004, iterations + 1)) + generator.normal(0, 0.012, iterations + 1)
            cost = 1.0 + 0.4 * number
            write_run(root, run.run, accuracy, int(9000 * cost), cost * generator.uniform(2.9, 3.3), noise)
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
