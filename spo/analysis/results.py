"""Readers of the files under results/: small tables in, one line naming the command to run when a file is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spo import store
from spo.analysis.slices import Arm, Figure, Metric, PaperNumber, Study, Table
from spo.errors import UserError


def arms(study: Study) -> tuple[Arm, ...]:
    """The base, where there is one, and then every method."""
    return (study.base, *study.arms) if study.base else study.arms


def evaluation(root: Path, study: Study, run: str) -> Path:
    """Folder of a run's predictions, verdicts and scores on the study's test set."""
    return root / "evals" / run / study.dataset / study.protocol


def scores(root: Path, study: Study) -> pd.DataFrame:
    """One row for each run (the base included) and context: method, label, run, seed, context, and what score.json has.

    `accuracy`, `low`, `high` and `truncated` are fractions; `n` counts problems.
    """
    rows = []
    for arm in arms(study):
        for run in arm.runs:
            path = evaluation(root, study, run.run) / "score.json"
            found = read_json(path)["contexts"]
            names = {"method": arm.method, "label": arm.label, "run": run.run, "seed": run.seed}
            for context in study.contexts:
                if str(context) not in found:
                    raise UserError(
                        f"{path}: no context {context}, only {', '.join(found)}; delete it and run `{_command(path)}`"
                    )
                rows.append({**names, "context": context, **found[str(context)]})
    return pd.DataFrame(rows)


def correctness(root: Path, study: Study, arm: Arm, context: int) -> np.ndarray:
    """Matrix (S, P) of the share of correct samples of each problem, runs in the arm's order, problems sorted by id.

    Raises UserError where runs were graded on different problems.
    """
    rows = []
    for run in arm.runs:
        path = evaluation(root, study, run.run) / "graded.jsonl"
        graded = [(row["problem_id"], row["correct"]) for row in read_rows(path) if row["context"] == context]
        frame = pd.DataFrame(graded, columns=["problem_id", "correct"])
        if frame.empty:
            raise UserError(f"{path}: no rows at context {context}; delete it and run `{_command(path)}`")
        rows.append(frame.astype({"correct": float}).groupby("problem_id")["correct"].mean().sort_index())
        if not rows[-1].index.equals(rows[0].index):
            raise UserError(f"{path}: graded on other problems than {arm.runs[0].run}; grade both on the same test set")
    return np.stack([row.to_numpy() for row in rows])


def curves(root: Path, study: Study, needs: tuple[str, ...] = ()) -> pd.DataFrame:
    """The rows of `metrics`, with `tokens` (generated so far) and `seconds` (of training so far, without validation and
    saving)."""
    frames = []
    for run, rows in metrics(root, study, needs).groupby("run", sort=False):
        folder = root / "runs" / str(run)
        timing = pd.DataFrame(read_rows(folder / "timing.jsonl"))[["iteration", "seconds_total"]]
        frame = rows.merge(timing, on="iteration", how="left", validate="one_to_one")
        frame.loc[frame["iteration"] == 0, "seconds_total"] = 0.0
        if frame["seconds_total"].isna().any():
            unknown = int(frame.loc[frame["seconds_total"].isna(), "iteration"].iloc[0])
            raise UserError(f"{folder}/timing.jsonl: no row for iteration {unknown}; delete {folder} and train again")
        frames.append(frame.rename(columns={"seconds_total": "seconds"}).assign(tokens=frame["sampled_tokens_total"]))
    return pd.concat(frames, ignore_index=True)


def metrics(root: Path, study: Study, needs: tuple[str, ...] = ()) -> pd.DataFrame:
    """One row for each run and iteration: method, label, run, seed, and the fields of metrics.jsonl; where fields are
    named in `needs`, of iterations that have any of them.

    Raises UserError where a run has no value of a field that is needed.
    """
    frames = []
    for arm in study.arms:
        for run in arm.runs:
            path = root / "runs" / run.run / "metrics.jsonl"
            frame = pd.DataFrame(read_rows(path))
            absent = [name for name in needs if name not in frame or frame[name].isna().all()]
            if absent:
                raise UserError(f"{path}: no field {absent[0]!r} in any row; leave {arm.method} out of this picture")
            names = {"method": arm.method, "label": arm.label, "run": run.run, "seed": run.seed}
            frames.append(frame.assign(**names))
    rows = pd.concat(frames, ignore_index=True)
    return rows.dropna(subset=list(needs), how="all").reset_index(drop=True) if needs else rows


def late(curves: pd.DataFrame, metric: Metric = "validation_accuracy") -> pd.Series:
    """Return the mean of the last two validations by run: one alone is noisy. The one before training does not count.

    `metric` names the column; validations at iteration 0 come before training.
    """
    validated = curves[curves["iteration"] > 0].dropna(subset=metric).sort_values("iteration")
    return validated.groupby("run")[metric].apply(lambda values: values.iloc[-2:].mean())


def audit(root: Path, files: tuple[str, ...], labels: tuple[str, ...]) -> pd.DataFrame:
    """One row for each sampled token of an audit: seed (a number for each file), problem_id, truth, truth_variance, and
    for each of the estimators `labels` the columns `estimate {label}` and `tokens {label}` (generated for it, a token
    trained on).

    Raises UserError where an estimator is not in a file.
    """
    rows = []
    for seed, file in enumerate(files):
        for row in read_rows(root / file):
            absent = [label for label in labels if label not in row["estimates"]]
            if absent:
                known, remedy = ", ".join(row["estimates"]), f"delete it and run `{_command(root / file)}`"
                raise UserError(f"{root / file}: no estimator {absent[0]!r}, only {known}; {remedy}")
            estimates = {f"estimate {label}": row["estimates"][label] for label in labels}
            tokens = {f"tokens {label}": row["generated_tokens"][label] for label in labels}
            truth = {name: row[name] for name in ("problem_id", "truth", "truth_variance")}
            rows.append({"seed": seed, **truth, **estimates, **tokens})
    return pd.DataFrame(rows)


def generation_seconds(root: Path, study: Study) -> pd.DataFrame:
    """One row for each run and iteration: method, label, run, seed, iteration, and `value`, the seconds of sampling and
    scoring in timing.jsonl. Iteration 0, which generates nothing, is left out."""
    rows = []
    for arm in study.arms:
        for run in arm.runs:
            path = root / "runs" / run.run / "timing.jsonl"
            names = {"method": arm.method, "label": arm.label, "run": run.run, "seed": run.seed}
            made = [row for row in read_rows(path) if "sample" in row["seconds"]]
            if not made:
                raise UserError(f"{path}: no seconds of phase 'sample'; leave {arm.method} out of this picture")
            for row in made:
                seconds = row["seconds"]["sample"] + row["seconds"].get("score", 0.0)
                rows.append({**names, "iteration": row["iteration"], "value": seconds})
    return pd.DataFrame(rows)


def benchmarks(root: Path) -> pd.DataFrame:
    """One row for each job that Snakemake timed: rule (first folder under benchmarks/), job, seconds, max_rss_mb, ended
    (seconds since 1970; the time its file was written), cpu_seconds up to the last reading. Unmeasured memory or
    processor time, of jobs under a second, is NaN."""
    folder = root / "benchmarks"
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        inside = path.relative_to(folder)
        table = pd.read_csv(path, sep="\t", na_values=["-", "NA", "NaN"]).iloc[-1]
        job = inside.with_suffix("").as_posix()
        memory, cpu = (pd.to_numeric(table.get(name, "-"), errors="coerce") for name in ("max_rss", "cpu_time"))
        rule = inside.parts[0].removesuffix(".tsv")
        rows.append((rule, job, float(table["s"]), float(memory), path.stat().st_mtime, float(cpu)))
    if not rows:
        raise UserError(f"{folder}: no benchmark files; run `snakemake --cores all` first")
    return pd.DataFrame(rows, columns=["rule", "job", "seconds", "max_rss_mb", "ended", "cpu_seconds"])


def paper_number(settings: Figure | Table, method: str, context: int | None = None) -> PaperNumber | None:
    """The paper's number for a method, at the paper's context that `context` stands for (empty: at whichever it gives);
    None where it reports none."""
    wanted = paper_context(settings.study, context)
    matches = [
        number
        for number in settings.paper
        if number.method == method and (number.context is None or context is None or number.context == wanted)
    ]
    return matches[0] if matches else None


def paper_context(study: Study, context: int | None) -> int | None:
    """The paper's context that one of ours stands for, such as 128 for 2048 in the laptop study."""
    if context is None or not study.paper_contexts:
        return context
    if len(study.paper_contexts) != len(study.contexts):
        raise UserError(f"experiments.{study.name}.paper_contexts: needs one entry for each of the contexts")
    return dict(zip(study.contexts, study.paper_contexts, strict=True)).get(context)


def shown_context(settings: Figure | Table) -> int:
    """The context of a figure or table that shows one: its own, or the study's longest."""
    context = settings.context or max(settings.study.contexts)
    if context not in settings.study.contexts:
        known = ", ".join(map(str, settings.study.contexts))
        where = f"experiments.{settings.study.name}.contexts"
        raise UserError(f"{settings.title}: context {context} is not one of {where} ({known})")
    return context


def read_json(path: Path) -> Any:
    """Return the JSON value in a result; UserError names the command that makes it."""
    with _remedy(path):
        return store.read_json(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a result, at least one; UserError names the file, the line and the command that makes it."""
    with _remedy(path):
        rows = store.read_jsonl(path)
    if not rows:
        # Making it again gives the same file: what is wrong lies before it.
        raise UserError(f"{path}: no rows; see the log of the job that wrote it, and the files that job read")
    return rows


@contextmanager
def _remedy(path: Path) -> Iterator[None]:
    """Add to a reader's UserError what to do about it.

    A damaged result is made again by the writers of `spo.store`, which write nothing that its readers refuse.
    """
    try:
        yield
    except UserError as error:
        if not path.exists():
            raise UserError(f"{path}: missing; run `{_command(path)}`") from None
        raise UserError(f"{error}; delete the file and run `{_command(path)}`") from None


def _command(path: Path) -> str:
    return f"snakemake --cores all {path.as_posix()}"
