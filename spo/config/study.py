"""What a config file may say at its top level: the named parts of a study and the experiments that combine them.

The parts themselves are settings of `spo.settings`; `spo.config` reads and checks all.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any

from annotated_types import Ge, Le, MinLen, Predicate

from spo.analysis.slices import Axis, Metric, Rule
from spo.config.cost import Rates
from spo.config.resources import Resources
from spo.settings import Above, Audit, Count, Dataset, Model, Positive, Protocol, Trace, Train, settings


def is_name(text: str) -> bool:
    """Whether `text` may name a part of a study, and so a folder: lower-case letters, digits, `_` and `.`, no hyphen.

    Hyphens join the names of a run ({model}-{dataset}-{method}-s{seed}), so that two runs never share a folder.

    >>> is_name("spo_chain.int2"), is_name("../x"), is_name("a-b"), is_name("x\\n")
    (True, False, False, False)
    """
    return (
        0 < len(text) <= 64 and text[0].isalnum() and all(c in "abcdefghijklmnopqrstuvwxyz0123456789_." for c in text)
    )


def is_folder(text: str) -> bool:
    """Whether `text` is a plain relative path that stays below the working folder.

    >>> is_folder("results/smoke"), is_folder("/etc"), is_folder("a/../../b"), is_folder("a b")
    (True, False, False, False)
    """
    return all(part and part.strip(".") and part.replace("-", "_").isidentifier() for part in text.split("/"))


def is_colour(text: str) -> bool:
    """Whether `text` is a hex colour such as `#0072B2`."""
    return len(text) == 7 and text[0] == "#" and all(c in "0123456789abcdefABCDEF" for c in text[1:])


Name = Annotated[str, Predicate(is_name)]
Folder = Annotated[str, Predicate(is_folder)]
Colour = Annotated[str, Predicate(is_colour)]
Contexts = Annotated[tuple[Positive, ...], MinLen(1)]
Names = Annotated[tuple[str, ...], MinLen(1)]


@settings
class Method:
    """One way to train: what it changes in `training`; with `policy`, one that others trained."""

    label: str
    """Name that readers see in figures and tables."""
    base: str | None = None
    """Method whose `train` this one starts from; a variant is named `{method}.{variant}`."""
    train: dict[str, Any] = field(default_factory=dict)
    """Any part of the training settings, at least `credit` with its `kind`."""
    start: str | None = None
    """Method whose run with the same seed in the same experiment is the starting policy (the paper's 2K, then 4K);
    empty: the experiment's model. A variant does not take it from its `base`."""
    policy: str | None = None
    """Key of `models:` that is evaluated as it is, once for all seeds and without training, as those that the paper
    released or compares with are (spec §6.3); `base`, `train` and `start` stay empty."""
    paper: str | None = None
    """Method of config/paper_numbers.yaml whose numbers stand beside this one's; empty: its own name."""


@settings
class Experiment:
    """A comparison: every method from the same starting model, on the same problems, with every seed."""

    title: str = ""
    """Name that readers see; empty: the key."""
    model: str
    """Key of `models:`, the policy that every run starts from."""
    dataset: str
    """Key of `datasets:`, the problems of training."""
    evaluate_on: tuple[str, ...] = ()
    """Keys of `datasets:` whose test sets are reported; empty: `dataset`."""
    methods: Names
    """Keys of `methods:`, in the order of figures and tables."""
    seeds: Annotated[tuple[Count, ...], MinLen(1)]
    """One run a method and seed; intervals need three or more."""
    contexts: Contexts
    """Tokens of prompt and response together at which predictions are graded, ascending."""
    paper_contexts: tuple[Positive, ...] = ()
    """The paper's contexts that `contexts` stand for, in the same order; empty: the same numbers."""
    protocols: Names
    """Keys of `protocols:`, how predictions are made."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Methods whose difference the report states, first minus second; empty: every pair, later minus earlier."""
    train: dict[str, Any] = field(default_factory=dict)
    """Training settings of this experiment, over `training` and those of the method."""
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Training settings of single methods in this experiment, over everything else."""


@settings
class Figure:
    """One figure, of an experiment, an audit or a trace."""

    draw: str
    """Kind of figure, a name in `spo.analysis.figures.FIGURES`."""
    title: str
    """Heading and start of the caption."""
    experiment: str | None = None
    """Key of `experiments:`; empty for figures of an audit or a trace."""
    dataset: str | None = None
    """Test set shown; empty: the experiment's first."""
    protocol: str | None = None
    """Protocol shown; empty: the experiment's first."""
    methods: tuple[str, ...] = ()
    """Methods shown; empty: all of the experiment."""
    context: Positive | None = None
    """Context of figures that show one; empty: the longest of the experiment."""
    x: Annotated[tuple[Axis, ...], MinLen(1)] = ("seconds", "tokens", "iterations")
    """Horizontal axes of learning curves, one panel each."""
    metric: Metric | None = None
    """Validation accuracy that learning curves and overfitting show: the greedy one, or the mean of the samples that
    `validation_samples` asks for. Empty: the sampled one if every run shown has it, since the paper draws that one
    (spec §7.2)."""
    audit: str | None = None
    """Key of `audits:`, for figures drawn from one."""
    trace: str | None = None
    """Key of `traces:`, for figures drawn from one."""
    paper: str | None = None
    """Key of `config/paper_numbers.yaml` whose numbers stand beside ours."""
    quoted: tuple[str, ...] = ()
    """Bars: methods that the experiment does not run, shown with the paper's number alone, in this order."""
    note: str = ""
    """A sentence added to the caption."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only this kind of figure needs."""


@settings
class Table:
    """One table, of one experiment or of the whole study."""

    make: str
    """Kind of table, a name in `spo.analysis.tables.TABLES`."""
    title: str
    """Heading and start of the caption."""
    experiment: str | None = None
    """Key of `experiments:`; empty for tables about the whole study."""
    dataset: str | None = None
    """Test set shown; empty: the experiment's first."""
    protocol: str | None = None
    """Protocol shown; empty: the experiment's first."""
    methods: tuple[str, ...] = ()
    """Methods shown; empty: all of the experiment."""
    context: Positive | None = None
    """Context of tables that show one; empty: the longest of the experiment."""
    metric: Metric | None = None
    """Validation accuracy of a table of tuning, as for figures."""
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """`settings_table`: methods by experiment, one column each; empty: the methods of `experiment` that are trained."""
    paper: str | None = None
    """Key of `config/paper_numbers.yaml` whose numbers stand beside ours."""
    note: str = ""
    """A sentence added to the caption."""
    options: dict[str, Any] = field(default_factory=dict)
    """What only this kind of table needs."""


@settings
class AuditPlan:
    """Which policies are audited, and how (`spo.settings.Audit`): one file a seed."""

    experiment: str
    """Key of `experiments:`."""
    method: str
    """The trained policy whose advantages are estimated; a method with a critic, if an estimator needs one."""
    audit: Audit
    """What is measured."""


@settings
class TracePlan:
    """Whose trajectories are written down, and how (`spo.settings.Trace`)."""

    title: str = ""
    """Name that readers see; empty: the key."""
    experiment: str
    """Key of `experiments:`."""
    method: str | None = None
    """A trained policy, the run of the first seed; empty: the starting policy."""
    trace: Trace = Trace()
    """What is written down."""


@settings
class Evidence:
    """One measurement that a claim rests on, and the rule that judges it; write the rule before the runs."""

    statistic: str
    """Name in `spo.analysis.claims.STATISTICS`."""
    experiment: str | None = None
    """Key of `experiments:`; empty for `credit_error`."""
    audit: str | None = None
    """Key of `audits:`, for `credit_error`."""
    first: str
    """Method of the experiment, or `base`; estimator of the audit."""
    second: str | None = None
    """What `first` is compared with, likewise; empty for statistics of one method."""
    context: Positive | None = None
    """Context of `accuracy`; empty: the longest of the experiment."""
    metric: Metric | None = None
    """Validation accuracy that statistics of validation compare, as for figures."""
    rule: Rule
    """Where the 95 % interval of the difference must lie. `above`: replicates above 0, does not below `relevant`.
    `not_below`: replicates above minus `relevant`, does not below 0. `similar`: replicates between minus and plus
    `relevant`, does not outside. Otherwise it cannot be told."""
    relevant: Above
    """The smallest difference that matters, in the statistic's unit."""


@settings
class Claim:
    """Something that the paper says: it replicates if all its parts do, and does not if any part does not."""

    text: str
    """What the paper says, in a sentence."""
    source: str
    """Where, such as `Fig. 3a`."""
    parts: Annotated[tuple[Evidence, ...], MinLen(1)]
    """What it rests on."""
    note: str = ""
    """A sentence for readers of the table."""


@settings
class Style:
    """How figures look; no training run depends on it."""

    colours: dict[str, Colour] = field(default_factory=dict)
    """Hex colour by method, and of `base`; a variant without its own has a shade of its base method's."""
    dpi: Annotated[int, Ge(50), Le(600)] = 200
    """Pixels an inch of the PNG."""


@settings
class Study:
    """A whole config file."""

    study: Name = "laptop"
    """Name of the study, shown in the report."""
    title: str = ""
    """Title of the report."""
    results: Folder = "results"
    """Folder of data, models, runs, evaluations, tables and logs; give every study its own."""
    pictures: Folder = "figures"
    """Folder of the figures."""
    replace: tuple[str, ...] = ()
    """Top-level keys that this file replaces; it adds to all others. Only an overlay needs it."""
    datasets: dict[Name, Dataset] = field(default_factory=dict)
    """Problem sets by name."""
    models: dict[Name, Model] = field(default_factory=dict)
    """Starting policies by name."""
    protocols: dict[Name, Protocol] = field(default_factory=dict)
    """Ways to make predictions, by name."""
    training: dict[str, Any] = field(default_factory=dict)
    """Training settings that all runs share."""
    methods: dict[Name, Method] = field(default_factory=dict)
    """Training methods by name."""
    experiments: dict[Name, Experiment] = field(default_factory=dict)
    """Comparisons by name."""
    figures: dict[Name, Figure] = field(default_factory=dict)
    """Figures by name; `snakemake {name}` draws one."""
    tables: dict[Name, Table] = field(default_factory=dict)
    """Tables by name; `snakemake {name}` makes one."""
    audits: dict[Name, AuditPlan] = field(default_factory=dict)
    """Measurements of how wrong advantage estimates are, by name."""
    traces: dict[Name, TracePlan] = field(default_factory=dict)
    """Trajectories written down to be looked at, by name."""
    claims: dict[Name, Claim] = field(default_factory=dict)
    """What the paper claims, in the order of the table of claims."""
    style: Style = Style()
    """How figures look."""
    paper_numbers: dict[str, Any] = field(default_factory=dict)
    """Numbers that the paper reports, by group; empty: those of `paper_numbers.yaml` beside the first config file."""
    files: tuple[str, ...] = ()
    """Config files that were laid over each other; the workflow writes this key into `results/config.yaml`."""
    resources: Resources = Resources()
    """What jobs ask of a machine, by rule."""
    rates: Rates = Rates()
    """How fast models are and how long responses, for the estimates of `plan`."""


@settings
class Run:
    """One training run of a study: its folder name, where it starts, and its complete settings."""

    name: str
    """{model}-{dataset}-{method}-s{seed}"""
    model: str
    dataset: str
    method: str
    train: Train
    start: str | None = None
    """Name of the run whose policy this one starts from; empty: `model`."""


@settings
class Evaluation:
    """Predictions of one policy (a run or a model) on one test set by one protocol, graded at all contexts."""

    policy: str
    dataset: str
    protocol: str
    contexts: tuple[int, ...]
