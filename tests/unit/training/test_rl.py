"""The trainer on a real, tiny task: it learns, repeats itself, and refuses what it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spo.errors import RunFailure, UserError, short_of_memory
from spo.policy import BACKENDS, CRITICS
from spo.policy import tokenizer as tokenizers
from spo.settings import Accepted, Group, Loss, Memory, Optimizer, Pairs
from spo.store import read_jsonl
from spo.training import rl
from spo.training.descent import Descent, schedule
from spo.training.optimize import policy_step
from spo.types import Episode, Sampling
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("method", tiny.METHODS)
def test_each_method_reports_every_iteration(method, folder, tmp_path):
    tiny.train(tiny.METHODS[method], folder, tmp_path)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["iteration"] for row in rows if "validation_accuracy" in row] == [0, 2, 4]
    assert sum(row["episodes"] for row in rows[1:]) > 0 and sum(row["steps"] for row in rows[1:]) > 0
    assert any(0 < row["accuracy"] < 1 for row in rows[1:]) and max(row["grad_norm"] for row in rows[1:]) > 1e-6
    for row in rows[1:]:
        assert row["problems"] == 4 and 0 <= row["truncated"] <= 1 and 0 < row["distinct_responses"] <= 1
        assert row["mismatch_kl"] < 1e-8
        assert row.get("mean_ratio", 1.0) == pytest.approx(1.0, abs=0.2)
    assert rows[-1]["sampled_tokens_total"] == sum(row.get("sampled_tokens", 0) for row in rows)
    timing = read_jsonl(tmp_path / "timing.jsonl")
    assert [row["iteration"] for row in timing] == [0, 1, 2, 3, 4]
    assert timing[-1]["seconds_total"] == pytest.approx(
        sum(s for row in timing for phase, s in row["seconds"].items() if phase not in ("validate", "save")), abs=1e-2
    )


def test_the_first_step_of_an_iteration_has_ratio_one_and_no_divergence(folder, tmp_path):
    settings = replace(tiny.BASE, iterations=1, batch_episodes=64)
    tiny.train(settings, folder, tmp_path)
    row = read_jsonl(tmp_path / "metrics.jsonl")[1]
    assert row["steps"] == 1 and row["clip_fraction"] == 0
    assert row["mean_ratio"] == pytest.approx(1, abs=1e-5) and row["kl"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", tiny.METHODS)
def test_the_same_run_gives_the_same_bytes_and_another_seed_does_not(method, folder, tmp_path):
    outcomes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        policy = tiny.train(replace(tiny.METHODS[method], seed=seed), folder, tmp_path / name)
        outcomes.append(
            ((tmp_path / name / "metrics.jsonl").read_bytes(), {k: w.detach() for k, w in policy.weights().items()})
        )
    assert outcomes[0][0] == outcomes[1][0] != outcomes[2][0]
    assert all(torch.equal(outcomes[0][1][k], outcomes[1][1][k]) for k in outcomes[0][1])


#: What a method needs beyond `tiny.METHODS` to learn the task in a few seconds
LEARNING = {
    "chain": {"iterations": 100},
    "tree": {"credit": replace(tiny.TREE, branches=(3, 3, 3), episodes_per_iteration=128)},
    # Beginning anew each time, it must learn from one round all that there is.
    "accepted": {
        "credit": Accepted(samples_per_problem=8),
        "problems_per_iteration": 30,
        "epochs": 12,
        "iterations": 20,
    },
    "pairs": {"credit": Pairs(samples_per_problem=8, pairs_per_problem=8)},
    "policy_iteration": {"credit": Group(samples_per_problem=8), "optimizer": Optimizer(lr=1e-3)},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_method_learns(method, seed, folder, tmp_path):
    """From chance, that a few random tokens name the right digit, to well above it."""
    settings = replace(tiny.METHODS[method], iterations=60, problems_per_iteration=16, validate_every=60, seed=seed)
    settings = replace(settings, optimizer=Optimizer(lr=3e-3), checkpoint_every=60)
    tiny.train(replace(settings, **LEARNING.get(method, {})), folder, tmp_path)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert rows[1]["reward"] < 0.5
    assert sum(row["reward"] for row in rows[-5:]) / 5 > 0.8


def test_micro_batches_do_not_change_the_result(folder, tmp_path):
    ends = []
    for name, tokens in (("one", 4096), ("many", 32)):
        settings = replace(tiny.BASE, iterations=2, optimizer=Optimizer(lr=1e-3, micro_batch_tokens=tokens))
        ends.append(tiny.train(settings, folder, tmp_path / name).weights())
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], atol=2e-5, rtol=0)


def test_problems_of_an_iteration_are_a_function_of_seed_and_iteration():
    problems = tiny.problems()
    draw = [
        rl.draw_problems(problems, replace(tiny.BASE, seed=seed), i) for seed, i in ((1, 1), (1, 1), (1, 2), (2, 1))
    ]
    assert draw[0] == draw[1] and draw[0] != draw[2] and draw[0] != draw[3]
    assert len({problem.id for problem in draw[0]}) == 4


def test_draw_problems_gives_a_run_that_continues_others_problems_of_its_own():
    problems = tiny.problems()
    draws = [
        [problem.id for i in (1, 2, 3) for problem in rl.draw_problems(problems, replace(tiny.BASE, stage=stage), i)]
        for stage in (0, 1, 1, 2)
    ]
    # What runs without a stage have always drawn.
    assert (
        draws[0] == ["t11", "t35", "t9", "t1", "t0", "t35", "t12", "t14", "t31", "t21", "t36", "t13"]
        and draws[1] == draws[2]
    )
    assert len({tuple(draw) for draw in draws}) == 3


def test_stop_at_ends_a_run_inside_its_schedule(folder, tmp_path):
    """Three iterations of a schedule of eight are the first three of a run of eight, with validation and checkpoint."""
    settings = replace(tiny.BASE, iterations=8, optimizer=Optimizer(lr=1e-3, schedule="linear", warmup_share=0.0))
    short = replace(settings, stop_at=3, checkpoint_every=8, validate_every=4)
    assert rl.total_steps(short, 30) == rl.total_steps(settings, 30) == 8 * 2
    whole = tiny.train(replace(settings, validate_every=4), folder, tmp_path / "whole")
    stopped = tiny.train(short, folder, tmp_path / "short")
    rows = [read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "short")]
    assert [row["iteration"] for row in rows[1]] == [0, 1, 2, 3]
    assert rows[1][:3] == rows[0][:3] and rows[1][3]["loss"] == rows[0][3]["loss"]
    assert rows[1][3]["lr"] == pytest.approx(1e-3 * (16 - 5) / 16) and "validation_accuracy" in rows[1][3]
    assert (tmp_path / "short" / "step-000003").is_dir()
    assert any(not torch.equal(whole.weights()[name], weight) for name, weight in stopped.weights().items())


def test_problems_with_long_prompts_are_left_out_of_training():
    problems = tiny.problems(4)
    lengths = dict(zip((problem.id for problem in problems), (5, 9, 10, 12), strict=True))
    encode = lambda problem: (0,) * lengths[problem.id]  # noqa: E731
    for limits, expected in (({}, 4), ({"max_prompt_tokens": 9}, 2), ({"context_tokens": 12}, 3)):
        fitting = rl.fitting_problems(problems, replace(tiny.BASE, **limits), encode)
        assert fitting == problems[:expected]
    with pytest.raises(UserError, match=r"at most 4 tokens, the shortest has 5; raise max_prompt_tokens or context_to"):
        rl.fitting_problems(problems, replace(tiny.BASE, max_prompt_tokens=4), encode)


def test_sampled_validation_stands_beside_the_greedy_one_and_repeats(folder):
    tokenizer = tokenizers.load(folder)
    policy = BACKENDS["engine"](folder, tokenizer.end_ids)
    asked = []

    def reward(problem, ids, finished):
        asked.append((problem.id, ids))
        return float(len(ids) % 2)

    problems, encode = tiny.problems(6), tiny.encoder(folder)
    settings = replace(tiny.BASE, context_tokens=60, max_response_tokens=40)
    greedy = rl.validate(policy, problems, settings, encode, reward)
    assert "validation_sampled_accuracy" not in greedy
    asked.clear()
    sampled = replace(settings, validation_samples=3, validation_sampling=Sampling(temperature=1.0))
    found = rl.validate(policy, problems, sampled, encode, reward)
    assert found == rl.validate(policy, problems, sampled, encode, reward)
    assert {key: found[key] for key in greedy} == greedy
    once = asked[: len(asked) // 2]
    odd = [ids for _, ids in once if len(ids) % 2]
    right = greedy["validation_accuracy"] * 6 + found["validation_sampled_accuracy"] * 18
    assert right == pytest.approx(len(odd)) and 6 < len(once) <= 24


def test_a_state_folder_of_other_settings_is_refused_and_kept(folder, tmp_path):
    tiny.train(tiny.BASE, folder, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"lr \(was 0.001, now 0.002\); remove the folder") as caught:
        tiny.train(replace(tiny.BASE, optimizer=Optimizer(lr=2e-3)), folder, tmp_path)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_finished_run_is_exported_again_without_training(folder, tmp_path):
    first = {name: w.detach().clone() for name, w in tiny.train(tiny.BASE, folder, tmp_path).weights().items()}
    timing = (tmp_path / "timing.jsonl").read_bytes()
    again = tiny.train(tiny.BASE, folder, tmp_path).weights()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert timing == (tmp_path / "timing.jsonl").read_bytes()


def test_a_gradient_that_is_not_finite_stops_before_the_update(folder, tmp_path):
    with pytest.raises(RunFailure, match="nothing was updated"):
        tiny.train(
            replace(tiny.BASE, iterations=50, optimizer=Optimizer(lr=1e30, max_grad_norm=1e30)), folder, tmp_path
        )


@pytest.mark.parametrize("method", tiny.METHODS)
def test_every_method_moves_the_policy_and_only_ppo_has_a_critic(method, folder, tmp_path):
    start = tiny.BACKENDS["engine"](folder, 1).weights()
    after = tiny.train(tiny.METHODS[method], folder, tmp_path).weights()
    assert any(not torch.equal(start[name], after[name]) for name in start)
    rows = read_jsonl(tmp_path / "metrics.jsonl")[1:]
    assert all(("value_loss" in row and "explained_variance" in row) == (method == "critic") for row in rows)
    assert all(
        ("critic" in row["seconds"]) == (method == "critic") for row in read_jsonl(tmp_path / "timing.jsonl")[1:]
    )


def test_a_critic_learns_what_states_are_worth(folder, tmp_path):
    """The policy stands still and token 9 earns the reward, so states after it are worth 1."""
    settings = replace(tiny.METHODS["critic"], iterations=40, problems_per_iteration=16, batch_episodes=32)
    credit = replace(settings.credit, lr=3e-3, value_clip_range=None)
    settings = replace(settings, credit=credit, optimizer=Optimizer(lr=1e-12), validate_every=40, checkpoint_every=40)
    tiny.train(settings, folder, tmp_path, reward=lambda problem, ids, finished: float(9 in ids))
    rows = read_jsonl(tmp_path / "metrics.jsonl")[1:]
    explained = [sum(row["explained_variance"] for row in part) / 5 for part in (rows[:5], rows[-5:])]
    assert explained[0] < 0.1 and explained[1] > 0.25
    assert sum(row["value_loss"] for row in rows[-5:]) < sum(row["value_loss"] for row in rows[:5])


def test_a_saved_critic_is_the_one_that_was_trained(folder, tmp_path):
    settings = tiny.METHODS["critic"]
    tiny.train(settings, folder, tmp_path / "state")
    from safetensors.torch import load_file

    saved = load_file(sorted((tmp_path / "state").glob("step-*"))[-1] / "tensors.safetensors")
    names = {name for name in saved if name.startswith("critic/weight/")}
    assert {name.removeprefix("critic/weight/") for name in names} == set(CRITICS["engine"](folder, 1).weights())
    assert {name.replace("weight/", "exp_avg/", 1) for name in names} <= set(saved)


def test_every_iteration_of_restem_begins_at_the_starting_policy(folder, tmp_path, monkeypatch):
    """What the first optimizer step of an iteration starts from, with its step and its part of the schedule."""
    starts = []
    step = rl.policy_step

    def watched(policy, descent, *rest):
        weights = {name: w.detach().clone() for name, w in policy.weights().items()}
        starts.append((descent.steps, descent.total_steps, weights))
        return step(policy, descent, *rest)

    monkeypatch.setattr(rl, "policy_step", watched)
    initial = tiny.BACKENDS["engine"](folder, 1).weights()
    for restart in (True, False):
        starts.clear()
        credit = Accepted(samples_per_problem=8, restart=restart)
        tiny.train(replace(tiny.METHODS["accepted"], credit=credit), folder, tmp_path / str(restart))
        steps = [row["steps"] for row in read_jsonl(tmp_path / str(restart) / "metrics.jsonl")[1:]]
        assert steps == sorted(steps) or sum(steps) == len(starts)
        first = [sum(steps[:i]) for i in range(len(steps)) if steps[i]]
        assert len(first) > 1
        for number, i in zip((s for s in steps if s), first, strict=True):
            done, total, weights = starts[i]
            same = all(torch.equal(weights[name], initial[name]) for name in initial)
            assert same == (restart or i == 0)
            assert (done, total) == ((0, number) if restart else (i, 4 * 2 * 4))


@pytest.mark.parametrize(
    ("keep", "scores", "compared", "kept"),
    [
        # After 0, 2, 4, 6 steps and after the last, the seventh: strictly better ones are better.
        ("first_peak", (0.1, 0.3, 0.2, 0.9, 0.8), [0, 2, 4], 2),
        ("first_peak", (0.3, 0.3, 0.5, 0.9, 0.8), [0, 2], 0),
        ("first_peak", (0.1, 0.2, 0.3, 0.4, 0.5), [0, 2, 4, 6, 7], 7),
        ("best", (0.1, 0.3, 0.2, 0.9, 0.9), [0, 2, 4, 6, 7], 6),
        ("last", (0.9, 0.3, 0.2, 0.1, 0.1), [], None),
    ],
)
def test_restem_keeps_the_policy_that_validation_prefers(keep, scores, compared, kept, folder, tmp_path, monkeypatch):
    weights, accuracies = [], iter(scores)
    monkeypatch.setattr(rl, "iteration_batches", lambda *_: [(0,), (1,), (0,), (1,), (0,), (1,), (0,)])
    step, look = rl.policy_step, rl.Choice.look

    def watched(policy, *rest):
        weights.append({name: w.detach().clone() for name, w in policy.weights().items()})
        return step(policy, *rest)

    def looked(self, total):
        self.check = lambda: {"validation_accuracy": 0.0, "validation_sampled_accuracy": next(accuracies)}
        look(self, total)

    monkeypatch.setattr(rl, "policy_step", watched)
    monkeypatch.setattr(rl.Choice, "look", looked)
    credit = Accepted(samples_per_problem=8, keep=keep, validate_every_steps=2)
    policy = tiny.train(replace(tiny.METHODS["accepted"], credit=credit, iterations=1), folder, tmp_path)
    row = read_jsonl(tmp_path / "metrics.jsonl")[1]
    assert row["steps"] == len(weights) == (compared or [7])[-1]
    assert (row.get("kept_step"), row.get("kept_accuracy")) == (
        (kept, max(scores[: len(compared)])) if compared else (None, None)
    )
    if kept is not None and kept < len(weights):
        assert all(torch.equal(weights[kept][name], w) for name, w in policy.weights().items())
    else:
        assert any(not torch.equal(weights[-1][name], w) for name, w in policy.weights().items())


def test_the_schedule_of_pairs_counts_the_pairs_that_there_are(folder, tmp_path):
    """Some of the 4 pairs of each of 4 problems are missing, and the rate still falls to its end."""
    optimizer = Optimizer(lr=1e-3, schedule="linear", warmup_share=0.0)
    settings = replace(tiny.METHODS["pairs"], iterations=1, batch_episodes=4, epochs=3, optimizer=optimizer)
    settings = replace(settings, credit=Pairs(samples_per_problem=4, pairs_per_problem=64))
    tiny.train(settings, folder, tmp_path, reward=lambda problem, ids, finished: float(ids[0] % 2))
    row = read_jsonl(tmp_path / "metrics.jsonl")[1]
    assert 0 < row["steps"] < rl.total_steps(settings, 30) == 24
    assert row["lr"] == pytest.approx(1e-3 / row["steps"])


def test_an_iteration_without_a_correct_response_changes_nothing(folder, tmp_path):
    settings = replace(tiny.METHODS["accepted"], iterations=2)
    start = tiny.BACKENDS["engine"](folder, 1).weights()
    after = tiny.train(settings, folder, tmp_path, reward=lambda *_: 0.0).weights()
    assert all(torch.equal(start[name], after[name]) for name in start)
    assert [row["episodes"] for row in read_jsonl(tmp_path / "metrics.jsonl")[1:]] == [0, 0]


@pytest.mark.parametrize("batch", [1, 6, 7])
def test_pairs_stay_together_in_every_batch(batch):
    settings = replace(tiny.METHODS["pairs"], batch_episodes=batch, epochs=2)
    batches = rl.iteration_batches(settings, 20, 3)
    assert all(rows[i + 1] == rows[i] + 1 and rows[i] % 2 == 0 for rows in batches for i in range(0, len(rows), 2))
    assert max(map(len, batches)) == max(2, batch // 2 * 2)
    assert sorted(i for rows in batches for i in rows) == sorted([*range(20), *range(20)])
    assert batches != rl.iteration_batches(settings, 20, 4)


@pytest.mark.parametrize(
    ("credit", "steps"),
    [
        (Group(samples_per_problem=4), 4 * 2 * 2),  # 4 iterations, 2 epochs, 16 responses in batches of 8
        (replace(tiny.TREE, episodes_per_iteration=12), 4 * 2 * 2),  # 12 segments
        (Accepted(samples_per_problem=4, keep_per_problem=3), 4 * 2 * 2),  # 12 responses
        (Accepted(samples_per_problem=4, keep_per_problem=1), 4 * 2 * 1),
        (Pairs(samples_per_problem=5, pairs_per_problem=64), 4 * 2 * 6),  # 2 * 3 pairs a problem, 24, in batches of 4
    ],
)
def test_the_schedule_counts_every_step(credit, steps):
    settings = replace(tiny.BASE, credit=credit, epochs=2)
    assert rl.total_steps(settings, 1000) == steps


def test_the_schedule_knows_how_many_problems_there_are():
    settings = replace(tiny.BASE, problems_per_iteration=1000)
    assert rl.total_steps(settings, 6) == 4 * 3


@pytest.mark.parametrize("objective", sorted(rl.OBJECTIVES))
def test_micro_batches_of_every_objective_add_up(objective, folder):
    """The gradient of a step, all rows in one pass and two or fewer at a time."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for i in range(6):
        ids = torch.randint(3, 15, (8 + i,), generator=generator).tolist()
        rows.append(Episode("p", tuple(ids[:4]), tuple(ids[4:]), (-2.0,) * (4 + i), ((-1.0) ** i,) * (4 + i)))
    reference = [(-2.5,) * len(row.response_ids) for row in rows]
    gradients = []
    for tokens in (4096, 30):
        policy = tiny.BACKENDS["engine"](folder, 1)
        descent = Descent(policy.weights(), Optimizer(), 1)
        seen = {}
        descent.step = lambda policy=policy, seen=seen: (
            seen.update({name: w.grad.clone() for name, w in policy.weights().items()}) or (1.0, 1.0)
        )
        method = tiny.METHODS["accepted" if objective == "nll" else "pairs"]
        settings = replace(method, optimizer=Optimizer(micro_batch_tokens=tokens))
        sums = policy_step(policy, descent, rows, reference, settings, objective)
        gradients.append((seen, sums))
    for name, gradient in gradients[0][0].items():
        torch.testing.assert_close(gradients[1][0][name], gradient, atol=1e-5, rtol=1e-4)
    assert gradients[0][1] == pytest.approx(gradients[1][1], rel=1e-4)


def test_schedules():
    log = Optimizer(schedule="log_warmup_linear", warmup_share=0.1)
    factors = [schedule(log, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.30103, abs=1e-5) and factors[8] == 1.0 and factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5) and factors[99] == pytest.approx(1 / 90)
    cosine = Optimizer(schedule="cosine", warmup_share=0.0)
    assert [round(schedule(cosine, step, 4), 4) for step in range(4)] == [1.0, 0.8536, 0.5, 0.1464]
    assert {schedule(Optimizer(warmup_share=0), step, 9) for step in range(9)} == {1.0}


@pytest.mark.parametrize(
    ("share", "total", "warmup"), [(0.03, 1234, 38), (0.07, 100, 7), (0.29, 100, 29), (0.03, 10, 1)]
)
def test_schedule_rounds_the_warmup_up(share, total, warmup):
    """As the official code does (0.03 x 1,234 is 37.02), but for what is rounding of the product alone."""
    factors = [schedule(Optimizer(schedule="linear", warmup_share=share), step, total) for step in range(total)]
    assert factors[warmup - 1] == factors[warmup] == 1 and (warmup == 1 or factors[warmup - 2] < 1)
    assert factors[warmup + 1] < 1


SAID_BY_CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which ..."


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({}, "lower optimizer.micro_batch_tokens (now 16384)"),
        (
            {"backend": "hf"},
            "set memory.gradient_checkpointing: true, or lower optimizer.micro_batch_tokens (now 16384)",
        ),
        (
            {"backend": "hf", "memory": Memory(gradient_checkpointing=True), "loss": Loss(scope="micro_batch")},
            "lower memory.head_chunk_tokens (now 1024)",
        ),
    ],
)
def test_memory_that_runs_out_in_training_names_the_key_and_the_run_goes_on(more, key, folder, tmp_path, monkeypatch):
    """The error is raised where PyTorch raises it, in the first backward pass of the second iteration."""
    settings = replace(tiny.BASE, iterations=2, **more)
    backward = torch.Tensor.backward

    def too_large(tensor, *rest, **named):
        if (tmp_path / "step-000001").exists():
            raise torch.OutOfMemoryError(SAID_BY_CUDA)
        return backward(tensor, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", too_large)
        with pytest.raises(RunFailure) as caught:
            tiny.train(settings, folder, tmp_path)
    assert str(caught.value) == f"out of memory (2.00 GiB more were asked for): {key}"
    tiny.train(replace(settings, optimizer=replace(settings.optimizer, micro_batch_tokens=64)), folder, tmp_path)
    assert [row["iteration"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [0, 1, 2]


def test_memory_that_a_processor_lacks_is_recognised():
    said = r"^out of memory \(1152921504606846976 bytes more were asked for\): lower x$"
    with pytest.raises(RunFailure, match=said), short_of_memory("lower x"):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="must match"), short_of_memory("lower x"):
        torch.ones(2) + torch.ones(3)


@pytest.mark.parametrize("memory", [Memory(gradient_checkpointing=True), Memory(head_chunk_tokens=5)], ids=str)
def test_memory_settings_do_not_change_what_is_learnt(memory, folder, tmp_path):
    settings = replace(tiny.BASE, iterations=2, backend="hf")
    plain, lean = (
        tiny.train(replace(settings, memory=m), folder, tmp_path / name) for name, m in (("a", Memory()), ("b", memory))
    )
    for name, weight in plain.weights().items():
        torch.testing.assert_close(lean.weights()[name], weight, atol=1e-4, rtol=0)


def test_a_run_on_low_weights_that_is_resumed_ends_in_the_same_bytes(folder, tmp_path):
    """Weights of bfloat16 say less than the checkpoint holds: what steps are added to comes back whole."""
    memory = Memory(weights="bfloat16", optimizer_device="cpu")
    settings = replace(tiny.BASE, iterations=4, backend="hf", dtype="bfloat16", memory=memory)
    whole = tiny.train(settings, folder, tmp_path / "whole", _odd)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(settings, folder, tmp_path / "cut", _interrupted_after(tmp_path / "cut" / "step-000002"))
    resumed = tiny.train(settings, folder, tmp_path / "cut", _odd)
    assert {weight.dtype for weight in whole.weights().values()} == {whole.train_dtype}
    for name, weight in whole.weights().items():
        assert torch.equal(weight, resumed.weights()[name])
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def _interrupted_after(checkpoint):
    def reward(problem, ids, finished):
        if checkpoint.exists():
            raise KeyboardInterrupt
        return _odd(problem, ids, finished)

    return reward


def _odd(problem, ids, finished):
    return float(len(ids) % 2)
