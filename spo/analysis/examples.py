"""A problem to look at: what the base model was taught, what it answered, and what a trained policy answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from spo.analysis import results
from spo.analysis.slices import Arm, Study


class Shown(NamedTuple):
    """One response with its verdict; `correct` is None where nobody graded it."""

    who: str
    correct: bool | None
    text: str


class Example(NamedTuple):
    """A problem and what was answered to it."""

    question: str
    answer: str
    shown: tuple[Shown, ...]


def examples(root: Path, study: Study) -> list[Example]:
    """A demonstration, where the dataset has any, and a test problem that the base gets wrong and a trained policy
    right, or else what there is. The policy is the most accurate method's first seed, the problem the first by id."""
    found = []
    demonstrations = root / "data" / study.dataset / "demonstrations.jsonl"
    if demonstrations.exists() and demonstrations.stat().st_size:
        row = results.read_rows(demonstrations)[0]
        shown = Shown("Demonstration, as the base model is taught (it may contain a mistake)", None, row["response"])
        found.append(Example(row["question"], "", (shown,)))
    answered = _contrast(root, study)
    return [*found, answered] if answered else found


def _contrast(root: Path, study: Study) -> Example | None:
    context = max(study.contexts)
    best = max(study.arms, key=lambda arm: results.correctness(root, study, arm, context).mean())
    shown = [arm for arm in (study.base, best) if arm]
    graded = [_responses(root, study, arm, context) for arm in shown]
    problems = {row["id"]: row for row in results.read_rows(root / "data" / study.dataset / "test.jsonl")}
    common = sorted(set.intersection(set(problems), *map(set, graded)))
    if not common:
        return None
    wanted = [False, True][-len(shown) :]
    # The nearest to "wrong before, right after" that there is; sorting is stable, so the first id wins.
    verdicts = {name: [rows[name]["correct"] for rows in graded] for name in common}
    pick = min(common, key=lambda name: sum(was != want for was, want in zip(verdicts[name], wanted, strict=True)))
    answers = [
        Shown(arm.label, rows[pick]["correct"], rows[pick]["response"]) for arm, rows in zip(shown, graded, strict=True)
    ]
    return Example(problems[pick]["question"], problems[pick]["answer"], tuple(answers))


def _responses(root: Path, study: Study, arm: Arm, context: int) -> dict[str, dict[str, Any]]:
    path = results.evaluation(root, study, arm.runs[0].run) / "graded.jsonl"
    rows = (row for row in results.read_rows(path) if row["context"] == context and row["sample"] == 0)
    return {row["problem_id"]: row for row in rows if row.get("response")}
