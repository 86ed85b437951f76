"""A wrong config, as a user meets it: one line, exit code 2, under three seconds, nothing run and nothing deleted."""

from __future__ import annotations

import pytest

from tests.workflow.conftest import Checkout

#: Snakemake says this before it reads anything of ours.
ANNOUNCEMENT = "Using workflow specific profile profiles/default for setting default command line arguments."
LIMIT_S = 3.0

MISTAKES = {
    "missing": (("    source: stories\n", ""), "config: datasets.stories.source: missing"),
    "misspelt": (
        ("rollouts_per_cut:", "rollouts_per_cuts:"),
        "rollouts_per_cuts: unknown key (did you mean rollouts_per_cut?)",
    ),
    "wrong type": (
        ("problems_per_iteration: ", "problems_per_iteration: many # "),
        "should be a whole number, not 'many'",
    ),
    "out of range": (
        ("samples_per_problem: 1}", "samples_per_problem: 0}"),
        "samples_per_problem: should be at least 1, not 0",
    ),
    "unknown name": (("    draw: accuracy_bars", "    draw: acuracy_bars"), "(did you mean accuracy_bars?)"),
    "estimator of an audit": (
        ("RLOO: {kind: group,", "RLOO: {kind: grop,"),
        "config: audits.credit.audit.estimators.RLOO.kind: unknown kind grop (did you mean group?)",
    ),
    "claim": (
        ("statistic: late_accuracy,", "statistic: late_acuracy,"),
        "config: claims.tree_shapes.parts.1.statistic: unknown statistic late_acuracy (did you mean late_accuracy?)",
    ),
    "same key twice": (
        ("study: laptop", "study: laptop\nstudy: other"),
        "config: study: the same key twice (config/config.yaml, lines",
    ),
    "tab": (("  stories:\n", "\tstories:\n"), "a tab; YAML is indented with spaces"),
}


def only_line(ended) -> str:
    lines = [line for line in ended.err.splitlines() if line != ANNOUNCEMENT]
    assert len(lines) == 1 and ended.out == "", ended.text
    return lines[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_one_line_and_three_seconds(checkout: Checkout, mistake: str) -> None:
    change, expected = MISTAKES[mistake]
    checkout.edit("config/config.yaml", change)
    treasure = checkout.folder / "results/models/pupil/model.safetensors"
    treasure.parent.mkdir(parents=True)
    treasure.write_bytes(b"dear")
    ended = checkout.snakemake("--cores", "1")
    assert ended.code == 2
    assert expected in only_line(ended)
    assert ended.seconds < LIMIT_S
    assert treasure.read_bytes() == b"dear"
    assert not list(checkout.folder.glob(".snakemake/locks/*"))


def test_an_empty_file_is_one_line(checkout: Checkout) -> None:
    (checkout.folder / "config/config.yaml").write_text("", encoding="utf-8")
    ended = checkout.snakemake("-n")
    assert ended.code == 2
    assert only_line(ended) == "config: config/config.yaml is empty; it needs at least one key"


def test_an_overlay_is_checked_like_everything_else(checkout: Checkout) -> None:
    overlay = checkout.overlay("mine.yaml", {"experiments": {"short_cot": {"methods": ["grpo", "spo_chian"]}}})
    ended = checkout.snakemake("-n", *overlay)
    assert ended.code == 2
    expected = "config: experiments.short_cot.methods: unknown method spo_chian (did you mean spo_chain?)"
    assert only_line(ended) == expected


@pytest.mark.parametrize("content", ["", "a:\n\tb: 1\n"], ids=["empty", "tab"])
def test_snakemake_itself_reports_an_overlay_that_is_no_yaml(checkout: Checkout, content: str) -> None:
    """It reads `--configfile` before anything of ours can; `check` says more."""
    (checkout.folder / "mine.yaml").write_text(content, encoding="utf-8")
    ended = checkout.snakemake("-n", "--configfile", "mine.yaml")
    assert ended.code == 1 and "Traceback" not in ended.text and ended.seconds < LIMIT_S
    checked = checkout.run("python", "-m", "spo", "check", "config/config.yaml", "mine.yaml")
    assert checked.code == 2 and len(checked.err.splitlines()) == 1


def test_an_unknown_target_is_named(checkout: Checkout) -> None:
    ended = checkout.snakemake("-n", "results/runs/pupil-stories-nothing-s1/metrics.jsonl")
    assert ended.code == 1 and "Traceback" not in ended.text
    assert "pupil-stories-nothing-s1" in ended.text
