"""TRL's GRPOTrainer with segment advantages, against SPO-chain of this package on the same samples."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spo.methods import chain
from spo.methods.world import Clock, World
from spo.settings import Chain, Partition
from spo.types import Problem, Sample, Trajectory
from tests import tiny

pytest.importorskip("trl", reason="trl is not installed: pip install -e '.[test]'")
pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "examples/trl_spo_chain.py"
CHAIN = Chain(partition=Partition(interval=2), rollouts_per_cut=3, first_segment="zero", zero_confident=True)


def load_example():
    spec = importlib.util.spec_from_file_location("trl_spo_chain", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Replay:
    """A policy that answers requests for rollouts with recorded ones, in the order in which they were sampled."""

    def __init__(self, rollouts: dict[tuple[int, ...], list[tuple[int, ...]]]) -> None:
        self.rollouts = {prefix: list(rows) for prefix, rows in rollouts.items()}

    def sample(self, requests, sampling):
        found = []
        for request in requests:
            rows = [self.rollouts[request.prompt_ids].pop(0) for _ in request.keys]
            found.append([Sample(ids, (0.0,) * len(ids), True) for ids in rows])
        return found


def reward_of(ids) -> float:
    """A reward that differs between prefixes: whether the ids add up to an even number."""
    return float(sum(ids) % 2 == 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three steps of the example on a tiny model, with everything that each generation batch held."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig

    example, folder = load_example(), tiny.model(tmp_path_factory.mktemp("model"), scale=2.0)
    seen = []

    class Recorded(example.SPOChainTrainer):
        def _generate_and_score_completions(self, inputs):
            self.recorded = None
            batch = super()._generate_and_score_completions(inputs)
            rewards = self._rewards.tolist()
            seen.append({"batch": batch, "rewards": rewards, "rollouts": self.recorded, "logprobs": self.logprobs})
            return batch

        def segment_advantages(self, inputs, batch, logprobs, rewards):
            self.logprobs, self.recorded = logprobs, {}
            return super().segment_advantages(inputs, batch, logprobs, rewards)

        def _generate_single_turn(self, prompt_ids, *arguments, **keywords):
            completions, logprobs = super()._generate_single_turn(prompt_ids, *arguments, **keywords)
            if self.recorded is not None:
                for prefix, ids in zip(prompt_ids, completions, strict=True):
                    self.recorded.setdefault(tuple(prefix), []).append(tuple(ids))
            return completions, logprobs

    def even(completion_ids, **_):
        return [reward_of(ids) for ids in completion_ids]

    rows = Dataset.from_list([{"prompt": f"{problem.question}\n"} for problem in tiny.problems(16)])
    settings = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        bf16=False,
        report_to=[],
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=10,
        max_steps=3,
        learning_rate=1e-3,
        temperature=0.8,
        beta=0.0,
        dataloader_pin_memory=False,
        save_strategy="no",
        seed=1,
    )
    trainer = Recorded(
        str(folder),
        reward_funcs=even,
        args=settings,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(folder),
        spo=example.SPOChain(interval=2, rollouts_per_cut=3),
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = [name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])]
    return seen, moved, trainer


def test_trl_trainer_gives_each_token_the_advantage_of_spo_chain(trained) -> None:
    seen, _, _ = trained
    assert len(seen) == 3
    checked = 0
    for step in seen:
        batch = step["batch"]
        prompts = _unpadded(batch["prompt_ids"], batch["prompt_mask"])
        responses = _unpadded(batch["completion_ids"], batch["completion_mask"])
        problems = [Problem(str(row), str(row), "") for row in range(len(prompts))]
        rows = []
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            own = tuple(step["logprobs"][row, : len(response)].tolist())
            rows.append((row, Trajectory(str(row), prompt, response, own, True), step["rewards"][row]))
        for row, trajectory, reward in rows:
            world = World(
                policy=Replay(step["rollouts"]),
                settings=replace(tiny.BASE, credit=CHAIN, context_tokens=1000, max_response_tokens=100),
                iteration=1,
                encode=lambda problem, prompts=prompts: prompts[int(problem.id)],
                reward=lambda problem, ids, finished: reward_of(ids),
                pieces=lambda ids: [""] * len(ids),
                clock=Clock(),
            )
            rated, _, _ = chain.rate(world, problems, [(row, trajectory, reward)])
            found = batch["advantages"][row]
            np.testing.assert_allclose(found[: len(trajectory.response_ids)].numpy(), rated[0].advantages, atol=1e-6)
            assert not found[len(trajectory.response_ids) :].any()
            checked += int(found.bool().sum())
    assert checked > 20  # advantages that are not 0, so that equality says something


def test_trl_trainer_trains_on_uncertain_tokens_only(trained) -> None:
    seen, moved, trainer = trained
    for step in seen:
        batch = step["batch"]
        expected = (step["logprobs"] < np.log(0.9)) & batch["completion_mask"].bool()
        assert torch.equal(batch["tool_mask"].bool(), expected)
        assert batch["num_items_in_batch"] == expected.sum() > 0
    assert moved
    assert all(np.isfinite(row["loss"]) for row in trainer.state.log_history if "loss" in row)


def test_trl_trainer_refuses_what_it_cannot_do(tmp_path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig

    folder = tiny.model(tmp_path / "model")
    settings = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], loss_type="grpo", num_generations=8
    )
    with pytest.raises(ValueError, match="loss_type='dapo'"):
        load_example().SPOChainTrainer(
            str(folder),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=settings,
            train_dataset=Dataset.from_list([{"prompt": "Digits: 1 2 3.\n"}]),
        )


def test_main_trains_on_a_file_of_word_problems(tmp_path) -> None:
    folder, problems = tiny.model(tmp_path / "model"), tmp_path / "problems.jsonl"
    problems.write_text(
        "".join(f'{{"question": "Digits: {n} 2 3.", "answer": "It is the last. #### 3"}}\n' for n in range(4))
    )
    short = {"max_steps": 1, "max_completion_length": 8, "use_cpu": True, "bf16": False, "report_to": []}
    load_example().main(str(folder), str(problems), output_dir=str(tmp_path / "out"), save_strategy="no", **short)


def _unpadded(ids, mask) -> list[tuple[int, ...]]:
    return [tuple(row[keep.bool()].tolist()) for row, keep in zip(ids, mask, strict=True)]
