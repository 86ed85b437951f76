"""Attention logits in the hundreds, as key biases of Qwen2 make them: bfloat16 against float32, beside sdpa."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from spo import prefixes
from spo.policy import BACKENDS, forest, products
from spo.policy.hf import HfPolicy

VOCABULARY, TEMPERATURE = 300, 0.6
#: PyTorch's own error may be exceeded by so much.
ALLOWED = 1.1


def biased(key_bias: float, heads: int, kv_heads: int, head_size: int):
    """A random Qwen2 whose keys have a constant in the slow rotary channels, where positions do not turn it away."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=heads * head_size, intermediate_size=192, num_hidden_layers=3,
        num_attention_heads=heads, num_key_value_heads=kv_heads, initializer_range=0.06, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    half = head_size // 2
    for layer in model.model.layers:
        layer.self_attn.k_proj.bias.data.view(kv_heads, head_size)[:, [half - 2, half - 1, -2, -1]] = key_bias
    return model


def rows() -> torch.Tensor:
    """Rows that share beginnings of 40 and 90 tokens."""
    ids = torch.randint(2, VOCABULARY, (6, 130), generator=torch.Generator().manual_seed(1))
    ids[1:4, :40], ids[5, :90] = ids[0, :40], ids[4, :90]
    return ids


def numbers(policy, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities, and the gradients of a weighted sum of them."""
    logprobs, _ = policy.token_logprobs(ids, TEMPERATURE)
    weight = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(2))
    (logprobs.float() * weight).sum().backward()
    return logprobs.detach().float(), {name: w.grad.float() for name, w in policy.weights().items()}


class Plain:
    """transformers alone, in bfloat16: weights too, or by autocast."""

    def __init__(self, model, autocast: bool) -> None:
        self.autocast, self.model = autocast, deepcopy(model) if autocast else deepcopy(model).bfloat16()

    def weights(self):
        return dict(self.model.named_parameters())

    def token_logprobs(self, ids, temperature):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits = self.model(ids).logits[:, :-1].float()
        return (logits / temperature).log_softmax(dim=-1).gather(-1, ids[:, 1:, None])[..., 0], None


def distance(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    """Return the error of all gradients together, as a share of their length."""
    apart = sum((found[name] - exact[name]).square().sum() for name in exact)
    return float((apart / sum(gradient.square().sum() for gradient in exact.values())).sqrt())


@pytest.mark.parametrize(("heads", "kv_heads", "head_size"), [(4, 2, 32), (2, 2, 64), (4, 1, 24)])
@pytest.mark.parametrize("key_bias", [0.0, 200.0, 400.0, 800.0])
def test_bfloat16_passes_are_as_exact_as_those_of_sdpa(key_bias, heads, kv_heads, head_size, tmp_path):
    model, ids = biased(key_bias, heads, kv_heads, head_size), rows()
    model.save_pretrained(tmp_path)
    exact, exact_gradients = numbers(BACKENDS["hf"](tmp_path, 1), ids)
    for backend, judge in (("hf", Plain(model, True)), ("engine", Plain(model, False))):
        ours, gradients = numbers(BACKENDS[backend](tmp_path, 1, "bfloat16"), ids)
        theirs, their_gradients = numbers(judge, ids)
        assert (ours - exact).abs().mean() <= ALLOWED * (theirs - exact).abs().mean(), backend
        assert distance(gradients, exact_gradients) <= ALLOWED * distance(their_gradients, exact_gradients), backend


@pytest.mark.parametrize("kept_tokens", [0, 512], ids=["computed_again", "kept"])
@pytest.mark.parametrize("sharp", [1.0, 30.0, 300.0])
def test_attention_and_its_gradients_are_as_exact_as_sdpa(sharp, kept_tokens, monkeypatch):
    """Logits up to several hundreds that differ from key to key, six query heads on two key heads, a row of several
    chunks, against float64 on the same bfloat16 numbers.

    sdpa rounds weights before it divides them by their sum, so that the largest is exact: hence the wider limit.
    """
    monkeypatch.setattr(forest, "_KEPT_TOKENS", kept_tokens)
    length, size = 300, 40
    found = forest.forest(torch.arange(length).unsqueeze(0))
    assert len(found.chunks) > 1
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(length, n, size, generator=generator) for n in (6, 2, 2)]
    q, k, v = ((x * scale).bfloat16() for x, scale in zip(parts, (sharp, 1.0, 1.0), strict=True))
    weight = torch.randn(length, 6 * size, generator=generator)

    def ours(q, k, v):
        return forest.attend(q, k, v, found, size**-0.5)

    def sdpa(q, k, v):
        heads = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        out = F.scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)
        return out.squeeze(0).transpose(0, 1).flatten(1)

    def errors(attend, dtype):
        given = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        out = attend(*given)
        return [
            out.detach().double(),
            *(x.double() for x in torch.autograd.grad((out * weight.to(dtype)).sum(), given)),
        ]

    exact = errors(sdpa, torch.float64)
    for name, mine, theirs, true in zip(
        ("out", "q", "k", "v"), errors(ours, torch.bfloat16), errors(sdpa, torch.bfloat16), exact, strict=True
    ):
        assert (mine - true).norm() <= 1.3 * (theirs - true).norm(), name


def test_product_keeps_float32():
    """256 + 1 needs nine bits, bfloat16 has eight."""
    row, column = torch.tensor([[256.0, 1.0]]).bfloat16(), torch.ones(2, 1).bfloat16()
    assert (row @ column).item() == 256.0
    assert products.product(row, column).item() == 257.0
    assert products.product(row[None], column[None]).item() == 257.0
    assert products.product(row, column).dtype == torch.float32
    assert products.product(row.double(), column.double()).dtype == torch.float64


def test_product_leaves_other_products_alone():
    before = torch.backends.mkldnn.matmul.fp32_precision
    products.product(*(torch.ones(2, 2).bfloat16() for _ in range(2)))
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_linear_has_the_gradients_of_a_product():
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(n, 3, dtype=torch.float64, generator=generator).requires_grad_() for n in (4, 5)]
    assert torch.autograd.gradcheck(products.linear, given)
    low = [x.detach().bfloat16() for x in given]
    assert products.linear(*low).dtype == torch.float32


def test_forest_tokens_that_only_fill_up_have_no_gradients():
    """Three rows of 5 tokens are rounded up to 16."""
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 8, prefixes.PADDING_ID]])
    found = forest.forest(ids, 16)
    q, k, v = (torch.randn(16, 2, 4, requires_grad=True) for _ in range(3))
    forest.attend(q, k, v, found, 0.5)[:5].sum().backward()
    assert all(not x.grad[5:].any() and x.grad[:4].any() for x in (q, k, v))


def test_sampling_by_transformers_keeps_logits_in_float32(tmp_path):
    """Weights in bfloat16, as evaluations have them: the head's logits are not rounded once more."""
    from spo.settings import Memory
    from spo.types import Request, Sampling

    model = biased(0.0, 4, 2, 32)
    model.save_pretrained(tmp_path)
    low = HfPolicy.open(tmp_path, 1, "bfloat16", Memory(device="cpu", weights="bfloat16"))
    prompt = tuple(rows()[0, :20].tolist())
    (sample,) = low.sample([Request(prompt, (3,), 5)], Sampling(temperature=0.0))[0]
    with torch.no_grad():
        scored, _ = low.token_logprobs(torch.tensor([prompt + sample.response_ids]), 1.0)
    torch.testing.assert_close(scored[0, 19:], torch.tensor(sample.sampler_logprobs), atol=2e-2, rtol=0)
