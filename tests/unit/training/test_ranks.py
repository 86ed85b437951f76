"""A run in two processes is the run in one: the same numbers, the same checkpoints, and it ends as one does."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from spo.errors import UserError
from spo.methods import share
from spo.settings import Accepted, Loss, Memory, Optimizer
from spo.store import read_json, read_jsonl
from spo.training import ranks
from spo.training.descent import Descent
from spo.types import Request, Sample, Sampling
from tests import ranked, tiny

CPU = Memory(device="cpu")
#: Several micro-batches a step
OPTIMIZER = Optimizer(lr=1e-3, micro_batch_tokens=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


def settings(method, **more):
    chosen = replace(tiny.METHODS[method], iterations=3, optimizer=OPTIMIZER, memory=CPU)
    return replace(chosen, **more)


def last(state):
    return sorted(state.glob("step-[0-9]*"))[-1]


def assert_same(one, two, tolerance=1e-5):
    """Metrics, weights and moments of two state folders."""
    rows, others = (read_jsonl(state / "metrics.jsonl") for state in (one, two))
    assert len(rows) == len(others) > 1
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=tolerance, abs=tolerance)
    tensors, theirs = (load_file(last(state) / "tensors.safetensors") for state in (one, two))
    assert tensors.keys() == theirs.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(theirs[name], tensor, atol=tolerance, rtol=0)
    counters, their_counters = (read_json(last(state) / "state.json")["counters"] for state in (one, two))
    counters.pop("seconds_total")
    assert counters == {name: number for name, number in their_counters.items() if name != "seconds_total"}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["engine", "hf"])
@pytest.mark.parametrize("method", tiny.METHODS)
def test_two_processes_learn_what_one_learns(method, backend, folder, tmp_path):
    run = settings(method, backend=backend)
    one = tiny.train(run, folder, tmp_path / "one").weights()

    def work(rank):
        weights = tiny.train(run, folder, tmp_path / "two").weights()
        torch.save({name: weight.detach() for name, weight in weights.items()}, tmp_path / f"{rank}.pt")

    ranked.together(work, tmp_path / "processes")
    assert_same(tmp_path / "one", tmp_path / "two")
    saved = load_file(last(tmp_path / "two") / "tensors.safetensors")
    assert {f"{part}/{name}" for part in ("weight", "exp_avg", "exp_avg_sq") for name in one} <= saved.keys()
    for rank in range(2):  # what each computes with
        weights = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, weight in one.items():
            torch.testing.assert_close(weights[name], weight.detach(), atol=1e-5, rtol=0)
    assert [row["iteration"] for row in read_jsonl(tmp_path / "two" / "timing.jsonl")] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": replace(OPTIMIZER, micro_batch_tokens=16384)},  # one micro-batch, which is divided
        {"batch_episodes": 1, "loss": replace(tiny.BASE.loss, scope="micro_batch")},  # one of the two has nothing to do
        {"optimizer": replace(OPTIMIZER, muon_lr=1e-4, weight_decay=0.1)},
        {"optimizer": replace(OPTIMIZER, max_grad_norm=0.01)},
        {"loss": Loss(max_mean_ratio=0.5), "epochs": 2},  # all steps are skipped
        {"validation_samples": 3, "problems_per_iteration": 1},
    ],
    ids=["divided", "idle", "muon", "clipped", "skipped", "few"],
)
def test_what_two_processes_do_alike(more, folder, tmp_path):
    run = settings("group", **more)
    tiny.train(run, folder, tmp_path / "one")
    ranked.together(lambda rank: tiny.train(run, folder, tmp_path / "two"), tmp_path / "processes")
    assert_same(tmp_path / "one", tmp_path / "two")
    skipped = sum(row.get("skipped_steps", 0) for row in read_jsonl(tmp_path / "two" / "metrics.jsonl"))
    assert (skipped > 0) == ("epochs" in more)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["model", "cpu"])
def test_low_weights_are_the_same_in_all_processes(where, folder, tmp_path):
    """Each row is sampled, and each micro-batch computed, as it is in one process: low precision has few digits."""
    memory = Memory(device="cpu", weights="bfloat16", optimizer_device=where, sample_rows=1)
    run = settings("group", backend="hf", dtype="bfloat16", memory=memory)
    run = replace(run, optimizer=replace(OPTIMIZER, micro_batch_tokens=1))
    one = tiny.train(run, folder, tmp_path / "one").weights()

    def work(rank):
        policy = tiny.train(run, folder, tmp_path / "two")
        weights = {name: weight.detach() for name, weight in policy.weights().items()}
        torch.save(weights, tmp_path / f"{rank}.pt")

    ranked.together(work, tmp_path / "processes")
    assert_same(tmp_path / "one", tmp_path / "two")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, weight in one.items():
        assert torch.equal(first[name], second[name]) and first[name].dtype == weight.dtype


def test_a_process_keeps_only_its_share_of_copies_and_moments(folder, tmp_path):
    """15 weights of 100 numbers in three processes: 500 each, in the storage of masters and moments."""

    def work(rank):
        weights = {f"w{i}": torch.ones(10, 10, dtype=torch.bfloat16, requires_grad=True) for i in range(15)}
        descent = Descent(weights, replace(OPTIMIZER, schedule="constant", warmup_share=0.0), 10)
        sum((rank + 1) * weight.float().sum() for weight in weights.values()).backward()
        assert sum(w.untyped_storage().size() for w in descent.weights.values()) == 4 * (500 + 10)
        norm, _ = descent.step()
        assert norm == pytest.approx((1500 * 6**2) ** 0.5)  # 1 + 2 + 3 for each number
        saved = descent.tensors()
        assert sum(tensor.numel() for tensor in saved.values()) == 3 * 500
        assert all(weight.grad is None for weight in (*weights.values(), *descent.weights.values()))
        assert len({float(weight[0, 0]) for weight in weights.values()}) == 1

    ranked.together(work, tmp_path / "processes", 3)


def test_more_processes_than_weights(folder, tmp_path):
    def work(rank):
        weight = torch.ones(4, requires_grad=True)
        descent = Descent({"w": weight}, replace(OPTIMIZER, lr=0.1, warmup_share=0.0), 10)
        weight.sum().backward()
        descent.step()
        assert weight.tolist() == pytest.approx([0.9] * 4)

    ranked.together(work, tmp_path / "processes", 3)


def test_requests_are_divided_by_samples_and_come_back_in_order(tmp_path):
    """Of six samples to three prompts two processes draw three each; a prompt may be asked of both."""

    class Echo:
        def sample(self, requests, sampling):
            drawn.append([(request.prompt_ids, request.keys) for request in requests])
            return [[Sample((*r.prompt_ids, key), (0.0,) * 2, True) for key in r.keys] for r in requests]

    drawn: list = []
    asked = (((1,), (10, 11)), ((2,), (20, 21, 22)), ((3,), ()), ((4,), (40,)))
    requests = [Request(prompt, keys, 5) for prompt, keys in asked]
    expected = [[(1, 10), (1, 11)], [(2, 20), (2, 21), (2, 22)], [], [(4, 40)]]

    def work(rank):
        found = share.sample(Echo(), requests, Sampling())
        assert [[sample.response_ids for sample in row] for row in found] == expected
        mine = [[((1,), (10, 11)), ((2,), (20,))], [((2,), (21, 22)), ((4,), (40,))]][rank]
        assert drawn == [mine]
        assert share.sample(Echo(), requests[:0], Sampling()) == [] and len(drawn) == 1

    ranked.together(work, tmp_path / "processes")


def test_a_verdict_is_one_processs(tmp_path):
    """Graders have deadlines, so that two processes might see two verdicts; each answer is graded once."""

    def work(rank):
        found = share.rewards(lambda answer, ids, finished: float(rank), [(i, (), True) for i in range(5)])
        assert found == [0.0, 0.0, 1.0, 1.0, 1.0]

    ranked.together(work, tmp_path / "processes")


def test_what_processes_tell_each_other(tmp_path):
    def work(rank):
        assert (ranks.rank(), ranks.count(), ranks.first()) == (rank, 3, rank == 0)
        assert ranks.part(range(7)) == [range(0, 2), range(2, 4), range(4, 7)][rank]
        assert ranks.gathered([rank] * rank) == [1, 2, 2]
        assert ranks.added({"a": 0.5} | ({"b": 1.0} if rank == 2 else {})) == {"a": 1.5, "b": 1.0}
        assert ranks.anywhere([rank == 1, False]) == [True, False]
        assert ranks.from_first(lambda: f"from {rank}") == "from 0"
        assert torch.distributed.is_initialized() is False and "RANK" not in os.environ

    ranked.together(work, tmp_path / "processes", 3)
    assert ranks.count() == 1 and ranks.first()


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def interrupted_after(checkpoint):
    def reward(problem, ids, finished):
        if checkpoint.exists():
            raise KeyboardInterrupt
        return graded(problem, ids, finished)

    return reward


def graded(problem, ids, finished):
    return float(len(ids) % 2)


@pytest.mark.parametrize("method", ["group", "tree", "critic"])
@pytest.mark.parametrize("first", [1, 2])
def test_either_goes_on_from_the_others_checkpoint(method, first, folder, tmp_path):
    """Two iterations in one process and two in two, or the other way round, against four in one."""
    run, state = settings(method, iterations=4), tmp_path / "state"
    tiny.train(run, folder, tmp_path / "calm", graded)
    stop = interrupted_after(state / "step-000002")
    if first == 1:
        with pytest.raises(KeyboardInterrupt):
            tiny.train(run, folder, state, stop)
        ranked.together(lambda rank: tiny.train(run, folder, state, graded), tmp_path / "processes")
        assert "tiny: resuming after iteration 2 of 4" in (tmp_path / "processes" / "0.out").read_text()
        assert "tiny" not in (tmp_path / "processes" / "1.out").read_text()
    else:
        codes = ranked.ended(ranked.fork(lambda rank: tiny.train(run, folder, state, stop), tmp_path / "processes"))
        assert codes == [1, 1] and ranked.said(tmp_path / "processes").count("spo: ") == 1
        assert last(state).name == "step-000002"
        tiny.train(run, folder, state, graded)
    assert_same(tmp_path / "calm", state)


def test_a_restart_is_the_same_everywhere(folder, tmp_path):
    run = settings("accepted", credit=Accepted(samples_per_problem=8, restart=True), iterations=2)
    tiny.train(run, folder, tmp_path / "one")
    ranked.together(lambda rank: tiny.train(run, folder, tmp_path / "two"), tmp_path / "processes")
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_repeat_themselves_through_kills(folder, tmp_path):
    """kill -9 of either at some moment; the other ends, says so once, and the next two end in the bytes of the calm."""
    run = settings("chain", iterations=6, checkpoint_every=2)
    start = time.perf_counter()
    ranked.together(lambda rank: tiny.train(run, folder, tmp_path / "calm"), tmp_path / "processes")
    duration, kills = time.perf_counter() - start, 0
    for attempt in range(1, 12):
        place = tmp_path / f"processes{attempt}"
        children = ranked.fork(lambda rank: tiny.train(run, folder, tmp_path / "killed"), place)
        time.sleep(duration * (0.3 + 0.07 * attempt))
        os.kill(children[attempt % 2], signal.SIGKILL)
        codes = ranked.ended(children)
        if codes[1 - attempt % 2] == 0:  # through, or so nearly that nothing was left to tell the other
            continue
        kills += 1
        assert codes[attempt % 2] == -signal.SIGKILL and codes[1 - attempt % 2] == 1
        lines = [line for line in ranked.said(place).splitlines() if line.startswith("spo: ")]
        assert len(lines) == 1 and "another process of this run has ended" in lines[0]
    ranked.together(lambda rank: tiny.train(run, folder, tmp_path / "killed"), tmp_path / "after")
    assert kills >= 2
    for name in ("metrics.jsonl", f"{last(tmp_path / 'calm').name}/tensors.safetensors"):
        assert (tmp_path / "calm" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_two_processes_resume_inside_an_iteration_as_one_does(folder, tmp_path):
    """RestEM chooses among policies whose weights are spread over the processes, which are killed on the way."""
    credit = Accepted(samples_per_problem=4, keep="best", validate_every_steps=1)
    run = settings("accepted", credit=credit, iterations=2, epochs=2, batch_episodes=1, checkpoint_every_steps=1)
    tiny.train(run, folder, tmp_path / "one", graded)

    def work(deadly):
        def train(rank):
            taken, step = iter(range(1, 1000)), tiny.rl.policy_step

            def fatal(*args):
                if rank == 0 and next(taken) == deadly:
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(*args)

            tiny.rl.policy_step = fatal
            tiny.train(run, folder, tmp_path / "two", graded)

        return train

    for life in range(2):
        assert -signal.SIGKILL in ranked.ended(ranked.fork(work(3), tmp_path / f"life{life}"))
        assert list((tmp_path / "two").glob("step-*.*"))
    ranked.together(work(0), tmp_path / "last")
    assert_same(tmp_path / "one", tmp_path / "two")


# ---- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [0, 1])
def test_sigterm_to_one_stops_all_after_the_same_iteration(told, folder, tmp_path):
    run = settings("group", iterations=5, checkpoint_every=100)
    tiny.train(run, folder, tmp_path / "calm", graded)

    def work(rank):
        def reward(problem, ids, finished):
            if rank == told and (tmp_path / "state" / "metrics.jsonl").exists():
                os.kill(os.getpid(), signal.SIGTERM)
            return graded(problem, ids, finished)

        tiny.train(run, folder, tmp_path / "state", reward)

    codes = ranked.ended(ranked.fork(work, tmp_path / "processes"))
    assert codes == [1, 1]
    said = ranked.said(tmp_path / "processes")
    assert said.count("spo: ") == 1 and "spo: tiny: stopped by SIGTERM after iteration 1; the same command" in said
    assert last(tmp_path / "state").name == "step-000001"
    ranked.together(lambda rank: tiny.train(run, folder, tmp_path / "state", graded), tmp_path / "again")
    assert_same(tmp_path / "calm", tmp_path / "state")


@pytest.mark.parametrize("wrong", [0, 1])
def test_an_error_of_one_ends_all_with_its_line(wrong, folder, tmp_path):
    def work(rank):
        def reward(problem, ids, finished):
            if rank == wrong:
                raise UserError("this one's mistake")
            return 1.0

        tiny.train(settings("group"), folder, tmp_path / "state", reward)

    codes = ranked.ended(ranked.fork(work, tmp_path / "processes"))
    assert codes == [2 if rank == wrong else 1 for rank in range(2)]
    lines = [line for line in ranked.said(tmp_path / "processes").splitlines() if "spo" in line]
    assert lines == ["spo: this one's mistake"]


def test_a_loss_that_is_not_finite_in_one_process_is_the_error_of_all(folder, tmp_path, monkeypatch):
    def work(rank):
        added = float("nan") if rank else 0.0
        real = tiny.rl.OBJECTIVES["clipped"].plan

        def plan(batch, train):
            made = real(batch, train)
            return made._replace(loss=lambda logprobs, part: made.loss(logprobs + added, part))

        tiny.rl.OBJECTIVES["clipped"] = tiny.rl.OBJECTIVES["clipped"]._replace(plan=plan)
        tiny.train(settings("group"), folder, tmp_path / "state")

    assert ranked.ended(ranked.fork(work, tmp_path / "processes")) == [1, 1]
    said = ranked.said(tmp_path / "processes")
    assert said.count("spo: ") == 1 and "spo: loss is nan" in said and "nothing was updated" in said


def test_the_lock_is_held_for_all(folder, tmp_path):
    """Two runs of two processes in one folder: the second waits, and finds the work done."""
    run, state = settings("group"), tmp_path / "state"
    first = ranked.fork(lambda rank: tiny.train(run, folder, state), tmp_path / "first")
    second = ranked.fork(lambda rank: tiny.train(run, folder, state), tmp_path / "second")
    assert ranked.ended(first) == ranked.ended(second) == [0, 0]
    assert [row["iteration"] for row in read_jsonl(state / "metrics.jsonl")] == [0, 1, 2, 3]
    assert sum("another process works here" in ranked.said(tmp_path / name) for name in ("first", "second")) == 1
