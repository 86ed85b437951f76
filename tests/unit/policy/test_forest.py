"""Distinct tokens computed once: a forest by hand, and the numbers and gradients of plain padded passes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spo import prefixes
from spo.batching import shared_batches
from spo.policy import BACKENDS, CRITICS, forest, transformer
from spo.policy.transformer import Geometry
from tests.unit.policy.test_engine import EOS, build

PAD = prefixes.PADDING_ID


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Each backend on a Qwen2 and a Llama, which has a head of its own and no biases."""
    root = tmp_path_factory.mktemp("models")
    engines = {"qwen2": build(root / "qwen2", 1), "llama": build(root / "llama", 2, "llama")}
    return {
        (backend, family): BACKENDS[backend](engine.source, EOS)
        for family, engine in engines.items()
        for backend in ("engine", "hf")
    }


def plain(weights, geo, input_ids, temperature) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token of every row, padding as token 0."""
    ids = input_ids.clamp(min=0)
    hidden, _ = transformer.forward(weights, geo, ids[:, :-1])
    logprobs = torch.log_softmax(transformer.logits(weights, geo, hidden) / temperature, dim=-1)
    entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
    return logprobs.gather(-1, ids[:, 1:, None])[..., 0], entropy.detach()


def gradients(weights) -> dict[str, torch.Tensor]:
    out = {name: w.grad.clone() for name, w in weights.items()}
    for weight in weights.values():
        weight.grad = None
    return out


def assert_plain(policies, backend: str, family: str, rows) -> None:
    """Log-probabilities, entropies and the gradients of a weighted sum of the former."""
    judge, policy = policies["engine", family], policies[backend, family]
    ids = torch.from_numpy(prefixes.pad(rows))
    mask = ids[:, 1:] != PAD
    weight = torch.randn(mask.shape, generator=torch.Generator().manual_seed(len(rows))) * mask
    expected, expected_entropy = plain(judge.weights(), judge.geometry, ids, 0.8)
    (expected * weight).sum().backward()
    expected_gradients = gradients(judge.weights())
    logprobs, entropy = policy.token_logprobs(ids, 0.8)
    (logprobs * weight).sum().backward()
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(logprobs[mask], expected[mask], **close)
    torch.testing.assert_close(entropy[mask], expected_entropy[mask], **close)
    assert torch.isfinite(logprobs).all() and torch.isfinite(entropy).all()
    for name, gradient in gradients(policy.weights()).items():
        scale = max(1.0, float(expected_gradients[name].abs().max()))
        torch.testing.assert_close(gradient / scale, expected_gradients[name] / scale, msg=name, **close)


def distinct(rows) -> int:
    return len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})


def tree(branches, segment: int, leaf: Callable[[], int], prompt: int) -> list[tuple[int, ...]]:
    """The rows of a tree of random segments, one a node: everything up to its end."""
    rng = np.random.default_rng(0)
    nodes, rows = [tuple(rng.integers(2, 20, prompt).tolist())], []
    for level, count in enumerate(branches):
        lengths = (leaf() if level == len(branches) - 1 else segment for _ in range(count * len(nodes)))
        nodes = [
            parent + tuple(rng.integers(2, 20, length).tolist())
            for (parent, _), length in zip(itertools.product(nodes, range(count)), lengths, strict=True)
        ]
        rows += nodes
    return rows


@pytest.mark.parametrize("kept_tokens", [0, 512])
@pytest.mark.parametrize("round_to", [1, 4])
def test_gradients_of_attention_are_its_differences(kept_tokens, round_to, monkeypatch):
    """Of three rows with two and four tokens in common, four query heads on two key heads; in chunks of at most two
    tokens, with their weights kept and computed again."""
    monkeypatch.setattr(forest, "_KEPT_TOKENS", kept_tokens)
    monkeypatch.setattr(forest, "_CHUNK_TOKENS", 2)
    rows = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 8, 4], [5, 6, 3, PAD, PAD]])
    found = forest.forest(rows, round_to)
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(len(found.ids), n, 3, dtype=torch.float64, generator=generator) for n in (4, 2, 2)]
    assert len(found.chunks) > 1
    given = [x.requires_grad_() for x in heads]
    assert torch.autograd.gradcheck(lambda q, k, v: forest.attend(q, k, v, found, 0.6), given)


def test_gradients_of_the_norm_are_its_differences():
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    geo = Geometry(8, 1, 1, 1, 8, 4, 1e4, 1e-3, True, 16)
    torch.testing.assert_close(transformer.unit(x, geo), torch.nn.functional.rms_norm(x, (8,), eps=1e-3))
    assert torch.autograd.gradcheck(lambda x: transformer.unit(x, geo), [x])


def test_a_forest_by_hand():
    """Rows 5 6 7 / 5 6 8 9 / 5 / 4: in the order of a dictionary 4, 5, 6, 7 and then 8, 9 after the second 6."""
    found = forest.forest(torch.tensor([[5, 6, 7, PAD], [5, 6, 8, 9], [5, PAD, PAD, PAD], [4, PAD, PAD, PAD]]))
    assert found.ids.tolist() == [4, 5, 6, 7, 8, 9]
    assert found.positions.tolist() == [0, 0, 1, 2, 2, 3]
    assert found.index.tolist() == [[1, 2, 3, 0], [1, 2, 4, 5], [1, 0, 0, 0], [0, 0, 0, 0]]
    # 8 9 after 5 6, then 6 7 after 5; the other two rows have one token of their own and no context.
    assert [chunk.queries.tolist() for chunk in found.chunks] == [[[4, 5], [2, 3]], [[0], [1]]]
    assert [chunk.keys.tolist() for chunk in found.chunks] == [[[1, 2, 4, 5], [1, 2, 3, 0]], [[0], [1]]]
    assert [chunk.starts.tolist() for chunk in found.chunks] == [[2, 1], [0, 0]]
    assert found.slots.tolist() == [4, 5, 2, 3, 0, 1]


def test_numbers_of_tokens_are_rounded_up():
    found = forest.forest(torch.tensor([[5, 6, 7, 9, 9], [5, 6, 8, 9, PAD]]), round_to=4)
    assert found.ids.tolist() == [5, 6, 7, 9, 9, 8, 9, 0] and found.positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 0]
    assert [(chunk.queries.shape[1], chunk.keys.shape[1]) for chunk in found.chunks] == [(8, 8)]


SOME = [(2, 3, 4, 5), (2, 3), (2, 3, 4, 6, 7, 8), (2, 3, 4, 5), (9,), (2,), (3, 3, 4)]
ALL = [(backend, family) for backend in ("engine", "hf") for family in ("qwen2", "llama")]


@pytest.mark.parametrize(("backend", "family"), ALL)
def test_numbers_and_gradients_are_those_of_padded_rows(policies, backend, family):
    """Repeated rows, rows that begin others, rows of one token, and rows of several chunks."""
    assert_plain(policies, backend, family, SOME)
    assert_plain(policies, backend, family, tree((2, 3, 2), 30, itertools.cycle((5, 90, 150)).__next__, 20))


#: Few ids, so that rows often begin alike.
row = st.lists(st.integers(2, 3), min_size=1, max_size=9).map(tuple)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=8).filter(lambda rows: max(map(len, rows)) > 1), stems=st.lists(row))
def test_numbers_and_gradients_of_any_rows(policies, rows, stems):
    rows = rows + [stem + rows[0] for stem in stems]
    for backend, family in ALL:
        assert_plain(policies, backend, family, rows)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "family"), ALL)
def test_long_rows_whose_attention_is_computed_again_for_the_backward_pass(policies, backend, family):
    rows = tree((2, 2), 600, itertools.cycle((700, 40)).__next__, 30)
    assert_plain(policies, backend, family, rows)


def test_rows_without_a_next_token_have_no_numbers(policies):
    for key in ALL:
        logprobs, entropy = policies[key].token_logprobs(torch.tensor([[5], [6]]), 1.0)
        assert logprobs.shape == entropy.shape == (2, 0)


@settings(deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=10))
def test_every_distinct_token_is_there_once_with_its_history(rows):
    ids = prefixes.pad(rows)
    found = forest.forest(torch.from_numpy(ids))
    assert len(found.ids) == distinct(rows) == shared_tokens_left(ids)
    for places, tokens in zip(found.index.tolist(), rows, strict=True):
        at = places[: len(tokens)]
        assert found.ids[at].tolist() == list(tokens) and found.positions[at].tolist() == list(range(len(tokens)))
    queries = torch.cat([chunk.queries.flatten() for chunk in found.chunks])
    assert queries[found.slots].tolist() == list(range(len(found.ids)))


def shared_tokens_left(ids: np.ndarray) -> int:
    ids = ids[prefixes.alphabetical(ids)]
    return int((prefixes.lengths(ids) - prefixes.shared_tokens(ids)).sum())


def test_a_tree_costs_little_more_than_its_distinct_tokens():
    """6-6-6, segments of 30, a prompt of 60, leaves of 40 to 80, in one group and in many. Products of attention, the
    smaller part of the work, have some places for no query."""
    rng = np.random.default_rng(1)
    rows = tree((6, 6, 6), 30, lambda: int(rng.integers(40, 81)), 60)
    tokens, ids = distinct(rows), prefixes.pad(rows)
    assert sum(map(len, rows)) > 2.5 * tokens
    (group,) = shared_batches(ids, 2 * tokens)
    found = forest.forest(torch.from_numpy(ids[list(group)]), round_to=16)
    assert len(found.ids) <= 1.01 * tokens
    assert sum(chunk.queries.numel() for chunk in found.chunks) <= 1.6 * tokens
    groups = shared_batches(ids, 2048)
    assert len(groups) > 5 and sum(distinct([rows[i] for i in group]) for group in groups) <= 1.2 * tokens


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_a_critic_says_of_every_row_what_it_says_of_the_row_alone(policies, backend, tmp_path):
    critic = CRITICS[backend](policies["engine", "qwen2"].source, seed=1)
    values = critic.values(torch.from_numpy(prefixes.pad(SOME)))
    for numbers, tokens in zip(values, SOME, strict=True):
        torch.testing.assert_close(numbers[: len(tokens)], critic.values(torch.tensor([tokens]))[0], atol=1e-5, rtol=0)
    values[0, 3].backward()
    assert all(bool(w.grad.any()) for name, w in critic.weights().items() if not name.endswith("k_proj.bias"))


def test_a_model_of_another_family_computes_its_rows_whole(tmp_path):
    """Gemma caps its attention's scores in ways of its own, so nothing is left out."""
    from transformers import GemmaConfig, GemmaForCausalLM

    from spo.policy.hf import HfPolicy

    config = GemmaConfig(
        vocab_size=23, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16,
    )  # fmt: skip
    policy = HfPolicy(GemmaForCausalLM(config).eval(), EOS, tmp_path)
    ids = torch.from_numpy(prefixes.pad(SOME))
    logprobs, _ = policy.token_logprobs(ids, 1.0)
    for numbers, tokens in zip(logprobs, SOME, strict=True):
        if len(tokens) < 2:
            continue
        alone, _ = policy.token_logprobs(torch.tensor([tokens]), 1.0)
        torch.testing.assert_close(numbers[: len(tokens) - 1], alone[0], atol=1e-5, rtol=0)
    assert config._attn_implementation == "sdpa"
