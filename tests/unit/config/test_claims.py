"""Audits, traces and claims of a study: what their slices hold, which files they wait for, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from spo import config
from spo.config import layers
from spo.errors import UserError
from tests.unit.config.test_study import study

ESTIMATORS = {"GRPO": {"kind": "group"}, "the critic": {"kind": "critic"}, "chain N=2": {"kind": "chain"}}
LATE = {"statistic": "late_accuracy", "experiment": "one", "first": "chain", "second": "grpo"}
RULE = {"rule": "above", "relevant": 3}
PARTS = [
    LATE | RULE,
    {"statistic": "accuracy", "experiment": "one", "first": "chain", "second": "base", "context": 64} | RULE,
    {"statistic": "generation_seconds", "experiment": "one", "first": "chain.int2", "second": "chain"} | RULE,
]
MORE = {
    "methods": {"ppo": {"label": "PPO", "train": {"credit": {"kind": "critic"}}}},
    "experiments": {"one": {"methods": ["grpo", "chain", "chain.int2", "ppo"]}},
    "audits": {"deep": {"experiment": "one", "method": "ppo", "audit": {"problems": 5, "estimators": ESTIMATORS}}},
    "traces": {"look": {"experiment": "one", "trace": {"problems": 2}}},
    "claims": {
        "better": {"text": "Chain is better", "source": "Fig. 1", "parts": PARTS},
        "wiser": {
            "text": "Chain knows better",
            "source": "§2",
            "parts": [{"statistic": "credit_error", "audit": "deep", "first": "chain N=2", "second": "GRPO"} | RULE],
        },
    },
    "figures": {
        "error": {"draw": "credit_error", "title": "Error", "audit": "deep"},
        "cuts": {"draw": "segments", "title": "Cuts", "trace": "look"},
    },
    "tables": {
        "verdicts": {"make": "claims_table", "title": "Claims"},
        "search": {"make": "tuning_table", "title": "Search", "experiment": "one", "methods": ["chain.int2"]},
    },
}


def more(folder: Path, changes: dict | None = None) -> config.Study:
    return study(folder, layers.merge(MORE, changes or {}))


def test_audits_and_traces_have_files_for_figures(tmp_path: Path) -> None:
    found = more(tmp_path)
    files = ["audits/deep/s1.jsonl", "audits/deep/s2.jsonl"]
    assert config.audit_files(found, "deep") == config.reads(found, found.figures["error"]) == files
    assert [config.trace_file("look")] == config.reads(found, found.figures["cuts"]) == ["traces/look.json"]
    pictures = config.pictures(found)
    error, cuts = (pictures[name] for name in ("error", "cuts"))
    assert error.study is None and error.files == tuple(files)
    assert cuts.study is None and cuts.files == ("traces/look.json",)


def test_claims_wait_for_what_their_statistics_read_and_nothing_else(tmp_path: Path) -> None:
    found = more(tmp_path)
    seeds = (1, 2)
    expected = [f"audits/deep/s{s}.jsonl" for s in seeds]
    expected += [
        f"evals/{policy}/tales/greedy/graded.jsonl" for policy in ("tiny", *(f"tiny-tales-chain-s{s}" for s in seeds))
    ]
    expected += [f"runs/tiny-tales-{method}-s{s}/metrics.jsonl" for method in ("chain", "grpo") for s in seeds]
    expected += [f"runs/tiny-tales-{method}-s{s}/timing.jsonl" for method in ("chain", "chain.int2") for s in seeds]
    assert config.reads(found, found.tables["verdicts"]) == sorted(expected)


def test_evidence_holds_who_is_compared_and_no_others(tmp_path: Path) -> None:
    table = config.pictures(more(tmp_path))["verdicts"]
    better, wiser = table.claims
    late, accuracy, seconds = better.parts
    assert (better.name, better.text, better.source) == ("better", "Chain is better", "Fig. 1")
    assert [arm.method for arm in late.study.arms] == ["chain", "grpo"] and late.study.base is None
    assert [arm.method for arm in accuracy.study.arms] == ["chain"] and accuracy.study.base.method == "base"
    assert (accuracy.context, accuracy.rule, accuracy.relevant) == (64, "above", 3.0)
    assert [arm.method for arm in seconds.study.arms] == ["chain.int2", "chain"]
    assert wiser.parts[0].study is None and len(wiser.parts[0].files) == 2


def test_a_variant_says_what_it_changes(tmp_path: Path) -> None:
    found = more(tmp_path)
    (arm,) = config.pictures(found)["search"].study.arms
    assert (arm.variant_of, arm.changes) == ("Chain", (("credit.partition.interval", "2"),))
    assert config.reads(found, found.tables["search"]) == [
        *(f"runs/tiny-tales-chain.int2-s{seed}/metrics.jsonl" for seed in (1, 2)),
        *(f"runs/tiny-tales-chain.int2-s{seed}/timing.jsonl" for seed in (1, 2)),
    ]


def test_the_summary_names_them(tmp_path: Path) -> None:
    lines = config.summary(more(tmp_path)).splitlines()
    assert "  audit deep: one, ppo; GRPO, the critic, chain N=2" in lines
    assert "  trace look: one, before training" in lines
    assert "  claims better, wiser" in lines


def part(**changes) -> dict:
    return {"claims": {"better": {"parts": [LATE | RULE | changes]}}}


def audit(**changes) -> dict:
    return {"audits": {"deep": changes}}


P = "claims.better.parts.0"
E = "audits.deep.audit.estimators"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            part(statistic="late_acuracy"),
            f"{P}.statistic: unknown statistic late_acuracy (did you mean late_accuracy?)",
        ),
        (part(experiment="oen"), f"{P}.experiment: unknown experiment oen (did you mean one?)"),
        (part(experiment=None), f"{P}.experiment: missing; late_accuracy is made from one"),
        (part(audit="deep"), f"{P}.audit: late_accuracy is made from `experiment` alone. Remove this key"),
        (part(first="chian"), f"{P}.first: unknown method of that experiment chian (did you mean chain?)"),
        (part(second="base"), f"{P}.second: unknown method of that experiment base"),
        (part(second=None), f"{P}.second: missing; late_accuracy compares two"),
        (part(statistic="training_rise"), f"{P}.second: training_rise is of one method alone. Remove this key"),
        (part(context=65), f"{P}.context: unknown context of that experiment 65"),
        (part(rule="over"), f"{P}.rule: unknown value over (did you mean above?)"),
        (part(relevant=0), f"{P}.relevant: should be greater than 0, not 0"),
        (part(relevance=1), f"{P}.relevance: unknown key (did you mean relevant?)"),
        ({"claims": {"better": {"parts": []}}}, "claims.better.parts: should have at least 1 item, not 0"),
        (part(statistic="credit_error"), f"{P}.audit: missing; credit_error is made from one"),
        (
            part(statistic="credit_error", experiment=None, audit="dep"),
            f"{P}.audit: unknown audit dep (did you mean deep?)",
        ),
        (
            part(statistic="credit_error", experiment=None, audit="deep", second="GRPO"),
            f"{P}.first: unknown estimator of that audit chain (did you mean chain N=2?)",
        ),
        (audit(experiment="oen"), "audits.deep.experiment: unknown experiment oen (did you mean one?)"),
        (audit(method="pop"), "audits.deep.method: unknown method of that experiment pop (did you mean ppo?)"),
        (audit(method="chain"), f"{E}.the critic.kind: critic, but audits.deep.method is chain, which trains none"),
        (audit(audit={"estimators": {"x": {}}}), f"{E}.x.kind: missing (there are chain, tree, group, critic,"),
        (audit(audit={"estimators": {"x": {"kind": "pairs"}}}), f"{E}.x.kind: pairs estimates no advantages. Choose"),
        (
            audit(audit={"estimators": {"chain N=2": {"partition": {"name": "line"}}}}),
            f"{E}.chain N=2.partition.name: unknown partition line (did you mean lines?)",
        ),
        (audit(audit={"problems": 301}), "audits.deep.audit.problems: 301, but datasets.tales.validation is 300"),
        ({"traces": {"look": {"experiment": "x"}}}, "traces.look.experiment: unknown experiment x"),
        ({"traces": {"look": {"method": "gpro"}}}, "traces.look.method: unknown method of that experiment gpro"),
        ({"traces": {"look": {"trace": {"problems": 301}}}}, "traces.look.trace.problems: 301, but"),
        (
            {"traces": {"look": {"trace": {"chain": {"partition": {"name": "x"}}}}}},
            "traces.look.trace.chain.partition.name: unknown partition x",
        ),
        ({"figures": {"error": {"audit": None}}}, "figures.error.audit: missing; credit_error is made from one"),
        ({"figures": {"error": {"audit": "x"}}}, "figures.error.audit: unknown audit x"),
        (
            {"figures": {"cuts": {"experiment": "one"}}},
            "figures.cuts.experiment: segments is made from `trace` alone. Remove this key",
        ),
        ({"figures": {"cuts": {"trace": "loko"}}}, "figures.cuts.trace: unknown trace loko (did you mean look?)"),
        ({"figures": {"bars": {"trace": "look"}}}, "figures.bars.trace: accuracy_bars is made from `experiment` alone"),
        (
            {"figures": {"bars": {"experiment": None}}},
            "figures.bars.experiment: missing; accuracy_bars is made from one",
        ),
        ({"replace": ["claims"]}, "tables.verdicts.make: claims_table, but the study has no `claims`"),
        ({"figures": {"audit": MORE["figures"]["cuts"]}}, "figures.audit: audit is the name of a rule"),
    ],
)
def test_what_does_not_fit_together_is_one_line(tmp_path: Path, changes: dict, expected: str) -> None:
    changed = layers.stack([MORE, changes])
    with pytest.raises(UserError) as error:
        config.pictures(study(tmp_path, changed))
    assert any(line.partition(": ")[2].startswith(expected) for line in str(error.value).splitlines())


# ---- which validation accuracy --------------------------------------------------------------------------------------

CURVES = {"figures": {"curves": {"draw": "learning_curves", "title": "Curves", "experiment": "one"}}}
SAMPLES = {"training": {"validation_samples": 16, "validation_sampling": {"temperature": 0.35}}}


def shown_metrics(folder: Path, *changes: dict) -> tuple[str, str, str]:
    """Metrics of the learning curves, of the table of tuning and of the claim's `late_accuracy`."""
    merged = CURVES
    for change in changes:
        merged = layers.merge(merged, change)
    pictures = config.pictures(more(folder, merged))
    part = pictures["verdicts"].claims[0].parts[0]
    return pictures["curves"].metric, pictures["search"].metric, part.metric


def test_validation_is_greedy_without_samples_and_sampled_where_all_runs_have_them(tmp_path: Path) -> None:
    greedy, sampled = "validation_accuracy", "validation_sampled_accuracy"
    assert shown_metrics(tmp_path) == (greedy,) * 3
    assert shown_metrics(tmp_path, SAMPLES) == (sampled,) * 3
    # PPO is among the curves and neither in the table nor in the claim.
    without = {"experiments": {"one": {"overrides": {"ppo": {"validation_samples": 0}}}}}
    assert shown_metrics(tmp_path, SAMPLES, without) == (greedy, sampled, sampled)
    asked = {"figures": {"curves": {"metric": greedy}}, "tables": {"search": {"metric": greedy}}}
    assert shown_metrics(tmp_path, SAMPLES, asked) == (greedy, greedy, sampled)


def test_a_figure_says_how_its_validation_was_sampled(tmp_path: Path) -> None:
    pictures = config.pictures(more(tmp_path, layers.merge(CURVES, SAMPLES)))
    assert pictures["curves"].sampled == "16 samples per problem at temperature 0.35"
    assert pictures["verdicts"].sampled == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"figures": {"curves": {"metric": "validation_sampled_accuracy"}}},
            "figures.curves.metric: validation_sampled_accuracy, but validation_samples of grpo in experiments.one is",
        ),
        (
            {"figures": {"bars": {"metric": "validation_accuracy"}}},
            "figures.bars.metric: accuracy_bars shows no validation accuracy. Remove this key",
        ),
        (
            {"tables": {"contexts": {"metric": "validation_accuracy"}}},
            "tables.contexts.metric: context_table shows no validation accuracy. Remove this key",
        ),
        (
            {"figures": {"curves": {"metric": "validation_acuracy"}}},
            "figures.curves.metric: unknown value validation_acuracy (did you mean validation_accuracy?)",
        ),
    ],
)
def test_a_metric_that_runs_do_not_have_is_refused(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        more(tmp_path, layers.merge(CURVES, changes))
    assert expected in str(refused.value)


# ---- quoted bars ----------------------------------------------------------------------------------------------------

QUOTED = {
    "methods": {"restem": {"label": "RestEM", "train": {"credit": {"kind": "accepted"}}}},
    "figures": {"bars": {"quoted": ["restem"], "paper": "fig9"}},
}


def test_quoted_bars_have_the_papers_numbers(tmp_path: Path) -> None:
    (quoted,) = config.pictures(more(tmp_path, QUOTED))["bars"].quoted
    assert (quoted.label, quoted.number.value, quoted.number.where) == ("RestEM", 34.9, "Fig. 9")
    assert "VinePPO" in quoted.number.note


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"figures": {"bars": {"quoted": ["restm"]}}},
            "figures.bars.quoted.0: unknown method restm (did you mean restem?)",
        ),
        ({"figures": {"bars": {"quoted": ["grpo"]}}}, "figures.bars.quoted.0: grpo is run in experiments.one and"),
        ({"figures": {"bars": {"paper": None}}}, "figures.bars.paper: missing; `quoted` takes its numbers from there"),
        ({"figures": {"bars": {"draw": "learning_curves"}}}, "figures.bars.quoted: learning_curves has no bars"),
        (
            {"figures": {"bars": {"paper": "fig4c"}}},
            "figures.bars.quoted: the paper's numbers of this figure have none of",
        ),
    ],
)
def test_quoted_bars_that_cannot_be_are_refused(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        config.pictures(more(tmp_path, layers.merge(QUOTED, changes)))
    assert expected in str(refused.value)
