"""What a study is estimated to cost: tokens counted by hand, times round rates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spo import config
from spo.config import cost
from spo.config.cost import Lengths, Rates, Tokens
from spo.errors import UserError
from spo.settings import (
    Accepted,
    Architecture,
    Chain,
    Critic,
    Group,
    Model,
    Pairs,
    Partition,
    Sft,
    Tokenizer,
    Train,
    Tree,
)

CONFIG = Path(__file__).parents[3] / "config"
LENGTHS = Lengths(prompt_tokens=50, response_tokens=100)
PLAIN = Train(
    credit=Group(samples_per_problem=4), problems_per_iteration=10, iterations=100, context_tokens=1000, epochs=1,
    validate_every=1000, validation_problems=1,
)  # fmt: skip
#: One validation, that before training, samples 100 tokens.
FIRST = 100


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 100 iterations of 40 responses with 150 tokens each, prompts included.
        ({}, Tokens(400_000 + FIRST, 1_200_000, 600_000)),
        ({"epochs": 3}, Tokens(400_000 + FIRST, 1_200_000, 1_800_000)),
        # Two networks learn.
        ({"credit": Critic(samples_per_problem=4)}, Tokens(400_000 + FIRST, 1_200_000, 1_200_000)),
        # 3 cuts a response with 9 rollouts of half a response each: 14.5 responses for every one.
        (
            {"credit": Chain(samples_per_problem=4, partition=Partition(name="fixed_count", segments=4))},
            Tokens(14.5 * 400_000 + FIRST, 1_200_000, 600_000),
        ),
        # 0.1 cutpoints a token are 10; every fifth is a cut.
        ({"credit": Chain(samples_per_problem=4)}, Tokens(10 * 400_000 + FIRST, 1_200_000, 600_000)),
        (
            {"credit": Chain(samples_per_problem=4, partition=Partition(name="lines"), max_estimated_cuts=1)},
            Tokens(10 * 400_000 + FIRST, 1_200_000, 600_000),
        ),
        # A tree of 2 x 30, 4 x 30 and 8 x 40 tokens; of its 14 nodes half are scored, and all may be trained on.
        ({"credit": Tree(branches=(2, 2, 2))}, Tokens(500_000 + FIRST, (70 + 140) * 15_000, 140 * 15_000)),
        (
            {"credit": Tree(branches=(2, 2, 2), episodes_per_iteration=20)},
            Tokens(500_000 + FIRST, (70 + 20) * 15_000, 20 * 15_000),
        ),
        (
            {"credit": Pairs(samples_per_problem=4, pairs_per_problem=3)},
            Tokens(400_000 + FIRST, 100 * 15_000, 60 * 15_000),
        ),
        # No response is longer than what the context leaves.
        ({"context_tokens": 90}, Tokens(160_000 + 40, 80 * 9_000, 40 * 9_000)),
    ],
)
def test_tokens_of_a_run(changes: dict, expected: Tokens) -> None:
    rates = Rates(cutpoint_share=0.1, line_tokens=10)
    assert cost.run_tokens(dataclasses.replace(PLAIN, **changes), LENGTHS, rates) == pytest.approx(expected)


def test_run_tokens_counts_the_iterations_that_are_done() -> None:
    whole = dataclasses.replace(PLAIN, iterations=10, validate_every=1)
    stopped = cost.run_tokens(dataclasses.replace(whole, stop_at=4), Lengths(), Rates())
    assert stopped == cost.run_tokens(dataclasses.replace(whole, iterations=4), Lengths(), Rates())


def test_run_tokens_counts_the_validations_that_choose_a_policy() -> None:
    """10 problems, 8 responses each, 8 epochs, batches of 64: 10 steps, compared after 0, 4, 8 and 10 of them."""
    plain = dataclasses.replace(PLAIN, credit=Accepted(), problems_per_iteration=10, epochs=8, batch_episodes=64)
    choosing = dataclasses.replace(plain, credit=Accepted(keep="first_peak", validate_every_steps=4))
    lengths = Lengths(prompt_tokens=20, response_tokens=50)
    more = cost.run_tokens(choosing, lengths, Rates()).sampled - cost.run_tokens(plain, lengths, Rates()).sampled
    assert more == plain.iterations * 4 * plain.validation_problems * 50


def test_a_length_that_nobody_knows_is_half_the_limit() -> None:
    assert cost.response_tokens(dataclasses.replace(PLAIN, max_response_tokens=300), Lengths()) == 150


def test_the_papers_models_have_their_sizes() -> None:
    study = config.load([CONFIG / "config.yaml", CONFIG / "paper.yaml"])
    assert all(0.4e9 < cost.parameters(model) < 8e9 for model in study.models.values())
    assert {*study.rates.datasets} >= {*study.datasets}
    text = config.forecast(study)
    assert "GPU hours" in text and "estimates, not measurements" in text and "spec §9" in text
    assert "guesses" not in text
    assert len(config.runs(study)) == total(text)[0] and len(config.evaluations(study)) == total(text)[1]


def total(text: str) -> tuple[int, ...]:
    """Runs and evaluations in the last line of the table."""
    line = next(line for line in text.splitlines() if line.startswith("  in all"))
    return tuple(int(word) for word in line.split()[2:4])


def row(text: str, name: str) -> list[str]:
    """Numbers of one line of the table."""
    return next(line for line in text.splitlines() if line.startswith(f"  {name} ")).split()[1:]


def test_memory_is_that_of_the_largest_job() -> None:
    """Rho has 1.1e9 parameters; PPO keeps 16 bytes of each twice, an evaluation in bfloat16 two."""
    paper = [CONFIG / "config.yaml", CONFIG / "paper.yaml"]
    text = config.forecast(config.load(paper))
    assert (row(text, "short_cot")[4], row(text, "mask")[4], row(text, "released_gsm8k")[4]) == ("35.2", "17.6", "2.2")
    lean = {"training": {"memory": {"weights": "bfloat16", "optimizer_device": "cpu"}}}
    assert row(config.forecast(config.load(paper, lean)), "mask")[4] == "2.2"


@pytest.mark.parametrize(("family", "heads"), [("qwen2", 1), ("llama", 2)])
def test_a_llama_has_a_head_of_its_own(family: str, heads: int) -> None:
    """A layer of 2 d (d + d) + 3 d f numbers, and the embeddings of 300 tokens."""
    shape = Architecture(family=family, hidden_size=8, layers=1, heads=1, intermediate_size=10)
    model = Model(architecture=shape, tokenizer=Tokenizer(kind="bpe", vocabulary_size=300), sft=Sft(dataset="x"))
    assert cost.parameters(model) == 2 * 8 * 16 + 3 * 8 * 10 + heads * 300 * 8


def test_what_experiments_share_is_counted_once() -> None:
    study = config.load([CONFIG / "config.yaml"])
    models = sum(model.sft is not None for model in study.models.values())
    assert total(config.forecast(study)) == (len(config.runs(study)) + models, len(config.evaluations(study)))


def test_time_grows_with_size_gpus_and_slowness() -> None:
    paper = [CONFIG / "config.yaml", CONFIG / "paper.yaml"]

    def hours(extra: dict) -> float:
        lines = config.forecast(config.load(paper, extra)).splitlines()
        return float(next(line for line in lines if line.startswith("  long_cot")).split()[-2].replace(",", ""))

    usual = hours({"rates": {"iteration_s": 0}})
    faster = {name: 2 * getattr(config.load(paper).rates, name) for name in ("sample_tokens_per_s",
              "score_tokens_per_s", "train_tokens_per_s")}  # fmt: skip
    assert hours({"rates": {"iteration_s": 0, **faster}}) == pytest.approx(usual / 2, rel=0.01)
    twice = {"resources": {rule: {"gpus": 2} for rule in ("train", "generate")}}
    assert hours({"rates": {"iteration_s": 0}} | twice) == pytest.approx(2 * usual, rel=0.01)
    assert hours({"rates": {"iteration_s": 0, "parameters": 2.2e9}}) == pytest.approx(usual / 2, rel=0.01)


def test_processes_divide_the_work_and_take_their_gpus() -> None:
    """Two on two GPUs: the same GPU hours for tokens, and twice as many for what every iteration costs in any case."""
    paper = [CONFIG / "config.yaml", CONFIG / "paper.yaml"]

    def hours(job: dict, iteration_s: float) -> float:
        extra = {"rates": {"iteration_s": iteration_s}, "resources": {"train": job, "train_with_critic": job}}
        lines = config.forecast(config.load(paper, extra)).splitlines()
        return float(next(line for line in lines if line.startswith("  in all")).split()[-2].replace(",", ""))

    alone, two = {"gpus": 1}, {"gpus": 2, "processes": 2}
    tokens = hours(alone, 0)
    assert hours(two, 0) == pytest.approx(tokens, rel=1e-3)
    assert hours(two, 3600) - tokens == pytest.approx(2 * (hours(alone, 3600) - tokens), rel=1e-3)


def test_a_size_that_is_needed_and_missing_is_one_line() -> None:
    study = config.load([CONFIG / "config.yaml", CONFIG / "paper.yaml"], {"models": {"rho": {"parameters": None}}})
    with pytest.raises(UserError, match=r"^config: models\.rho\.parameters: missing; [^\n]*$"):
        config.forecast(study)
