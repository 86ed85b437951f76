"""config/paper_tiny.yaml changes sizes and counts of config/paper.yaml, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spo import config
from spo.config.plan import train_settings, trained
from spo.policy import tokenizer as tokenizers
from spo.types import Problem
from spo.wiring import encoder
from tests.paper_prompts import BEGINS, PROMPTS

CONFIG = Path(__file__).parents[3] / "config"
FILES = [CONFIG / name for name in ("config.yaml", "paper.yaml", "paper_tiny.yaml", "paper_tiny_vllm.yaml")]
PAPER, TINY, VLLM = (config.load(FILES[:n]) for n in (2, 3, 4))

#: Keys of a training run that count something, and who samples.
COUNTS = """
backend iterations stop_at problems_per_iteration epochs batch_episodes checkpoint_every checkpoint_every_steps
context_tokens max_response_tokens validate_every validation_problems validation_samples
credit.samples_per_problem credit.rollouts_per_cut
credit.max_estimated_cuts credit.branches credit.segment_tokens credit.episodes_per_iteration credit.keep_per_problem
credit.pairs_per_problem credit.validate_every_steps
"""
RUNS = [(key, method) for key, experiment in PAPER.experiments.items() for method in trained(PAPER, experiment)]


def plain(value: object) -> object:
    """Settings as mappings, inside mappings too."""
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return {key: plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def changed(one: object, other: object, above: str = "") -> set[str]:
    """Dotted keys of two settings, or mappings of them, that differ."""
    first, second = plain(one), plain(other)
    found = set()
    for key in first.keys() | second.keys():
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= changed(a, b, f"{above}{key}.")
        elif a != b:
            found.add(above + key)
    return found


@pytest.mark.parametrize(("experiment", "method"), RUNS)
def test_runs_differ_in_counts_alone(experiment: str, method: str) -> None:
    paper, tiny = (train_settings(study, method, experiment) for study in (PAPER, TINY))
    assert changed(paper, tiny) <= set(COUNTS.split())
    assert (paper.backend, tiny.backend, tiny.iterations) == ("vllm", "hf", 2)


def test_everything_else_is_the_papers() -> None:
    assert all(".train." in key for key in changed(PAPER.methods, TINY.methods))
    assert (PAPER.claims, PAPER.style, PAPER.tables) == (TINY.claims, TINY.style, TINY.tables)
    for name, dataset in PAPER.datasets.items():
        from_where = {"source", "options.published"} if name == "knights" else {"path"}
        sizes = {"seed", "train", "validation", "test", "demonstrations"}
        assert changed(dataset, TINY.datasets[name]) <= sizes | from_where
    for name, protocol in PAPER.protocols.items():
        assert changed(protocol, TINY.protocols[name]) <= {"samples_per_problem", "backend"}
    for name, experiment in PAPER.experiments.items():
        parts = {key.partition(".")[0] for key in changed(experiment, TINY.experiments[name])}
        assert parts <= {"contexts", "paper_contexts", "train", "overrides"}
        contexts = TINY.experiments[name].paper_contexts or experiment.contexts
        assert contexts == experiment.contexts and len(TINY.experiments[name].contexts) == len(contexts)
    assert changed(PAPER.figures, TINY.figures) == {"fig5a.context"}
    counts = ("problems", "chain.rollouts_per_cut", "tree.branches")
    assert changed(PAPER.traces, TINY.traces) <= {f"gsm8k.trace.{key}" for key in counts}
    assert PAPER.models.keys() == TINY.models.keys()
    assert TINY.datasets["knights"].grader == "knights"


def test_the_overlay_for_vllm_changes_who_samples_and_where_to() -> None:
    found = changed(TINY, VLLM)
    assert found == {"study", "files", "results", "pictures", "training.backend"} | {
        f"protocols.{name}.backend" for name in TINY.protocols
    }
    assert {protocol.backend for protocol in VLLM.protocols.values()} == {"vllm"} == {VLLM.training["backend"]}


def test_models_have_the_architectures_of_the_real_ones() -> None:
    families = {name: model.architecture.family for name, model in TINY.models.items()}
    llamas = {"rho", "deepseek_math", "spo_chain_released", "spo_tree_released"}
    assert {name for name, family in families.items() if family == "llama"} == llamas
    # vLLM has no kernel for heads of fewer dimensions on a processor.
    shapes = [model.architecture for model in TINY.models.values()]
    assert all(shape.hidden_size // shape.heads >= 32 for shape in shapes)


@pytest.mark.parametrize(("model", "begin"), BEGINS.items())
def test_a_prompt_begins_with_exactly_one_beginning_of_sequence(model: str, begin: str) -> None:
    found = TINY.models[model]
    tokenizer = tokenizers.build_bpe(PROMPTS.values(), 640, found.tokenizer.special_tokens)
    id_of_begin = tokenizer.backend.token_to_id(begin)
    datasets = {
        dataset
        for experiment in TINY.experiments.values()
        if experiment.model == model
        for dataset in (experiment.dataset, *experiment.evaluate_on)
    }
    assert datasets
    for name in datasets:
        ids = encoder(tokenizer, TINY.datasets[name])(Problem("x", "How much is 1 + 1?", "2"))
        assert ids[0] == id_of_begin and ids.count(id_of_begin) == 1


def test_foreign_role_tokens_are_text_to_qwen() -> None:
    tokenizer = tokenizers.build_bpe(PROMPTS.values(), 640, TINY.models["qwen"].tokenizer.special_tokens)
    ids = encoder(tokenizer, TINY.datasets["gsm8k_qwen"])(Problem("x", "How much is 1 + 1?", "2"))
    assert tokenizer.decode(ids) == PROMPTS["gsm8k_qwen"].replace("{question}", "How much is 1 + 1?")
    ids = encoder(tokenizer, TINY.datasets["knights"])(Problem("x", "Who is who?", "2"))
    start, end = map(tokenizer.backend.token_to_id, ("<|im_start|>", "<|im_end|>"))
    assert ids[0] == start and (ids.count(start), ids.count(end)) == (2, 1)
