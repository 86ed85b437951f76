"""A figure that cannot be drawn stops a study before it trains."""

from __future__ import annotations

import re

from tests.workflow.conftest import SMOKE

LONG = {"figures": {"fig3a": {"title": "accuracy " * 300}}}


def test_a_title_that_cannot_be_drawn_ends_the_study_before_training(checkout):
    _, name = checkout.overlay("mine.yaml", LONG)
    ended = checkout.snakemake("models", "--cores", "1", *SMOKE, name)
    assert ended.code == 1
    assert "Traceback" not in ended.text
    said = re.findall(r"^spo: (.*)$", ended.text, flags=re.MULTILINE)
    assert len(set(said)) == 1 and re.fullmatch(r"figures\.\w+: its labels leave no room to draw in; .*", said[0])
    assert not list(checkout.folder.glob("results/smoke/models/*")) and not list(
        checkout.folder.glob("results/smoke/runs/*")
    )


def test_what_was_rehearsed_is_rehearsed_again_only_if_it_changed(checkout):
    """And only before jobs that take long: data alone need no rehearsal."""
    done = checkout.folder / "results/smoke/rehearsal.txt"
    data, model = "results/smoke/data/stories/train.jsonl", "results/smoke/models/pupil/model.safetensors"
    assert checkout.snakemake(data, "--cores", "1", *SMOKE).code == 0
    assert not done.exists()
    assert checkout.snakemake(model, "--cores", "1", *SMOKE).code == 0
    first = done.read_text()
    assert "figures.fig3a\n" in first and first.endswith("report\n")
    again = checkout.snakemake(model, "--cores", "1", "--forcerun", "sft", *SMOKE)
    assert again.code == 0 and done.read_text() == first
    checkout.overlay("mine.yaml", {"methods": {"grpo": {"label": "GRPO \U00012000"}}})
    assert "Nothing to be done" in checkout.snakemake(model, "-n", *SMOKE, "mine.yaml").text
    other = checkout.snakemake(model, "--cores", "1", "--forcerun", "sft", *SMOKE, "mine.yaml")
    assert other.code == 0 and done.read_text().splitlines()[0] != first.splitlines()[0]
    assert "Drawn as boxes" in other.text and "(U+12000)" in other.text
