"""Ctrl-C during a training run of Snakemake, pressed in a terminal as a person does, and the same command again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spo import store
from tests import tiny
from tests.reliability.test_ctrl_c import CTRL_C, Terminal
from tests.reliability.test_processes import until
from tests.workflow.conftest import Checkout, copy_to

pytestmark = pytest.mark.slow

#: A study with one run, of local problems and a local model.
STUDY = {
    "study": "one",
    "results": "results/one",
    "pictures": "results/one/figures",
    "replace": ["datasets", "models", "protocols", "training", "methods", "experiments", "style"]
    + ["audits", "traces", "figures", "tables", "claims"],
    "datasets": {
        "digits": {"source": "gsm8k", "grader": "gsm8k", "path": "data", "train": 30, "validation": 8, "test": 6}
    },
    "models": {"tiny": {"path": "model"}},
    "protocols": {"greedy": {}},
    "training": {
        "iterations": 400,
        "problems_per_iteration": 4,
        "context_tokens": 20,
        "max_response_tokens": 10,
        "batch_episodes": 8,
        "validate_every": 100,
        "validation_problems": 8,
        "checkpoint_every": 400,
        "unfinished_reward": "graded",
        "optimizer": {"lr": 1e-3},
    },
    "methods": {"grpo": {"label": "GRPO", "train": {"credit": {"kind": "group", "samples_per_problem": 4}}}},
    "experiments": {
        "e": {
            "model": "tiny",
            "dataset": "digits",
            "methods": ["grpo"],
            "seeds": [1],
            "contexts": [20],
            "protocols": ["greedy"],
        }
    },
}
RUN = "tiny-digits-grpo-s1"
SAME = (f"results/one/runs/{RUN}/metrics.jsonl", f"results/one/runs/{RUN}/model/model.safetensors")
ARGUMENTS = ("--cores", "1", "models", "--configfile", "one.yaml")


def checkout_with_a_study(folder: Path) -> Checkout:
    checkout = copy_to(folder)
    tiny.model(folder / "model")
    for split, numbers in (("train", range(40)), ("test", range(50, 56))):
        rows = [
            {"question": f"Digits: {i % 10} {i // 10} {(7 * i + 2) % 10}.", "answer": f"#### {i % 10}"} for i in numbers
        ]
        store.write_jsonl(folder / f"data/{split}.jsonl", rows)
    checkout.overlay("one.yaml", STUDY)
    return checkout


def test_ctrl_c_is_one_line_and_the_same_command_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, stopped = (checkout_with_a_study(tmp_path / name) for name in ("whole", "stopped"))
    ended = whole.snakemake(*ARGUMENTS)
    assert ended.code == 0, ended.text
    rows = store.read_jsonl(whole.folder / SAME[0])
    assert len({row["reward"] for row in rows[1:]}) > 1 and max(row["grad_norm"] for row in rows[1:]) > 0

    terminal = Terminal([sys.executable, "-m", "snakemake", *ARGUMENTS], stopped.folder)
    log = stopped.folder / f"results/one/logs/train/{RUN}.log"
    until(lambda: log.exists() and f"{RUN} 5/400" in log.read_text(encoding="utf-8"))
    terminal.press(CTRL_C)
    assert terminal.end() == 1
    said = (stopped.folder / "errors").read_text(encoding="utf-8")
    (line,) = [line for line in said.splitlines() if line.startswith("spo: ")]
    assert line.startswith(f"spo: {RUN}: stopped by Ctrl-C after iteration ")
    assert line.endswith("; the same command continues") and "  reward " not in said

    again = stopped.snakemake(*ARGUMENTS)
    assert again.code == 0, again.text
    assert f"{RUN}: resuming after iteration " in log.read_text(encoding="utf-8")
    assert stopped.files(*SAME) == whole.files(*SAME) != {}
