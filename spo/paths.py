"""Paths of every file of a study: rules, commands and figures ask here."""

from __future__ import annotations

from dataclasses import dataclass

#: Files that every model folder of this project has; a job that opens the model waits for them.
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Paths:
    """Paths of one study as text, relative to the working folder; with empty `results`, relative to that folder.

    A name may be a Snakemake wildcard.

    >>> Paths("results", "figures").split("stories", "test")
    'results/data/stories/test.jsonl'
    >>> Paths("results", "figures").score("{policy}", "{dataset}", "{protocol}")
    'results/evals/{policy}/{dataset}/{protocol}/score.json'
    """

    results: str
    pictures: str

    @property
    def _within(self) -> str:
        return f"{self.results}/" if self.results else ""

    # ---- settings of the jobs, their logs and progress

    def config(self, digest: str) -> str:
        """Return the study as one Snakemake process started with it; `digest` is that of its text."""
        return f"{self._within}config/{digest}.json"

    @property
    def last_config(self) -> str:
        """Return the study as the last Snakemake process started with it."""
        return f"{self._within}config.json"

    def log(self, rule: str, *names: str) -> str:
        return self._within + "/".join(("logs", rule, *names)) + ".log"

    def benchmark(self, rule: str, *names: str) -> str:
        return self._within + "/".join(("benchmarks", rule, *names)) + ".tsv"

    def state(self, *names: str) -> str:
        """Return a folder of checkpoints. No rule declares it: Snakemake deletes outputs before a job starts."""
        return self._within + "/".join(("state", *names))

    # ---- data and policies

    def data(self, dataset: str, *file: str) -> str:
        return self._within + "/".join(("data", dataset, *file))

    def split(self, dataset: str, split: str) -> str:
        return self.data(dataset, f"{split}.jsonl")

    def model(self, model: str, *file: str) -> str:
        """Return the folder of a model trained here from random weights, or a file in it."""
        return self._within + "/".join(("models", model, *file))

    def run(self, run: str, *file: str) -> str:
        return self._within + "/".join(("runs", run, *file))

    def trained(self, run: str, *file: str) -> str:
        """Return the model folder of a run, or a file in it."""
        return self.run(run, "model", *file)

    def critic(self, run: str, *file: str) -> str:
        return self.run(run, "critic", *file)

    def metrics(self, run: str) -> str:
        return self.run(run, "metrics.jsonl")

    def timing(self, run: str) -> str:
        return self.run(run, "timing.jsonl")

    # ---- evaluation and inspection

    def predictions(self, policy: str, dataset: str, protocol: str) -> str:
        return f"{self._within}evals/{policy}/{dataset}/{protocol}/predictions.jsonl"

    def graded(self, policy: str, dataset: str, protocol: str) -> str:
        return f"{self._within}evals/{policy}/{dataset}/{protocol}/graded.jsonl"

    def score(self, policy: str, dataset: str, protocol: str) -> str:
        return f"{self._within}evals/{policy}/{dataset}/{protocol}/score.json"

    def audit(self, audit: str, seed: int | str) -> str:
        return f"{self._within}audits/{audit}/s{seed}.jsonl"

    def trace(self, trace: str) -> str:
        return f"{self._within}traces/{trace}.json"

    # ---- figures, tables and pages

    def figure(self, figure: str, ending: str) -> str:
        """Return the picture itself, `ending` being png or pdf."""
        return f"{self.pictures}/{figure}.{ending}"

    def numbers(self, figure: str) -> str:
        return f"{self._within}figures/{figure}.csv"

    def caption(self, figure: str) -> str:
        return f"{self._within}figures/{figure}.txt"

    def table(self, table: str, ending: str) -> str:
        return f"{self._within}tables/{table}.{ending}"

    @property
    def rehearsal(self) -> str:
        return f"{self._within}rehearsal.txt"

    @property
    def trajectories(self) -> str:
        return f"{self._within}trajectories.html"

    @property
    def report(self) -> str:
        return f"{self._within}report.html"
