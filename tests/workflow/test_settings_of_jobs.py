"""Settings and local files of jobs: what a change repeats, and command lines that hold names alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time

import pytest

from spo import store
from tests import tiny
from tests.workflow.conftest import SMOKE, Checkout, environment, finish

DONE = "Nothing to be done"


def test_a_new_setting_with_a_default_repeats_nothing(finished: Checkout) -> None:
    new = '    brand_new: Positive = 7\n    """New."""\n'
    for name, keys in {
        "training": ("iterations", "kl_over", "batch_rows"),
        "models": ("beta1", "steps", "kv_heads", "revision"),
        "methods": ("rollouts_per_cut", "segments"),
    }.items():
        finished.edit(f"spo/settings/{name}.py", *((f"\n    {key}: ", f"\n{new}    {key}: ") for key in keys))
    assert DONE in finished.snakemake("-n").text


def test_a_default_that_is_written_out_repeats_nothing(finished: Checkout) -> None:
    finished.edit(
        "config/config.yaml", ("  loss: {", "  validation_samples: 0\n  loss: {whiten: false, clip_range: 0.2, ")
    )
    assert DONE in finished.snakemake("-n").text


def test_settings_of_memory_repeat_nothing(finished: Checkout) -> None:
    finished.edit("config/config.yaml", ("micro_batch_tokens: 2048}", "micro_batch_tokens: 1024}"))
    assert DONE in finished.snakemake("-n").text


REPLACED = ("datasets", "models", "methods", "experiments", "figures", "tables", "audits", "traces", "claims", "style")
#: A folder whose name a shell would run, split and unquote
ODD = "My Models/it's {x} $(touch pwned)"


@pytest.fixture
def own(checkout: Checkout) -> Checkout:
    """A study of a local model and local data, with another dataset that nobody edits."""
    folder = checkout.folder / ODD
    tiny.model(folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}\n", encoding="utf-8")
    for split, numbers in (("train", range(12)), ("test", range(20, 24))):
        rows = [{"question": f"Digits: {i % 10} {i // 10} 3.", "answer": "So #### 3"} for i in numbers]
        store.write_jsonl(checkout.folder / f"my data/{split}.jsonl", rows)
    sizes = {"train": 8, "validation": 4, "test": 4}
    experiment = {"model": "given", "dataset": "own", "methods": ["grpo"], "seeds": [1], "contexts": [20]}
    overlay = {
        "replace": [*REPLACED],
        "methods": {"grpo": {"label": "GRPO", "train": {"credit": {"kind": "group"}}}},
        "datasets": {
            "own": {"source": "gsm8k", "grader": "gsm8k", "path": "my data"} | sizes,
            "other": {"source": "stories", "grader": "final_line"} | sizes,
        },
        "models": {"given": {"path": ODD}},
        "training": {
            "iterations": 1,
            "problems_per_iteration": 2,
            "context_tokens": 20,
            "max_response_tokens": 4,
            "validation_problems": 2,
        },
        "experiments": {
            "e": experiment | {"evaluate_on": ["own"], "protocols": ["greedy"]},
        },
    }
    checkout.overlay("own.yaml", overlay)
    return checkout


OWN = ("scores", "--configfile", "own.yaml")


def repeated(study: Checkout) -> set[str]:
    """Jobs that a dry run would do, as their messages name them."""
    ended = study.snakemake("-n", *OWN)
    assert ended.code == 0, ended.text
    return set(re.findall(r"^Job \d+: (.+)$", ended.text, flags=re.MULTILINE))


ALL = {"prepare own", "train given-own-grpo-s1"}
ALL |= {
    f"{rule} {policy}/own/greedy"
    for rule in ("generate", "grade", "score")
    for policy in ("given", "given-own-grpo-s1")
}


def test_an_edited_line_of_data_repeats_what_depends_on_it(own: Checkout) -> None:
    finish(own, *OWN)
    assert repeated(own) == set()
    path = own.folder / "my data/train.jsonl"
    path.touch()
    assert repeated(own) == set()
    (own.folder / "my data/notes.txt").write_text("nobody reads this")
    assert repeated(own) == set()
    path.write_text(path.read_text().replace("So ####", "Thus ####", 1))
    assert repeated(own) == ALL


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_an_edited_file_of_a_model_repeats_what_depends_on_it(own: Checkout, name: str) -> None:
    finish(own, *OWN)
    path = own.folder / ODD / name
    path.touch()
    assert repeated(own) == set()
    data = bytearray(path.read_bytes())
    if name == "tokenizer.json":
        data += b"\n"
    else:
        data[-2] ^= 1
    path.write_bytes(data)
    assert repeated(own) == ALL - {"prepare own"}


def test_an_added_and_a_removed_file_of_a_model_repeat_what_depends_on_it(own: Checkout) -> None:
    finish(own, *OWN)
    added = own.folder / ODD / "special_tokens_map.json"
    added.write_text("{}")
    assert repeated(own) == ALL - {"prepare own"}
    added.unlink()
    assert repeated(own) == set()
    (own.folder / ODD / "chat_template.jinja").unlink()
    assert repeated(own) == ALL - {"prepare own"}


@pytest.mark.slow
def test_paths_that_a_shell_would_run_are_names(own: Checkout) -> None:
    ended = own.snakemake("--cores", "1", *OWN)
    assert ended.code == 0, ended.text
    assert not list(own.folder.rglob("pwned"))
    # A line of the terminal can be typed again, and finds the work done.
    shutil.rmtree(own.folder / "results/runs")
    line = ("-m", "spo", "train", "given-own-grpo-s1", "--config", "results/config.json")
    again = own.run(sys.executable, *line)
    assert again.code == 0 and "resuming after iteration 1 of 1" in again.out, again.text


def test_command_lines_hold_names_alone(checkout: Checkout) -> None:
    """However many seeds a study has, and whatever letters its labels."""
    seeds = {name: {"seeds": list(range(1, 46))} for name in ("short_cot", "long_cot")}
    label = {"grpo": {"label": "GRPO \u2212 \u03b2"}}
    ended = checkout.snakemake("-n", "-p", *checkout.overlay("m.yaml", {"experiments": seeds, "methods": label}))
    assert ended.code == 0, ended.text
    lines = re.findall(r"python -m spo .*$", ended.text, flags=re.MULTILINE)
    assert len(lines) > 1000
    assert max(map(len, lines)) < 300 and all(line.isascii() and "{" not in line for line in lines)


@pytest.mark.parametrize("name", ["ascii", "latin-1"])
def test_labels_of_any_letters_need_no_locale(checkout: Checkout, name: str) -> None:
    overlay = checkout.overlay("m.yaml", {"methods": {"grpo": {"label": "GRPO \u2212 \u03b2"}}})
    variables = (f"PYTHONIOENCODING={name}:strict", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0", "LC_ALL=C")
    target = "results/smoke/data/stories/train.jsonl"
    command = (sys.executable, "-m", "snakemake", "--cores", "1", "-p", target, *SMOKE, overlay[1])
    ended = checkout.run("env", *variables, *command)
    assert ended.code == 0 and "Logging error" not in ended.text, ended.text
    assert (checkout.folder / "results/smoke/logs/prepare/stories.log").exists()
    study = json.loads((checkout.folder / "results/smoke/config.json").read_bytes())
    assert study["methods"]["grpo"]["label"] == "GRPO \u2212 \u03b2"
    assert study["files"] == ["config/config.yaml", "config/smoke.yaml", "m.yaml"]


@pytest.mark.slow
def test_a_study_that_is_edited_while_it_runs_stays_as_it_was(checkout: Checkout) -> None:
    """Nor does a second Snakemake with the edited study disturb the first."""
    target = "results/smoke/runs/pupil-stories-grpo-s1/metrics.jsonl"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", target, *SMOKE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=checkout.folder, env=environment(), stdout=pipe, stderr=pipe) as first:
        while not (checkout.folder / "results/smoke/data/stories/manifest.json").exists():
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.1)
        checkout.edit("config/smoke.yaml", ("  iterations: 2\n", "  iterations: 3\n"))
        other = checkout.snakemake("--cores", "1", "results/smoke/data/knights/manifest.json", *SMOKE)
        assert other.code == 0, other.text
        _, error = first.communicate(timeout=300)
    assert first.returncode == 0, error
    assert [row["iteration"] for row in store.read_jsonl(checkout.folder / target)] == [0, 1, 2]
    assert len(list((checkout.folder / "results/smoke/config").iterdir())) == 2
    assert "train pupil-stories-grpo-s1" in checkout.snakemake("-n", target, *SMOKE).text


def test_results_of_an_earlier_version_are_one_line_and_stay(finished: Checkout) -> None:
    (finished.folder / "results/config.json").unlink()
    before = finished.files("results/**/*")
    ended = finished.snakemake("--cores", "1")
    assert ended.code == 2 and ended.err.splitlines()[-1].startswith("config: results: results has runs of an earlier")
    assert finished.files("results/**/*") == before
