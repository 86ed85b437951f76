"""kill -9 at arbitrary moments, then the same call: the same bytes as an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace

import psutil
import pytest
import torch

from spo import store
from spo.errors import Interrupted, RunFailure
from spo.settings import Architecture, Sft
from spo.training import checkpoint, sampled, sft
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


def in_child(work, kill_after_s: float | None = None) -> bool:
    """Run `work` in a forked process, killed after that much CPU time; True if it ended by itself and well."""
    child = os.fork()
    if child == 0:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    while kill_after_s is not None:
        used = psutil.Process(child).cpu_times()
        if used.user + used.system >= kill_after_s or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.002)
    _, status = os.waitpid(child, 0)
    return status == 0


def cpu_s_of_children() -> float:
    used = os.times()
    return used.children_user + used.children_system


def outcome(state):
    """Metrics, final weights and moments, and what the method carries on, byte for byte."""
    last = sorted(state.glob("step-[0-9]*"))[-1]
    files = (state / "metrics.jsonl", last / "tensors.safetensors", last / "memory.jsonl")
    return {path.name: path.read_bytes() for path in files} | {"last": last.name}


def sft_run(state):
    from spo.policy import transformer
    from spo.policy.engine import Engine

    architecture = Architecture(hidden_size=32, layers=2, heads=4, kv_heads=1, intermediate_size=48)
    geometry = transformer.Geometry(32, 2, 4, 1, 8, 20, 1e4, 1e-6, True, 64)
    policy = Engine(geometry, transformer.initial_weights(architecture, 20, 0), 1)
    examples = [((3 + i % 5, 4), (5 + i % 7, 6, 1)) for i in range(50)]
    settings = Sft(dataset="x", steps=60, batch_examples=8, log_every_steps=5, checkpoint_every_steps=10)
    settings = replace(settings, optimizer=replace(settings.optimizer, muon_lr=0.02))
    sft.run(name="tiny", settings=settings, fingerprint={}, examples=examples, policy=policy, state=state)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*tiny.METHODS, "sft"])
def test_killed_training_ends_in_the_same_bytes(method, folder, tmp_path):
    def work(state):
        if method == "sft":
            sft_run(state)
        else:
            tiny.train(replace(tiny.METHODS[method], iterations=8, checkpoint_every=2), folder, state)

    before = cpu_s_of_children()
    assert in_child(lambda: work(tmp_path / "calm"))
    duration = cpu_s_of_children() - before
    moments, kills = random.Random(method), 0
    # Short lives at first, so that many moments are hit before the run is through.
    for attempt in range(40):
        if in_child(lambda: work(tmp_path / "killed"), moments.uniform(0.02, 0.25 + 0.02 * attempt) * duration):
            break
        kills += 1
    assert in_child(lambda: work(tmp_path / "killed"))
    assert kills >= 5
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "killed")


#: Several optimizer steps in an iteration; RestEM compares policies inside it.
STEPS = {method: replace(run, batch_episodes=4, epochs=2, iterations=2) for method, run in tiny.METHODS.items()}
STEPS["accepted"] = replace(
    STEPS["accepted"], credit=replace(tiny.METHODS["accepted"].credit, keep="best", validate_every_steps=2)
)


@pytest.mark.parametrize("method", STEPS)
def test_run_killed_inside_an_iteration_resumes_at_its_step(method, folder, tmp_path, monkeypatch):
    """Killed before each optimizer step of a policy or a critic in turn: no response is sampled and no step taken
    twice, and all bytes are those of an undisturbed run without checkpoints inside iterations."""
    calm, settings = STEPS[method], replace(STEPS[method], checkpoint_every_steps=1, checkpoint_every=99)
    tiny.train(calm, folder, tmp_path / "calm")
    state, steps, kills = tmp_path / "killed", 1, 0
    counts = tmp_path / "counts"

    def work(deadly: int):
        taken = iter(range(1, 1000))
        for name in ("policy_step", "value_step"):
            real = getattr(tiny.rl, name)

            def step(*args, real=real, **named):
                if next(taken) == deadly:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **named)

            setattr(tiny.rl, name, step)
        collect = tiny.rl.METHODS[settings.credit.kind]

        def collected(*args):
            with open(counts, "a") as file:
                file.write("x")
            return collect(*args)

        tiny.rl.METHODS[settings.credit.kind] = collected
        tiny.train(settings, folder, state)

    # Each life takes one step and dies before its second.
    while not in_child(lambda: work(2)):
        kills += 1
        assert kills < 60
    rows = store.read_jsonl(state / "metrics.jsonl")
    steps = sum(row.get("steps", 0) for row in rows) * (2 if method == "critic" else 1)
    assert kills == steps - 1 and steps >= 6
    assert counts.read_text() == "xx"
    assert outcome(tmp_path / "calm") == outcome(state)


def test_killed_while_a_policy_is_chosen_takes_the_same_one(folder, tmp_path):
    credit = replace(tiny.METHODS["accepted"].credit, keep="first_peak", validate_every_steps=1)
    settings = replace(STEPS["accepted"], credit=credit, checkpoint_every_steps=1)
    tiny.train(settings, folder, tmp_path / "calm")
    kills, deadly = 0, 3

    def work():
        calls, validate = iter(range(1, 1000)), tiny.rl.validate

        def fatal(*args):
            if next(calls) == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return validate(*args)

        tiny.rl.validate = fatal
        tiny.train(settings, folder, tmp_path / "killed")

    while not in_child(work):
        kills += 1
        assert kills < 40
    assert kills >= 2
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "killed")


@pytest.mark.parametrize("method", ["pairs", "chain", "tree"])
@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGTERM])
def test_run_stopped_while_it_samples_draws_nothing_twice(method, signalled, folder, tmp_path):
    """Parts of 4 samples; a life ends with its second call of the sampler."""
    settings = replace(STEPS[method], checkpoint_every_steps=1, checkpoint_every=99)
    tiny.train(STEPS[method], folder, tmp_path / "calm")
    drawn = tmp_path / "drawn"

    def work(deadly: int):
        sampled.PART_SAMPLES = 4
        calls, real = iter(range(1, 1000)), sampled.share.sample

        def sample(policy, requests, sampling):
            found = real(policy, requests, sampling)
            number = next(calls)
            if sampling.temperature > 0 and (number < deadly or signalled == signal.SIGTERM):  # not validation
                with open(drawn, "a") as file:
                    file.write(f"{hash(tuple(requests))}\n")
            if number == deadly:
                os.kill(os.getpid(), signalled)
            return found

        sampled.share.sample = sample
        tiny.train(settings, folder, tmp_path / "stopped")

    kills = 0
    while not in_child(lambda: work(2)):
        kills += 1
        assert kills < 99
    parts = drawn.read_text().split()
    assert kills >= 3 and len(parts) == len(set(parts))
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "stopped")
    assert not list((tmp_path / "stopped").glob("sampled-*"))


def test_sigterm_inside_an_iteration_saves_after_the_step(folder, tmp_path, monkeypatch):
    settings = replace(STEPS["pairs"], checkpoint_every_steps=1000)
    tiny.train(settings, folder, tmp_path / "calm")
    step, taken = tiny.rl.policy_step, []

    def told(*args):
        taken.append(args)
        if len(taken) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(tiny.rl, "policy_step", told)
        with pytest.raises(RunFailure, match="SIGTERM in iteration 1 of 2, after 2 optimizer steps; the same command"):
            tiny.train(settings, folder, tmp_path / "told")
    assert len(taken) == 2
    tiny.train(settings, folder, tmp_path / "told")
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "told")


def test_checkpoints_inside_an_iteration_share_what_it_collected(folder, tmp_path, monkeypatch):
    settings = replace(STEPS["pairs"], iterations=1, checkpoint_every_steps=1)
    links = []
    real = checkpoint.save

    def save(state, found):
        real(state, found)
        files = sorted(state.glob("step-*/collected.safetensors"))
        links.append({path.stat().st_ino for path in files})

    monkeypatch.setattr(checkpoint, "save", save)
    tiny.train(settings, folder, tmp_path)
    assert len(links) > 3 and len(set.union(*links)) == 1
    assert [path.name for path in sorted(tmp_path.glob("step-*"))][-1] == "step-000001"


@pytest.mark.parametrize("method", tiny.METHODS)
def test_killed_at_every_write_of_a_checkpoint(method, folder, tmp_path, monkeypatch):
    """The process dies right before each rename and each file of a save in turn."""
    settings = replace(tiny.METHODS[method], iterations=3)
    tiny.train(settings, folder, tmp_path / "calm")
    for deadly in range(1, 9):
        state = tmp_path / f"killed{deadly}"

        def work(state=state, deadly=deadly):
            calls = iter(range(1, 1000))
            for module, name in ((os, "replace"), (checkpoint, "_sync")):
                real = getattr(module, name)

                def fatal(*args, real=real, **kwargs):
                    if next(calls) == deadly:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                setattr(module, name, fatal)
            tiny.train(settings, folder, state)

        assert not in_child(work)
        tiny.train(settings, folder, state)
        assert outcome(tmp_path / "calm") == outcome(state)


@pytest.mark.parametrize(("number", "by"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_finishes_the_iteration_and_the_next_start_goes_on(number, by, folder, tmp_path):
    settings = replace(tiny.BASE, iterations=6, checkpoint_every=100)
    tiny.train(settings, folder, tmp_path / "calm")
    reward = tiny.rl.validate

    def told(*args):
        os.kill(os.getpid(), number)
        return reward(*args)

    before = signal.getsignal(number)
    tiny.rl.validate, result = told, None
    try:
        with pytest.raises(RunFailure, match=f"^tiny: stopped by {by} after iteration 0; the same command") as result:
            tiny.train(settings, folder, tmp_path / "told")
    finally:
        tiny.rl.validate = reward
    assert isinstance(result.value, Interrupted) == (number == signal.SIGINT)
    assert signal.getsignal(number) == before
    tiny.train(settings, folder, tmp_path / "told")
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "told")


def test_a_second_ctrl_c_ends_a_run_at_once(folder, tmp_path):
    reward, settings = tiny.rl.validate, replace(tiny.BASE, iterations=6, checkpoint_every=100)

    def told_twice(*args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return reward(*args)

    tiny.rl.validate = told_twice
    try:
        with pytest.raises(KeyboardInterrupt):
            tiny.train(settings, folder, tmp_path)
    finally:
        tiny.rl.validate = reward
    assert not list(tmp_path.glob("step-*"))


def test_ctrl_c_in_supervised_training_saves_what_is_done(tmp_path):
    sft_run(tmp_path / "calm")
    step, taken = sft.nll_step, iter(range(1, 1000))

    def told(*args):
        if next(taken) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args)

    sft.nll_step = told
    try:
        with pytest.raises(Interrupted, match="^tiny: stopped by Ctrl-C after iteration 2; the same command"):
            sft_run(tmp_path / "told")
    finally:
        sft.nll_step = step
    assert next(taken) == 11  # of five steps per iteration, ten were taken
    sft_run(tmp_path / "told")
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "told")


def test_a_damaged_checkpoint_costs_one_line_and_falls_back(folder, tmp_path, capsys):
    calm = tiny.train(tiny.BASE, folder, tmp_path).weights()
    last = sorted(tmp_path.glob("step-[0-9]*"))[-1] / "tensors.safetensors"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    again = tiny.train(tiny.BASE, folder, tmp_path).weights()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "checksum differs" in error
    assert all(torch.equal(calm[name], again[name]) for name in calm)


def test_only_damaged_checkpoints_are_never_a_fresh_start(folder, tmp_path):
    tiny.train(tiny.BASE, folder, tmp_path)
    for path in tmp_path.glob("step-[0-9]*"):
        (path / "state.json").write_text("{")
    with pytest.raises(RunFailure, match="every checkpoint is damaged"):
        tiny.train(tiny.BASE, folder, tmp_path)


def test_a_second_trainer_waits_and_finds_the_work_done(folder, tmp_path):
    """What happens when the workflow is killed, its jobs live on, and the same command starts them again."""
    tiny.train(tiny.BASE, folder, tmp_path / "calm")
    release, hold = os.pipe()
    is_locked, lock = os.pipe()
    first = os.fork()
    if first == 0:
        with store.locked(tmp_path / "shared"):
            os.write(lock, b"x")
            os.read(release, 1)
        os._exit(0)
    assert os.read(is_locked, 1) == b"x"
    second = os.fork()
    if second == 0:
        tiny.train(tiny.BASE, folder, tmp_path / "shared")
        os._exit(0)
    time.sleep(1.0)
    assert os.waitpid(second, os.WNOHANG) == (0, 0)
    assert not (tmp_path / "shared" / "metrics.jsonl").exists()
    os.write(hold, b"x")
    assert os.waitpid(first, 0)[1] == os.waitpid(second, 0)[1] == 0
    assert outcome(tmp_path / "calm") == outcome(tmp_path / "shared")


def test_two_checkpoints_are_kept(folder, tmp_path):
    tiny.train(tiny.BASE, folder, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000003", "step-000004"]
