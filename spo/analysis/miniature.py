"""A finished study in miniature: the files that figures, tables and the report read, filled with made-up numbers.

It has the study's own methods, runs, contexts, audits and traces, and a handful of problems and iterations.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spo.analysis import results
from spo.analysis.slices import Rehearsal, Study

PROBLEMS, ITERATIONS, ROLLOUT_TOKENS = 6, 4, 500


def write(root: Path, plan: Rehearsal) -> None:
    """Write everything that the pictures of `plan` read under the folder `root`."""
    contexts: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for study in studies(plan):
        for place, arm in enumerate(results.arms(study)):
            for run in arm.runs:
                contexts[run.run, study.dataset, study.protocol] |= {*study.contexts}
                if arm.trained:
                    _run(root / "runs" / run.run, place, run.seed)
        _problems(root / "data" / study.dataset)
    for place, ((run, dataset, protocol), found) in enumerate(contexts.items()):
        _evaluation(root / "evals" / run / dataset / protocol, place, sorted(found))
    for file, labels in plan.estimators.items():
        _rows(root / file, (_audited(labels, number) for number in range(3 * PROBLEMS)))
    for file, trace in plan.traces.items():
        problems = [_traced(number) for number in range(trace.problems)]
        _text(root / file, json.dumps({"settings": asdict(trace), "problems": problems}))
    _text(root / "benchmarks/train/run.tsv", "s\tmax_rss\tcpu_time\n210.5\t812.4\t205\n")


def studies(plan: Rehearsal) -> Iterator[Study]:
    """Yield every experiment that a picture of `plan` shows."""
    yield from plan.report.experiments
    for picture in (*plan.figures.values(), *plan.tables.values()):
        if picture.study is not None:
            yield picture.study
    for table in plan.tables.values():
        yield from (part.study for claim in table.claims for part in claim.parts if part.study is not None)


def _run(folder: Path, place: int, seed: int) -> None:
    """Write metrics and timing of one run; validation accuracy rises towards a height of its own."""
    metrics, timing = [], []
    for iteration in range(ITERATIONS + 1):
        accuracy = 0.3 + (0.1 + 0.05 * (place % 8) + 0.002 * (seed % 5)) * iteration / ITERATIONS
        row = {"iteration": iteration, "sampled_tokens_total": 1000 * (place + 1) * iteration, "validation_n": PROBLEMS}
        row |= {"validation_accuracy": accuracy, "validation_sampled_accuracy": 0.9 * accuracy}
        row |= {"validation_truncated": 0.0}
        if iteration:
            row |= {"problems": 2, "trajectories": 8, "reward": accuracy, "accuracy": accuracy, "truncated": 0.0}
            row |= {"response_tokens": 100.0, "distinct_responses": 1 - 0.1 * iteration, "mc_points": 8 * (place + 1)}
            row |= {"sampled_tokens": 1000 * (place + 1), "loss": 0.01}
        metrics.append(row)
        seconds = {"sample": 2.0 + place + 0.01 * seed, "score": 0.2, "train": 1.0} if iteration else {"validate": 1.0}
        timing.append({"iteration": iteration, "seconds": seconds, "seconds_total": (3.0 + place) * iteration})
    _rows(folder / "metrics.jsonl", metrics)
    _rows(folder / "timing.jsonl", timing)


def _evaluation(folder: Path, place: int, contexts: list[int]) -> None:
    rows, found = [], {}
    for context in contexts:
        verdicts = [(number + place) % 3 > 0 for number in range(PROBLEMS)]
        for number, right in enumerate(verdicts):
            verdict = {"correct": right, "extracted": "7", "reason": "equal", "finished": True, "response_tokens": 60}
            names = {"problem_id": f"p{number}", "sample": 0, "context": context, "response": "3 + 4 = 7"}
            rows.append(names | verdict)
        share = sum(verdicts) / PROBLEMS
        size = {"correct": sum(verdicts), "n": PROBLEMS, "truncated": 0.0, "response_tokens_mean": 60.0}
        found[str(context)] = {"accuracy": share, "low": share - 0.1, "high": share + 0.1, **size}
    _rows(folder / "graded.jsonl", rows)
    _text(folder / "score.json", json.dumps({"contexts": found}))


def _problems(folder: Path) -> None:
    question = "Ana has 3 pens and gets 4 more. How many has she?"
    rows = [{"id": f"p{number}", "question": question, "answer": "7"} for number in range(PROBLEMS)]
    _rows(folder / "test.jsonl", rows)
    _rows(folder / "demonstrations.jsonl", [{"id": "d", "question": question, "response": "3 + 4 = 7"}])


def _audited(labels: Iterable[str], number: int) -> dict[str, Any]:
    truth = 0.1 * (number % 3) - 0.1
    estimates = {label: truth + 0.01 * (place + number % 2) for place, label in enumerate(labels)}
    tokens = {label: 1.0 + ROLLOUT_TOKENS * place for place, label in enumerate(labels)}
    row = {"problem_id": f"p{number % PROBLEMS}", "truth": truth, "truth_variance": 1e-4}
    return row | {"estimates": estimates, "generated_tokens": tokens}


def _traced(number: int) -> dict[str, Any]:
    chain = {"tokens": ["7", " - ", "2", "\n", "so", " 5", ""], "probabilities": [0.5, 0.9, 1, 0.8, 1, 0.2, 1]}
    chain |= {"cutpoints": [0, 5], "cuts": [0, 3, 7], "values": [0.5, 0.25, 1.0], "advantages": [-0.25, 0.75]}
    root = {"parent": -1, "text": "", "tokens": 0, "value": 0.5, "advantage": 0.0, "leaf": True, "finished": True}
    names = {"id": f"p{number}", "question": "What is 7 - 2?", "answer": "5"}
    return names | {"chain": chain | {"finished": True, "reward": 1.0}, "tree": [root]}


def _rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _text(path: Path, text: str) -> None:
    # Not through `store`: these files live for a second, and syncing hundreds of them to a disk takes longer.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
