"""What makes backend hf fit, and that it computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spo.errors import UserError
from spo.policy import BACKENDS, CRITICS
from spo.policy.hf import HfPolicy
from spo.settings import Memory
from spo.types import Request, Sampling
from tests import tiny
from tests.unit.policy.test_head import LargestTensor

IDS = torch.randint(3, 15, (4, 40), generator=torch.Generator().manual_seed(1))
SHAPE = {
    "vocab_size": 200,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "tie_word_embeddings": False,
}
CPU = Memory(device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.model(tmp_path_factory.mktemp("model"))


def model(kind, **more):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SHAPE | more)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def policy(kind, memory=CPU, **more):
    return HfPolicy(model(kind, **more), 1, Path("nowhere"), memory=memory)


def gradients(policy):
    """Of a loss that not all tokens are in."""
    logprobs, _ = policy.token_logprobs(IDS, 0.6)
    (logprobs[:, 5:] * torch.linspace(-1, 1, 34)).sum().backward()
    found = {name: weight.grad for name, weight in policy.weights().items()}
    for weight in policy.weights().values():
        weight.grad = None
    return logprobs.detach(), found


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "granite", "cohere"])
def test_every_model_has_its_own_logprobs_and_gradients(kind):
    """Gemma 2 caps logits, Granite divides and Cohere multiplies them: no chunks, but the right numbers."""
    more = {"logits_scaling": 8.0} if kind == "granite" else {}
    ours, judge = policy(kind, replace(CPU, head_chunk_tokens=7), **more), model(kind, **more)
    logits = judge(IDS[:, :-1]).logits.float() / 0.6
    expected = logits.log_softmax(dim=-1).gather(-1, IDS[:, 1:, None])[..., 0]
    (expected[:, 5:] * torch.linspace(-1, 1, 34)).sum().backward()
    logprobs, found = gradients(ours)
    torch.testing.assert_close(logprobs, expected.detach(), atol=1e-5, rtol=0)
    for name, weight in judge.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, atol=1e-5, rtol=1e-4)
    assert (ours._head is None) == (kind in ("gemma2", "granite", "cohere"))


@pytest.mark.parametrize("more", [{}, {"gradient_checkpointing": True}], ids=["kept", "recomputed"])
def test_no_tensor_of_a_training_pass_grows_with_tokens_times_vocabulary(more):
    """4 x 39 tokens and 200 words: the head's weight, 200 x 16, and chunks of 8 logits, 8 x 200, are smaller."""
    ours = policy("llama", replace(CPU, head_chunk_tokens=8, **more))
    ours.token_logprobs(IDS[:1, :3], 1.0)  # once: how the model's logits come about is found out by trying
    with LargestTensor() as seen:
        ours.token_logprobs(IDS, 1.0)[0].sum().backward()
    assert seen.numbers <= 4 * 39 * 39 * 2 < 4 * 39 * 200  # attention scores of two heads


def test_recomputed_layers_keep_less_and_give_the_same_gradients():
    kept, lean = policy("llama"), policy("llama", replace(CPU, gradient_checkpointing=True))
    numbers = []
    for each in (kept, lean):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=saved: s.append(x.numel()) or x, lambda x: x):
            each.token_logprobs(IDS, 1.0)
        numbers.append(sum(saved))
    assert numbers[1] < numbers[0] / 3
    (logprobs, found), (again, theirs) = gradients(kept), gradients(lean)
    assert torch.equal(logprobs, again)
    assert all(torch.equal(found[name], theirs[name]) for name in found)


def test_recomputing_leaves_sampling_alone(folder):
    requests = [Request((5, 6, 7), (1, 2, 3), 12)]
    plain, lean = (BACKENDS["hf"](folder, 1, memory=m) for m in (CPU, replace(CPU, gradient_checkpointing=True)))
    lean.token_logprobs(IDS, 1.0)[0].sum().backward()
    assert lean.sample(requests, Sampling()) == plain.sample(requests, Sampling())


def test_a_model_that_drops_activations_is_not_recomputed():
    with pytest.raises(UserError, match="memory.gradient_checkpointing: LlamaForCausalLM would drop .*attention_drop"):
        policy("llama", replace(CPU, gradient_checkpointing=True), attention_dropout=0.1)


def test_fewer_rows_at_once_draw_the_same_samples(folder):
    requests = [Request((5, 6, 7), tuple(range(9)), 12)]
    few, many = (BACKENDS["hf"](folder, 1, memory=replace(CPU, sample_rows=rows)) for rows in (2, 256))
    ours, theirs = ([s.response_ids for s in each.sample(requests, Sampling())[0]] for each in (few, many))
    assert ours == theirs


def test_bfloat16_weights_compute_nearly_the_same(folder):
    low = BACKENDS["hf"](folder, 1, "bfloat16", replace(CPU, weights="bfloat16"))
    plain = BACKENDS["hf"](folder, 1, "float32", CPU)
    assert {w.dtype for w in low.weights().values()} == {low.train_dtype}
    ours, theirs = (each.token_logprobs(IDS, 1.0)[0] for each in (low, plain))
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().mean() < 0.1


def test_bfloat16_weights_need_bfloat16_products(folder):
    with pytest.raises(UserError, match="memory.weights: bfloat16 needs `dtype: bfloat16`; it is float32"):
        BACKENDS["hf"](folder, 1, "float32", replace(CPU, weights="bfloat16"))


def test_a_parked_policy_is_elsewhere_only_inside(folder):
    """Float64 stands in for another device: `Tensor.to` takes both."""
    parked = BACKENDS["hf"](folder, 1, memory=CPU, parked=True)
    before = {name: (w.data_ptr(), w.detach().clone()) for name, w in parked.weights().items()}
    expected = parked.token_logprobs(IDS, 1.0)[0]
    parked.device = torch.float64
    with torch.no_grad(), parked.present():
        assert {x.dtype for x in (*parked.model.parameters(), *parked.model.buffers())} == {torch.float64}
        assert {w.dtype for w in parked.weights().values()} == {torch.float64}
        torch.testing.assert_close(parked.token_logprobs(IDS, 1.0)[0], expected, atol=1e-4, rtol=0)
    for name, weight in parked.weights().items():
        assert weight.data_ptr() == before[name][0] and torch.equal(weight, before[name][1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("open_it", [BACKENDS["hf"], BACKENDS["engine"], CRITICS["hf"], CRITICS["engine"]])
def test_a_gpu_that_is_not_there_is_one_line(open_it, folder):
    with pytest.raises(UserError, match="memory.device: cuda: .*; use .*auto") as caught:
        open_it(folder, 1, "float32", Memory(device="cuda"))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("more", [{}, {"gradient_checkpointing": True}], ids=["kept", "recomputed"])
def test_a_gpu_computes_what_the_processor_computes(more, folder):
    near, far = (BACKENDS["hf"](folder, 1, memory=Memory(device=device, **more)) for device in ("cpu", "cuda"))
    (logprobs, found), (again, theirs) = gradients(near), gradients(far)
    assert again.device.type == "cpu"
    torch.testing.assert_close(logprobs, again, atol=1e-3, rtol=0)
    for name, gradient in found.items():
        assert theirs[name].device.type == "cuda"
        torch.testing.assert_close(gradient, theirs[name].cpu(), atol=1e-2, rtol=1e-2)
    parked = BACKENDS["hf"](folder, 1, memory=Memory(device="cuda"), parked=True)
    with torch.no_grad(), parked.present():
        torch.testing.assert_close(parked.token_logprobs(IDS, 0.6)[0], logprobs, atol=1e-3, rtol=0)
    assert {w.device.type for w in parked.weights().values()} == {"cpu"}
    critics = [CRITICS["hf"](folder, 1, memory=Memory(device=device)).values(IDS) for device in ("cpu", "cuda")]
    torch.testing.assert_close(*critics, atol=1e-3, rtol=0)
