"""What a person at a terminal sees: one line for a mistake, progress where somebody looks."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from spo import store
from spo.settings import Memory
from spo.training import loop
from tests import tiny

ROOT = Path(__file__).parents[2]
WITH_PACKAGE = os.environ | {"PYTHONPATH": str(ROOT)}


def spo(*arguments: str, at=None, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a command started in the folder `at`."""
    command = [sys.executable, "-m", "spo", *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    done = subprocess.run(command, cwd=at, env=variables, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.fixture
def study(tmp_path):
    """A working folder with a model and the problems of the tiny task."""
    tiny.model(tmp_path / "model")
    tiny.study(tmp_path)
    return tmp_path


def train(study, settings, *more: str) -> tuple[int, str]:
    file = tiny.study(study, settings)
    return spo("train", tiny.RUN, "--config", str(file), *more, at=study)


def prepare(folder, settings: dict, **variables: str) -> tuple[int, str]:
    """Prepare the dataset `x`."""
    store.write_text(folder / "x.yaml", json.dumps({"datasets": {"x": settings}}))
    return spo("prepare", "x", "--config", "x.yaml", at=folder, environment=variables)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"question": "1 + 1?"}', "train.jsonl:2: field 'answer' is missing, empty or not text"),
        ('{"question": "1 + 1?", "answer": "2"}', "train.jsonl:2: "),
        ('{"question": ', "train.jsonl:2: not valid JSON"),
        ("[1]", "train.jsonl:2: expected a JSON object, found a list"),
    ],
)
def test_a_malformed_row_is_one_line_and_nothing_is_written(row, said, tmp_path):
    good = json.dumps({"question": "How many?", "answer": "So many. #### 3"})
    (tmp_path / "train.jsonl").write_text(f"{good}\n{row}\n")
    (tmp_path / "test.jsonl").write_text(f"{good}\n")
    settings = {"source": "gsm8k", "grader": "gsm8k", "path": str(tmp_path), "validation": 1}
    code, error = prepare(tmp_path, settings)
    assert (code, error.count("\n")) == (2, 1) and said in error
    assert not (tmp_path / "results").exists()


def test_wrong_settings_are_one_line(tmp_path):
    code, error = prepare(
        tmp_path, {"sourc": "stories", "source": "stories", "grader": "final_line", "train": 5, "test": 5}
    )
    assert code == 2
    assert error.splitlines()[-1] == "spo: x.yaml:1: datasets.x.sourc: unknown key (did you mean source?)"


def test_a_name_that_the_study_does_not_have_is_one_line(study):
    code, error = spo("train", "tiny-digits-m-s2", "--config", "study.yaml", at=study)
    assert (code, error) == (2, "spo: study laptop: unknown run tiny-digits-m-s2 (did you mean tiny-digits-m-s1?)\n")
    code, error = spo("generate", "tiny/digits/gredy", "--config", "study.yaml", at=study)
    assert (code, error.count("\n")) == (2, 1) and "did you mean tiny/digits/greedy?" in error


def test_a_missing_model_is_one_line(study):
    shutil.rmtree(study / "model")
    (study / "model").mkdir()
    code, error = train(study, tiny.BASE)
    said = "models.tiny.path: model/config.json: no such file: model is not a model folder"
    assert (code, error) == (2, f"spo: {study}/study.yaml:1: {said}\n")


def test_a_model_that_the_hub_does_not_give_is_one_line(study):
    tiny.study(study, model="nobody/no-such-model")
    store.write_jsonl(study / "results/evals/tiny/digits/greedy/predictions.jsonl", [])
    command = ("grade", "tiny/digits/greedy", "--config", "study.yaml")
    code, error = spo(*command, at=study, environment={"HF_HUB_OFFLINE": "1"})
    assert (code, error.count("\n")) == (2, 1)
    assert "model nobody/no-such-model: no such folder, and not to be had from the hub" in error


def test_a_context_beyond_the_model_is_one_line(study):
    code, error = train(study, replace(tiny.BASE, context_tokens=65))
    assert (code, error.count("\n")) == (2, 1)
    assert "study.yaml:1: training.context_tokens: 65, but max_position_embeddings of models.tiny is 64" in error


def test_a_context_beyond_the_model_is_one_line_in_evaluation_too(study):
    tiny.study(study, experiments={"e": {"contexts": [20, 65]}})
    code, error = spo("generate", "tiny/digits/greedy", "--config", "study.yaml", at=study)
    assert (code, error.count("\n")) == (2, 1)
    assert "study.yaml:1: experiments.e.contexts: 65, but max_position_embeddings of models.tiny is 64" in error
    assert not (study / "results/evals").exists() and not (study / "results/state").exists()


def test_prompts_without_room_are_one_line(study):
    code, error = train(study, replace(tiny.BASE, max_prompt_tokens=2))
    said = "study.yaml:1: training.max_prompt_tokens: 2, but the shortest prompt of digits has 7 tokens"
    assert (code, error.count("\n")) == (2, 1) and said in error


def test_demonstrations_without_room_are_one_line(study, tmp_path):
    """Of 7 tokens a prompt, 1 of the answer and the end."""
    rows = [{"id": "d", "question": "Digits: 1 2 3.", "response": "3"}]
    for split in ("train", "validation", "test"):
        store.write_jsonl(tmp_path / f"results/data/digits/{split}.jsonl", [])
    store.write_jsonl(tmp_path / "results/data/digits/demonstrations.jsonl", rows)
    architecture = asdict(replace(tiny.ARCHITECTURE, max_position_tokens=8))
    model = {"path": None, "architecture": architecture, "sft": {"dataset": "digits", "steps": 1}}
    few = {"context_tokens": 8, "max_response_tokens": 1}
    tiny.study(
        tmp_path,
        models={"tiny": model},
        datasets={"digits": {"demonstrations": 1}},
        training=few,
        experiments={"e": {"contexts": [8]}},
    )
    code, error = spo("sft", "tiny", "--config", "study.yaml", at=tmp_path)
    said = "models.tiny.architecture.max_position_tokens: 8, but the shortest demonstration of digits has 9 tokens"
    assert (code, error) == (2, f"spo: {said}\n")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="for machines without vLLM")
def test_a_backend_that_is_not_installed_is_one_line(study):
    code, error = train(study, replace(tiny.BASE, backend="vllm"))
    assert (code, error.count("\n")) == (2, 1) and "backend vllm: vLLM is not installed: pip install" in error
    assert not list((study / "results/state").rglob("step-*"))


def test_a_dataset_that_the_hub_does_not_give_is_one_line(tmp_path):
    """And leaves what was prepared before."""
    store.write_text(tmp_path / "results/data/x/train.jsonl", "dear")
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    code, error = prepare(tmp_path, {"source": "gsm8k", "grader": "gsm8k"}, **environment)
    assert (code, error.count("\n")) == (2, 1)
    assert "openai/gsm8k cannot be read from the hub" in error and "HF_HUB_OFFLINE=1" in error
    assert (tmp_path / "results/data/x/train.jsonl").read_text() == "dear"


def test_gpus_that_are_not_there_are_one_line(study):
    code, error = train(study, tiny.BASE, "--gpus", "99")
    assert (code, error.count("\n")) == (2, 1) and "this job asks for 99 GPUs and sees" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there_is_one_line(study):
    code, error = train(study, replace(tiny.BASE, backend="hf", memory=Memory(device="cuda")))
    assert (code, error) == (2, "spo: memory.device: cuda: PyTorch finds no GPU here; use auto or cpu\n")
    assert not list((study / "results/state").rglob("step-*"))


def test_other_settings_begin_in_another_folder_and_the_old_one_stays(study):
    assert train(study, replace(tiny.BASE, iterations=1))[0] == 0
    state = study / "results/state" / tiny.RUN
    (first,) = state.iterdir()
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert train(study, replace(tiny.BASE, iterations=2))[0] == 0
    assert len(list(state.iterdir())) == 2
    assert before == {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}


def test_a_state_of_another_sampler_is_one_line_and_stays(study):
    settings = replace(tiny.BASE, iterations=1)
    assert train(study, settings)[0] == 0
    (state,) = (study / "results/state" / tiny.RUN).iterdir()
    file = state / "fingerprint.json"
    store.write_json(file, store.read_json(file) | {"sampler": "another"})
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    code, error = train(study, settings)
    assert (code, error.count("\n")) == (2, 1)
    assert "state of another configuration: sampler (was another, now " in error
    assert before == {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}


@pytest.mark.parametrize("watched", [True, False])
def test_progress_reaches_the_terminal_at_descriptor_3_and_nothing_else_does(study, tmp_path, watched):
    """The workflow sends output to a log and leaves the terminal at descriptor 3."""
    ours, theirs = os.openpty() if watched else os.pipe()[::-1]
    child = os.fork()
    if child == 0:
        sys.stdout = (tmp_path / "log").open("w")
        os.dup2(theirs if watched else sys.stdout.fileno(), loop.TERMINAL)
        loop.TELL_EVERY_S = 0.0
        tiny.train(tiny.BASE, study / "model", tmp_path / "state")
        sys.stdout.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["0/4", "1/4", "2/4", "3/4", "4/4"]
    if watched:
        shown = os.read(ours, 65536).decode().splitlines()
        assert shown[-1].startswith("tiny 4/4") and all(" eta " in line for line in shown) and len(shown) >= 4


@pytest.mark.parametrize("command", ["check", "plan"])
def test_a_reader_that_leaves_early_ends_it_silently(command):
    study = Path(__file__).parents[2] / "config/config.yaml"
    with subprocess.Popen([sys.executable, "-m", "spo", command, study], stdout=-1, stderr=-1) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


def test_grading_to_a_reader_that_leaves_early_ends_it_silently(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"answer": "3", "response": "#### 3"}\n')
    command = [sys.executable, "-m", "spo", "grade-file", "--grader", "final_line", "--input", "a.jsonl"]
    files = {"cwd": tmp_path, "env": WITH_PACKAGE, "stdout": -1, "stderr": -1}
    with subprocess.Popen([*command, "--output", "/dev/stdout"], **files) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


def test_mistakes_are_exit_codes_if_stderr_and_stdin_are_closed(tmp_path):
    command = f"{sys.executable} -m spo check nothing.yaml 2>&- <&-"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, env=WITH_PACKAGE, stdout=-1).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path):
    """A limit of the size of files stands for a full disk: the same call fails half way."""
    settings = {"source": "stories", "grader": "final_line", "train": 500, "validation": 5, "test": 5}
    store.write_text(tmp_path / "x.yaml", json.dumps({"datasets": {"x": settings}}))
    command = f"ulimit -f 4; exec {sys.executable} -m spo prepare x --config x.yaml"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=WITH_PACKAGE, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"spo: cannot write results/data/x/train\.jsonl \(\d+ bytes\): File too large\n", done.stderr)
    assert list((tmp_path / "results/data/x").iterdir()) == []


@pytest.mark.parametrize("command", ["check", "plan"])
def test_output_to_a_full_device_is_one_line(command):
    study = Path(__file__).parents[2] / "config/config.yaml"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "spo", command, study], stdout=full, stderr=-1, text=True)
    assert (done.returncode, done.stderr) == (1, "spo: input/output: No space left on device\n")
