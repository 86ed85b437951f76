"""The benchmark runs, and what it reports are numbers that can be true."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_rollouts_writes_one_row_a_shape_and_way(tmp_path):
    output = tmp_path / "rollouts.csv"
    command = [sys.executable, "benchmarks/rollouts.py", "--prompts", "1", "--repeats", "1", "--output", str(output)]
    run = subprocess.run(command, cwd=ROOT, env=os.environ, check=True, capture_output=True, text=True)
    rows = {(row["shape"], row["way"]): row for row in csv.DictReader(output.read_text().splitlines())}
    ways = ("engine", "engine_plain", "hf", "generate", "vllm", "floor")
    # One prompt: 4 responses; 4 of them with 5 boundaries and 5 rollouts each; 8 nodes with 4 children of 40 tokens.
    sizes = {"samples": 4, "monte_carlo": 100, "tree": 32}
    assert {key: int(row["rows"]) for key, row in rows.items()} == {(s, w): n for s, n in sizes.items() for w in ways}
    for (shape, way), row in rows.items():
        assert f"{shape:<12} {way}" in run.stdout
        if way == "vllm" and importlib.util.find_spec("vllm") is None:
            assert row["note"] == "not installed" and row["tokens_per_s"] == ""
            continue
        speeds = float(rows[shape, "engine"]["tokens_per_s"]) / float(row["tokens_per_s"])
        assert float(row["engine_over_this"]) == pytest.approx(speeds, rel=1e-2)
        assert (0 < float(row["this_over_floor"]) < 1) != (way == "floor")
        assert float(row["first_quartile"]) <= float(row["tokens_per_s"]) <= float(row["third_quartile"])


@pytest.mark.slow
def test_training_writes_one_row_a_way(tmp_path):
    pytest.importorskip("trl", reason="trl is not installed: pip install -e '.[test]'")
    output = tmp_path / "training.csv"
    command = [sys.executable, "benchmarks/training.py", "--shapes", "tree_444", "--repeats", "1"]
    subprocess.run([*command, "--output", str(output)], cwd=ROOT, env=os.environ, check=True, capture_output=True)
    rows = {(row["way"], row["dtype"]): row for row in csv.DictReader(output.read_text().splitlines())}
    assert set(rows) == {(way, "float32") for way in ("trl", "padded", "hf", "engine")} | {
        (way, "bfloat16") for way in ("trl", "padded", "engine")
    }
    for (way, dtype), row in rows.items():
        assert int(row["rows"]) == 32 and float(row["distinct_share"]) < 0.6
        assert float(row["floor_over_this"]) < 1
        seconds = float(rows["trl", dtype]["seconds"]) / float(row["seconds"])
        assert float(row["trl_over_this"]) == pytest.approx(seconds, rel=1e-2), way


def memory(*arguments):
    command = [sys.executable, "benchmarks/memory.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


@pytest.mark.slow
def test_memory_writes_one_row_a_context_and_way(tmp_path):
    run = memory("--tiny", "--repeats", "1", "--output", str(tmp_path / "memory.csv"))
    assert run.returncode == 0, run.stderr
    rows = list(csv.DictReader((tmp_path / "memory.csv").read_text().splitlines()))
    assert len(rows) == 2 * 5 and {row["context_tokens"] for row in rows} == {"64", "128"}
    for row in rows:
        assert row["way"] in run.stdout and row["model"] == "tiny" and row["step_tokens"] == "256"
        assert float(row["peak_gib"]) > 0 and float(row["tokens_per_s"]) > 0


@pytest.mark.slow
def test_memory_knows_the_models_parameters():
    """TinyLlama and Qwen2.5-1.5B have these, as their pages say; 16 bytes each are 16.4 GiB of the former."""
    rows = [line.split() for line in memory("--plan").stdout.splitlines()]
    assert ["llama-1.1b", "1,100,048,384", "16.4", "0.0", "float32"] in rows
    assert ["qwen-1.5b", "1,543,714,304", "25.9", "0.0", "bfloat16"] in rows


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_memory_without_a_gpu_says_so_in_one_line():
    run = memory()
    assert run.returncode == 2 and run.stderr == "memory.py: PyTorch finds no GPU here; --plan and --tiny need none\n"
