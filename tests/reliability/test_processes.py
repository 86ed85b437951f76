"""`train` in several processes as a person starts them, with `--processes` or torchrun, and how that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from spo import launch, store
from spo.errors import UserError
from spo.settings import Memory, Optimizer
from tests import tiny

ROOT = Path(__file__).parents[2]
SETTINGS = replace(tiny.BASE, iterations=3, optimizer=Optimizer(lr=1e-3, micro_batch_tokens=64))
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


def start(model, folder: Path, settings, *more: str, through=(), environment=None) -> subprocess.Popen:
    """Start the run of a study in `folder`."""
    file = tiny.study(folder, settings, model, datasets={"digits": {"grader": "gsm8k"}})
    command = [sys.executable, "-m", *through, "spo", "train", tiny.RUN, "--config", str(file), *more]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=variables, stdout=pipe, stderr=pipe, text=True)


def output(folder: Path) -> Path:
    return folder / "results/runs" / tiny.RUN


def state(folder: Path, name: str) -> list[Path]:
    """Files of that name in the folder of checkpoints, once there are any."""
    return sorted((folder / "results/state" / tiny.RUN).glob(f"*/{name}"))


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code, and what went to stderr."""
    try:
        _, error = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, error


@pytest.mark.slow
def test_started_either_way_two_processes_write_what_one_writes(model, tmp_path):
    ways = {"one": ((), ()), "two": ((), ("--processes", "2")), "torchrun": (TORCHRUN, ())}
    for name, (through, more) in ways.items():
        code, error = ended(start(model, tmp_path / name, SETTINGS, *more, through=through))
        assert code == 0, error
    expected = store.read_jsonl(output(tmp_path / "one") / "metrics.jsonl")
    assert len(expected) == 4 and any(0 < row["reward"] < 1 for row in expected[1:])
    assert sum(row["steps"] for row in expected[1:]) > 0 and max(row["grad_norm"] for row in expected[1:]) > 1e-6
    for name in ("two", "torchrun"):
        found = store.read_jsonl(output(tmp_path / name) / "metrics.jsonl")
        assert all(a == pytest.approx(b, rel=1e-5, abs=1e-5) for a, b in zip(expected, found, strict=True))
        files = [sorted(path.name for path in (output(tmp_path / way) / "model").iterdir()) for way in ("one", name)]
        assert files[0] == files[1] and "model.safetensors" in files[0]
    two, torchrun = ((output(tmp_path / name) / "model/model.safetensors").read_bytes() for name in ("two", "torchrun"))
    assert two == torchrun != (model / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("through", "more", "exit_code"), [((), ("--processes", "2"), 2), (TORCHRUN, (), 1)])
def test_a_mistake_is_said_once(through, more, exit_code, model, tmp_path):
    """torchrun adds its own report, and has one exit code for every failure."""
    process = start(model, tmp_path, replace(SETTINGS, max_prompt_tokens=2), *more, through=through)
    code, error = ended(process)
    lines = [line for line in error.splitlines() if "spo: " in line]
    assert code == exit_code and len(lines) == 1
    said = "study.yaml:1: training.max_prompt_tokens: 2, but the shortest prompt of digits has 7 tokens"
    assert lines[0].startswith("spo: ") and said in lines[0]


@pytest.mark.slow
def test_sigterm_finishes_the_iteration_of_all(model, tmp_path):
    settings = replace(SETTINGS, iterations=1000, checkpoint_every=1000)
    process = start(model, tmp_path, settings, "--processes", "2")
    until(lambda: state(tmp_path, "metrics.jsonl"))
    process.terminate()
    code, error = ended(process)
    assert code == 1 and error.count("spo: ") == 1 and "stopped by SIGTERM after iteration" in error
    done = int(error.split("after iteration ")[1].split(";")[0])
    assert max(path.name for path in state(tmp_path, "step-*")) == f"step-{done:06d}"
    assert len(store.read_jsonl(*state(tmp_path, "metrics.jsonl"))) == done + 1


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others(killed, model, tmp_path):
    process = start(model, tmp_path, replace(SETTINGS, iterations=1000), "--processes", "2")
    until(lambda: state(tmp_path, "metrics.jsonl"))
    children = psutil.Process(process.pid).children()
    rank = {child.environ()["RANK"]: child for child in children}
    rank[str(killed)].kill()
    code, error = ended(process)
    assert code == 1 and error.count("spo: ") == 1 and "another process of this run has ended" in error
    assert not any(child.is_running() for child in children)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("memory", [Memory(), Memory(weights="bfloat16", optimizer_device="cpu")], ids=str)
def test_on_two_gpus_two_processes_learn_what_one_learns(memory, model, tmp_path):
    settings = replace(SETTINGS, backend="hf", memory=memory, dtype=memory.weights)
    for name, more in (("one", ()), ("two", ("--processes", "2", "--gpus", "2"))):
        code, error = ended(start(model, tmp_path / name, settings, *more))
        assert code == 0, error
    one, two = (store.read_jsonl(output(tmp_path / name) / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 4 and all(row["grad_norm"] > 0 for row in two[1:])
    if memory.weights == "float32":  # low precision may sample other tokens
        for row, other in zip(one[1:], two[1:], strict=True):
            assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.01)


def until(condition, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_processes_that_die_before_they_can_say_so(monkeypatch, capsys):
    monkeypatch.setattr(launch, "POLL_S", 0.01)
    real = launch._start
    commands = iter((["-c", "kill -9 $$"], ["-c", "sleep 60"]))

    def start(arguments, at):
        with monkeypatch.context() as patch:
            popen = subprocess.Popen
            patch.setattr(subprocess, "Popen", lambda command, **more: popen(["/bin/sh", *next(commands)], **more))
            return real(arguments, at)

    monkeypatch.setattr(launch, "_start", start)
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    before = signal.getsignal(signal.SIGTERM)
    assert launch.run(["train"], 2) == 1
    assert capsys.readouterr().err == "spo: ended by SIGKILL; the same command continues\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_threads_are_divided_and_the_terminal_is_the_firsts(monkeypatch):
    seen, inherited = [], []
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == launch.TERMINAL)
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, env, pass_fds: seen.append(env) or inherited.append(pass_fds)
    )
    for threads in ("8", "1", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        launch._start([], launch.Place(1, 2, 1, 2, "file://nowhere"))
    assert [each["OMP_NUM_THREADS"] for each in seen] == ["4", "1", str(max(1, (os.cpu_count() or 1) // 2))]
    assert {name: seen[0][name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")} == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
    }
    launch._start([], launch.Place(0, 2, 0, 2, "file://nowhere"))
    assert inherited == [(), (), (), (launch.TERMINAL,)]


def test_a_place_is_read_and_forgotten(monkeypatch):
    told = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    told |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
    monkeypatch.setattr(os, "environ", told)
    assert launch.place() == launch.Place(3, 4, 1, 2, "env://")
    launch.forget()
    assert told == {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"} and launch.place() is None
    told |= {"RANK": "0", "WORLD_SIZE": "1"}
    assert launch.place() is None


def test_fewer_gpus_than_processes_are_one_line(model, tmp_path):
    """Names of GPUs stand in for GPUs."""
    settings = replace(SETTINGS, backend="hf")
    process = start(model, tmp_path, settings, "--processes", "2", environment={"CUDA_VISIBLE_DEVICES": "5"})
    code, error = ended(process)
    assert (code, error.count("\n")) == (2, 1)
    assert "resources: 2 processes share this run, each on a GPU of its own, and see 1; raise `gpus`" in error


def test_what_cannot_be_shared_is_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    launch.check(replace(SETTINGS, backend="engine"), 2)
    launch.check(replace(SETTINGS, backend="hf", memory=Memory(device="cpu")), 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    launch.check(replace(SETTINGS, backend="hf"), 2)
    with pytest.raises(UserError, match="memory.vllm_tensor_parallel: 2, but processes that share a run have a vLLM"):
        launch.check(replace(SETTINGS, backend="vllm", memory=Memory(vllm_tensor_parallel=2)), 3)


def test_only_training_is_shared(tmp_path):
    for rank, said in (("0", "spo: torchrun: `train` alone can be shared"), ("1", "")):
        command = [sys.executable, "-m", "spo", "grade-file", "--grader", "math", "--input", "x", "--output", "y"]
        variables = os.environ | {"RANK": rank, "WORLD_SIZE": "2"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and done.stderr.startswith(said) and done.stderr.count("\n") == bool(said)
