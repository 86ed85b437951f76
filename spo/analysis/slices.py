"""What `figure`, `table` and `report` are told: the slice of the config that one picture depends on, and nothing more.

`spo.config` fills these from `figures:`, `tables:`, `experiments:`, `style:` and `config/paper_numbers.yaml`, so that a
colour reruns a figure and never a training run. Accuracies in results are fractions; the paper's numbers are per cent.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from spo.settings import Above, Positive, Trace, settings

Axis = Literal["seconds", "tokens", "iterations"]
Rule = Literal["above", "not_below", "similar"]
Metric = Literal["validation_accuracy", "validation_sampled_accuracy"]

#: Kind of figure (key of `spo.analysis.figures.FIGURES`) -> results that it is drawn from: `score`, `graded` of each
#: evaluation, `metrics`, `timing` of each run, the `audit` or `trace` that it names, or what the `claims` rest on. Kept
#: here because reading a config must not import matplotlib.
FIGURE_READS: dict[str, tuple[str, ...]] = {
    "accuracy_bars": ("score", "graded"),
    "learning_curves": ("metrics", "timing"),
    "budget_bars": ("score", "graded", "metrics"),
    "generation_time": ("metrics", "timing"),
    "sampling_points": ("metrics",),
    "overfitting": ("metrics",),
    "segments": ("trace",),
    "credit_error": ("audit",),
}
#: The same for tables (`spo.analysis.tables.TABLES`).
TABLE_READS: dict[str, tuple[str, ...]] = {
    "context_table": ("score", "graded"),
    "accuracy_table": ("score", "graded"),
    "cost_table": ("score",),
    "claims_table": ("claims",),
    "tuning_table": ("metrics", "timing"),
    "settings_table": (),
}
#: The same for what claims rest on (`spo.analysis.claims.STATISTICS`).
STATISTIC_READS: dict[str, tuple[str, ...]] = {
    "accuracy": ("graded",),
    "context_gain": ("graded",),
    "accuracy_at_equal_seconds": ("metrics", "timing"),
    "accuracy_at_equal_tokens": ("metrics", "timing"),
    "late_accuracy": ("metrics",),
    "points_per_trajectory": ("metrics",),
    "generation_seconds": ("timing",),
    "training_rise": ("metrics",),
    "distinct_fall": ("metrics",),
    "validation_fall": ("metrics",),
    "credit_error": ("audit",),
}
#: Results that only training runs have; policies that others trained lack them.
OF_TRAINING = frozenset(("metrics", "timing"))
#: Figures, tables and statistics that show one of the two validation accuracies.
OF_VALIDATION = frozenset(
    ("learning_curves", "overfitting", "tuning_table")
    + ("accuracy_at_equal_seconds", "accuracy_at_equal_tokens", "late_accuracy", "validation_fall")
)
#: Figures that have bars for methods that are not run here.
OF_BARS = frozenset(("accuracy_bars", "budget_bars"))
#: Statistics of one method alone; all others compare two.
OF_ONE_METHOD = frozenset(("training_rise", "distinct_fall", "validation_fall"))


@settings
class Run:
    """One trained policy (or the base model): a folder name under results/runs, results/models and results/evals."""

    run: str
    seed: int = 0


@settings
class Arm:
    """One line, bar or row: a method with its runs over seeds; the base model is an arm with one run."""

    method: str
    """Key of `methods:`, or `base`."""
    label: str
    """Name that readers see, such as `SPO-chain`."""
    colour: str
    """Hex colour; shipped colours are those of Okabe & Ito, which colour-blind readers can tell apart."""
    line: Literal["solid", "dashed", "dotted", "dashdot"] = "solid"
    """Dash pattern of its lines; variants in shades of their method's colour differ in this too."""
    runs: tuple[Run, ...]
    trained: bool = True
    """Whether the runs were trained in this study; false: the base, or a policy that others trained."""
    variant_of: str = ""
    """Label of the method that this one is a variant of."""
    changes: tuple[tuple[str, str], ...] = ()
    """What a variant changes in the training settings of that method: dotted key and value."""


@settings
class Study:
    """One experiment: who is compared, on which test set, by which protocol, at which contexts."""

    name: str
    """Key of `experiments:`."""
    title: str = ""
    """Name that readers see, such as `short chain of thought`; empty: the key."""
    dataset: str
    protocol: str
    contexts: tuple[Positive, ...]
    """Tokens of prompt and response together at which predictions are graded, ascending."""
    paper_contexts: tuple[Positive, ...] = ()
    """The paper's contexts that `contexts` stand for, in the same order; empty: the same numbers."""
    base: Arm | None = None
    """The policy that every run starts from."""
    arms: tuple[Arm, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    """Methods whose difference the report states, first minus second; empty: every pair, later minus earlier."""


@settings
class PaperNumber:
    """One accuracy that the paper prints, in per cent."""

    method: str
    """Key of `methods:`, or `base`."""
    value: float
    where: str
    """Figure or table, such as `Fig. 3a`."""
    context: Positive | None = None
    """The paper's context in tokens, where the paper tells contexts apart."""
    note: str = ""
    """Where sources disagree, or what else a reader should know."""


@settings
class Evidence:
    """One measurement that a claim rests on, and the rule that judges it."""

    statistic: str
    """Name in `spo.analysis.claims.STATISTICS`."""
    study: Study | None = None
    """The experiment, with the methods compared and no others; empty for statistics of an audit."""
    files: tuple[str, ...] = ()
    """Files of the audit, one a seed, under the results folder."""
    first: str
    """Key of `methods:`, `base`, or an estimator of the audit."""
    second: str | None = None
    """What `first` is compared with, likewise; empty for statistics of one method."""
    context: Positive | None = None
    """Context of statistics that have one; empty: the longest of the study."""
    metric: Metric = "validation_accuracy"
    """Field of metrics.jsonl that statistics of validation read."""
    rule: Rule
    relevant: Above
    """The smallest difference that matters, in the statistic's unit."""


@settings
class Claim:
    """What the paper says, and the evidence for it: it replicates if every part of the evidence does."""

    name: str
    """Key of `claims:`."""
    text: str
    source: str
    """Where the paper says it, such as `Fig. 3a`."""
    parts: tuple[Evidence, ...]
    note: str = ""


@settings
class Quoted:
    """A method that the study does not run, with the number that the paper gives."""

    label: str
    """Name that readers see."""
    number: PaperNumber


@settings
class Figure:
    """One figure: figures/{name}.png and .pdf, with the CSV of every plotted point."""

    draw: str
    """Name in `spo.analysis.figures.FIGURES`."""
    title: str
    study: Study | None = None
    """The experiment shown; empty for figures of an audit or a trace."""
    context: Positive | None = None
    """Context of figures that show one; empty: the longest of the study."""
    x: tuple[Axis, ...] = ("seconds", "tokens", "iterations")
    """Horizontal axes of learning curves, one panel each."""
    metric: Metric = "validation_accuracy"
    """Field of metrics.jsonl that figures of validation show."""
    sampled: str = ""
    """Sampling of the responses behind a sampled metric, such as `16 samples per problem at temperature 0.35`."""
    files: tuple[str, ...] = ()
    """Files of the audit or trace that it shows, under the results folder."""
    paper: tuple[PaperNumber, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    """Bars of methods that are not run here, from top to bottom below the others."""
    note: str = ""
    """A sentence added to the caption."""
    dpi: Positive = 200
    """Pixels an inch of the PNG."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only this kind of figure needs."""


@settings
class SettingsColumn:
    """The settings of one method in an experiment, for the table of hyper-parameters."""

    method: str
    """Key of `methods:`."""
    experiment: str
    """Key of `experiments:`."""
    label: str
    """Name that readers see."""
    texts: tuple[tuple[str, str], ...]
    """Heading of each row and the setting as text, empty where the method has none."""


@settings
class Table:
    """One table: results/tables/{name}.md, .csv, .tex, and .json for the report."""

    make: str
    """Name in `spo.analysis.tables.TABLES`."""
    title: str
    study: Study | None = None
    """The experiment shown; empty for tables about the whole run, such as costs."""
    context: Positive | None = None
    """Context of tables that show one; empty: the longest of the study."""
    metric: Metric = "validation_accuracy"
    """Field of metrics.jsonl that tables of validation show."""
    sampled: str = ""
    """Sampling of the responses behind a sampled metric, such as `16 samples per problem at temperature 0.35`."""
    claims: tuple[Claim, ...] = ()
    """The study's claims, for the table that judges them."""
    columns: tuple[SettingsColumn, ...] = ()
    """Settings of each method, for the table of hyper-parameters."""
    paper: tuple[PaperNumber, ...] = ()
    note: str = ""
    """A sentence added to the caption."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only this kind of table needs."""


@settings
class Report:
    """results/report.html: the figures and tables named here, what they say, and how they came about."""

    title: str
    study: str = ""
    """Name of the whole study, such as `laptop`."""
    figures: tuple[str, ...] = ()
    """Names of figures, in the order shown; each is read from figures/ and results/figures/."""
    tables: tuple[str, ...] = ()
    """Names of tables, in the order shown; each is read from results/tables/{name}.json and .csv."""
    experiments: tuple[Study, ...] = ()
    """Experiments whose differences are stated and from which example solutions are taken."""
    experiment_of: dict[str, str] = field(default_factory=dict)
    """Figure or table -> key of the experiment it shows; pictures of the whole study are left out."""
    config_digest: str = ""
    """Digest of the resolved config."""
    command: str = "snakemake --cores all"
    """The command that makes everything shown."""


@settings
class Rehearsal:
    """Everything that a study draws, to be tried before it trains."""

    figures: dict[str, Figure]
    tables: dict[str, Table]
    report: Report
    estimators: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File of an audit under the results folder -> its estimators."""
    traces: dict[str, Trace] = field(default_factory=dict)
    """File of a trace under the results folder -> its settings."""


@settings
class Shown:
    """One trace of the page."""

    title: str
    file: str
    """Path under the results folder."""
    policy: str
    """Author of the responses, such as `SFT base`."""


@settings
class Page:
    """results/trajectories.html: traces to step through."""

    title: str
    traces: tuple[Shown, ...]
