"""The same tensors through TRL's trainers and through ours: losses, their gradients, advantages.

TRL 1.16 has no PPO any more; `spec §4.3` and hand-made values stand for it in `test_gae.py` and `test_objectives.py`.
"""

from __future__ import annotations

import random

import pytest
import torch

from spo.batching import collate
from spo.credit.groups import group_advantages
from spo.losses import policy_loss
from spo.objectives import preference_loss
from spo.policy import BACKENDS
from spo.settings import Loss
from spo.types import Episode
from tests import tiny

pytest.importorskip("trl", reason="trl is not installed: pip install -e '.[test]'")
pytestmark = pytest.mark.slow

PROMPT = (16, 15, 5, 6, 7, 4)
RESPONSES = [(8, 9, 10), (11,), (7, 6, 5, 4), (12, 13)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"), scale=2.0)


def open_hf(folder, noise: float = 0.0):
    """The model in TRL's hands; `noise` makes it another one."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator)
    return model


def trainer(kind: str, folder, tmp_path, rewards=(), **options):
    """A trainer of TRL that hands out `rewards` in turn."""
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    common = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": [], "bf16": False, "beta": 0.1}
    common |= {"gradient_checkpointing": False, "per_device_train_batch_size": 8}
    parts = {"model": open_hf(folder), "processing_class": AutoTokenizer.from_pretrained(folder)}
    question = tiny.problems()[0].question + "\n"
    if kind == "DPO":
        row = {"prompt": question, "chosen": "1 2", "rejected": "3"}
        parts["ref_model"] = open_hf(folder, 0.02)
    else:
        row = {"prompt": question}
        parts["reward_funcs"] = lambda completions, **_: list(rewards)
        common |= {"max_completion_length": 4, "num_generations": 4}
    args = getattr(trl, f"{kind}Config")(**common | options)
    return getattr(trl, f"{kind}Trainer")(args=args, train_dataset=Dataset.from_list([row] * 8), **parts)


def harvest(made, question: str) -> list[float]:
    """Advantages of two groups of four responses that TRL samples and rates."""
    made.model.train()
    return made._generate_and_score_completions([{"prompt": question}] * 8)["advantages"].tolist()


REWARDS = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def test_grpo_advantages(folder, tmp_path):
    made = trainer("GRPO", folder, tmp_path, REWARDS, scale_rewards="none")
    expected = [a for i in (0, 4) for a in group_advantages(REWARDS[i : i + 4], "mean", divide_by_std=False)]
    assert harvest(made, "Digits: 0 1 2.\n") == pytest.approx(expected, abs=1e-6)


def test_divided_grpo_advantages_differ_in_the_kind_of_deviation_only(folder, tmp_path):
    """TRL divides by the sample's standard deviation and adds 1e-4, the official code by the population's and 1e-8."""
    made = trainer("GRPO", folder, tmp_path, REWARDS, scale_rewards="group")
    theirs = harvest(made, "Digits: 0 1 2.\n")
    for i in (0, 4):
        rewards = torch.tensor(REWARDS[i : i + 4], dtype=torch.float64)
        factor = (rewards.std(correction=0) + 1e-8) / (rewards.std() + 1e-4)
        assert theirs[i : i + 4] == pytest.approx(group_advantages(REWARDS[i : i + 4]) * factor.item(), abs=1e-5)


def test_rloo_advantages(folder, tmp_path):
    made = trainer("RLOO", folder, tmp_path, REWARDS, beta=0.0, normalize_advantages=False)
    expected = [a for i in (0, 4) for a in group_advantages(REWARDS[i : i + 4], "leave_one_out", divide_by_std=False)]
    assert harvest(made, "Digits: 0 1 2.\n") == pytest.approx(expected, abs=1e-6)


def padded(rows, value=0):
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def assert_same_gradients(ours, theirs):
    named = dict(theirs.named_parameters())
    for name, weight in ours.weights().items():
        torch.testing.assert_close(weight.grad, named[name].grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_clipped_loss_and_its_gradient(folder, tmp_path, kl):
    """Ratios inside and far outside the bounds, advantages of both signs; `bnpo` is the mean over a batch's tokens."""
    draw = random.Random(1)
    policy = BACKENDS["engine"](folder, 1)
    advantages = (1.0, -0.5, 0.75, -1.0)
    ids = padded([PROMPT + response for response in RESPONSES])
    now, _ = policy.token_logprobs(ids, 1.0)
    episodes, reference = [], []
    for row, response in enumerate(RESPONSES):
        logprobs = now[row, len(PROMPT) - 1 :][: len(response)].tolist()
        old = tuple(x + draw.choice([-0.5, -0.05, 0.05, 0.5]) for x in logprobs)
        reference.append([x + draw.uniform(-0.5, 0.5) for x in logprobs])
        episodes.append(Episode("p", PROMPT, response, old, (advantages[row],) * len(response)))
    batch = collate(episodes, 0, reference)
    out = policy_loss(now, batch, Loss(kl_coefficient=kl))
    out.loss.backward()
    assert 0 < out.metrics["clipped"] < out.metrics["tokens"]

    plain = {"loss_type": "bnpo", "use_bias_correction_kl": False}
    made = trainer("GRPO", folder, tmp_path, REWARDS, beta=kl, **plain)
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    loss = made._compute_loss(
        made.model,
        {
            "prompt_ids": torch.tensor([PROMPT] * 4),
            "prompt_mask": torch.ones(4, len(PROMPT), dtype=torch.long),
            "completion_ids": padded(RESPONSES),
            "completion_mask": padded([[1] * len(response) for response in RESPONSES]),
            "advantages": torch.tensor(advantages),
            "old_per_token_logps": padded([episode.old_logprobs for episode in episodes]),
            "ref_per_token_logps": padded(reference),
        },
    )
    loss.backward()
    assert out.loss.item() == pytest.approx(loss.item(), abs=1e-5)
    assert_same_gradients(policy, made.model)


def test_dpo_loss_and_its_gradient(folder, tmp_path):
    """TRL's batch has the preferred responses first, then the others; ours has them in turn."""
    made = trainer("DPO", folder, tmp_path)
    made.model.train()
    order = (0, 2, 1, 3)
    ids = [PROMPT + RESPONSES[i] for i in order]
    theirs = made._compute_loss(
        made.model,
        {
            "input_ids": padded(ids),
            "attention_mask": padded([[1] * len(row) for row in ids]),
            "completion_mask": padded([[0] * len(PROMPT) + [1] * len(RESPONSES[i]) for i in order]),
        },
        False,
    )
    theirs.backward()

    open_hf(folder, 0.02).save_pretrained(tmp_path / "reference")
    policy, reference = (BACKENDS["engine"](path, 1) for path in (folder, tmp_path / "reference"))
    episodes = [Episode("p", PROMPT, r, (0.0,) * len(r), (0.0,) * len(r)) for r in RESPONSES]
    batch = collate(episodes, 0)
    batch = batch._replace(ref_logprobs=reference.token_logprobs(batch.input_ids, 1.0)[0].detach())
    ours = preference_loss(policy.token_logprobs(batch.input_ids, 1.0)[0], batch, beta=0.1, penalty=0.0)
    ours.loss.backward()
    assert ours.loss.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert_same_gradients(policy, made.model)
