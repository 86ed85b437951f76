"""A wrong config, as a user meets it: a line for each mistake, exit code 2, nothing run and nothing deleted."""

from __future__ import annotations

import sys

import pytest

from tests.workflow.conftest import Checkout

#: Snakemake says this before it reads anything of ours.
ANNOUNCEMENT = "Using workflow specific profile profiles/default for setting default command line arguments."

MISTAKES = {
    "missing": (("    source: stories\n", ""), "config/config.yaml:12: datasets.stories.source: missing"),
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
        "audits.credit.audit.estimators.RLOO.kind: unknown kind grop (did you mean group?)",
    ),
    "claim": (
        ("statistic: late_accuracy,", "statistic: late_acuracy,"),
        "claims.tree_shapes.parts.1.statistic: unknown statistic late_acuracy (did you mean late_accuracy?)",
    ),
    "same key twice": (
        ("study: laptop", "study: laptop\nstudy: other"),
        "config/config.yaml:8: study: the same key is given twice. Remove one of them",
    ),
    "tab": (("  stories:\n", "\tstories:\n"), "config/config.yaml:12: a tab. Indent YAML with spaces"),
}


def lines(ended) -> list[str]:
    assert ended.out == "", ended.text
    return [line for line in ended.err.splitlines() if line != ANNOUNCEMENT]


def only_line(ended) -> str:
    (line,) = lines(ended)
    return line


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_one_line(checkout: Checkout, mistake: str) -> None:
    change, expected = MISTAKES[mistake]
    checkout.edit("config/config.yaml", change)
    treasure = checkout.folder / "results/models/pupil/model.safetensors"
    treasure.parent.mkdir(parents=True)
    treasure.write_bytes(b"dear")
    ended = checkout.snakemake("--cores", "1")
    assert ended.code == 2
    assert expected in only_line(ended)
    assert treasure.read_bytes() == b"dear"
    assert not list(checkout.folder.glob(".snakemake/locks/*"))


def test_an_empty_file_is_one_line(checkout: Checkout) -> None:
    (checkout.folder / "config/config.yaml").write_text("", encoding="utf-8")
    ended = checkout.snakemake("-n")
    assert ended.code == 2
    assert only_line(ended) == "config/config.yaml: the file is empty. Give it at least one key"


def test_an_overlay_is_checked_like_everything_else(checkout: Checkout) -> None:
    overlay = checkout.overlay("mine.yaml", {"experiments": {"short_cot": {"methods": ["grpo", "spo_chian"]}}})
    ended = checkout.snakemake("-n", *overlay)
    assert ended.code == 2
    expected = "mine.yaml:5: experiments.short_cot.methods.1: unknown method spo_chian (did you mean spo_chain?)"
    assert only_line(ended) == expected


def test_all_mistakes_are_named_at_once_by_the_dry_run_and_by_check(checkout: Checkout) -> None:
    overlay = checkout.overlay("mine.yaml", {"training": {"epochs": 0, "iterationss": 2}})
    ended = checkout.snakemake("-n", *overlay, "--config", "study=A")
    expected = [
        "mine.yaml:2: training.epochs: should be at least 1, not 0",
        "mine.yaml:3: training.iterationss: unknown key (did you mean iterations?)",
    ]
    command_line = "--config: study: names have lower-case letters, digits, '_' and '.', at most 64 of them, not 'A'"
    assert (ended.code, lines(ended)) == (2, [*expected, command_line])
    checked = checkout.run(sys.executable, "-m", "spo", "check", "config/config.yaml", "mine.yaml")
    assert (checked.code, checked.err.splitlines()) == (2, [f"spo: {line}" for line in expected])


def test_what_an_overlay_leaves_without_a_subject_is_said(checkout: Checkout) -> None:
    overlay = checkout.overlay("mine.yaml", {"experiments": {"short_cot": {"methods": ["grpo", "spo_chain"]}}})
    ended = checkout.snakemake("-n", *overlay)
    assert ended.code == 0, ended.text
    said = [line for line in ended.err.splitlines() if " is left out: " in line]
    assert len(said) == 12 and any("audits.credit is left out" in line for line in said)


def test_a_json_overlay_indented_with_tabs_is_read(checkout: Checkout) -> None:
    (checkout.folder / "mine.json").write_text('{\n\t"training": {\n\t\t"epochs": 0\n\t}\n}\n', encoding="utf-8")
    ended = checkout.snakemake("-n", "--configfile", "mine.json")
    assert only_line(ended) == "mine.json:3: training.epochs: should be at least 1, not 0"


@pytest.mark.parametrize("content", ["", "a:\n\tb: 1\n"], ids=["empty", "tab"])
def test_snakemake_itself_reports_an_overlay_that_is_no_yaml(checkout: Checkout, content: str) -> None:
    """It reads `--configfile` before anything of ours can; `check` says more."""
    (checkout.folder / "mine.yaml").write_text(content, encoding="utf-8")
    ended = checkout.snakemake("-n", "--configfile", "mine.yaml")
    assert ended.code == 1 and "Traceback" not in ended.text
    checked = checkout.run(sys.executable, "-m", "spo", "check", "config/config.yaml", "mine.yaml")
    assert checked.code == 2 and len(checked.err.splitlines()) == 1


def test_an_unknown_target_is_named(checkout: Checkout) -> None:
    ended = checkout.snakemake("-n", "results/runs/pupil-stories-nothing-s1/metrics.jsonl")
    assert ended.code == 1 and "Traceback" not in ended.text
    assert "pupil-stories-nothing-s1" in ended.text
