"""Model folders of others, opened, sampled and saved by the backends."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spo import wiring
from spo.errors import UserError
from spo.policy import BACKENDS, CRITICS
from spo.policy import tokenizer as tokenizers
from spo.policy.model_folder import check_model_folder
from spo.types import Request, Sampling
from tests import tiny

GREEDY = Sampling(temperature=0.0)
PROMPT = (4, 7, 9)
ROWS = torch.tensor([[4, 7, 9, 3, 12]])
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.model(tmp_path / "model")


@pytest.fixture(params=["engine", "hf"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def edit(path: Path, **keys: Any) -> None:
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(document | keys))


def untie(folder: Path) -> None:
    """Give the model a head of its own."""
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", tie_word_embeddings=False)


def shard(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{1 + ('layers.1' in name)}-of-00002.safetensors" for name in weights}
    for file in set(files.values()):
        save_file({n: w for n, w in weights.items() if files[n] == file}, folder / file, metadata={"format": "pt"})
    edit(folder / "model.safetensors.index.json", metadata={"total_size": 1}, weight_map=files)


def pickle(folder: Path, legacy: bool = False, tied: bool = False) -> None:
    weights = load_file(folder / "model.safetensors")
    if tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)


def halve(folder: Path) -> None:
    """Store the weights in bfloat16, and say so in the older way."""
    weights = load_file(folder / "model.safetensors")
    halves = {name: w.bfloat16() for name, w in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}))


def only_head(folder: Path) -> None:
    """Store a tied matrix under the name of the head alone."""
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


STARTS = {
    "as it is": lambda folder: None,
    "untied": untie,
    "tied under the other name": only_head,
    "sharded": shard,
    "bin": pickle,
    "bin tied": lambda folder: pickle(folder, tied=True),
    "bin of old": lambda folder: pickle(folder, legacy=True),
    "bfloat16": halve,
}


@pytest.mark.parametrize("start", STARTS)
def test_open_computes_what_transformers_does_with_any_form_of_weights(folder: Path, backend: str, start: str) -> None:
    from transformers import AutoModelForCausalLM

    STARTS[start](folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    logprobs, _ = BACKENDS[backend](folder, 1).token_logprobs(ROWS, 1.0)
    expected = theirs(input_ids=ROWS).logits.log_softmax(-1)[:, :-1].gather(-1, ROWS[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(logprobs, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("start", STARTS)
def test_save_gives_transformers_the_weights_that_were_trained(folder: Path, backend: str, start: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    STARTS[start](folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "LICENSE").write_text("theirs")
    (folder / "README.md").write_text("their card")
    (folder / "optimizer.pt").write_text("state")
    edit(folder / "generation_config.json", eos_token_id=[1, 5])
    policy = BACKENDS[backend](folder, (1, 5))
    with torch.no_grad():
        for weight in policy.weights().values():
            weight += 1e-4 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    saved = folder.parent / "saved"
    policy.save(saved)
    names = {path.name for path in saved.iterdir()}
    kept = {"chat_template.jinja", "LICENSE", "config.json", "generation_config.json", "tokenizer.json"}
    assert names == {*kept, "model.safetensors", "tokenizer_config.json"}
    theirs = AutoModelForCausalLM.from_pretrained(saved)
    found = dict(theirs.named_parameters())
    assert found.keys() == policy.weights().keys()
    for name, weight in policy.weights().items():
        assert found[name].dtype == torch.float32 and torch.equal(found[name], weight), name
    text = AutoTokenizer.from_pretrained(saved).apply_chat_template([{"role": "user", "content": "7"}], tokenize=False)
    assert text == "7\n"
    facts = check_model_folder(saved, backend)
    assert facts.end_ids == (1, 5)
    # Either backend continues from there.
    again, _ = BACKENDS["engine"](saved, 1).token_logprobs(ROWS, 1.0)
    torch.testing.assert_close(again, policy.token_logprobs(ROWS, 1.0)[0], atol=2e-5, rtol=1e-4)


def test_save_writes_what_a_start_lacks(folder: Path, backend: str) -> None:
    """The workflow expects both files of every trained model, whatever its start had."""
    from transformers import AutoTokenizer, GenerationConfig

    (folder / "tokenizer_config.json").unlink()
    edit(folder / "config.json", eos_token_id=[1, 6])
    saved = folder.parent / "saved"
    BACKENDS[backend](folder, (1, 6)).save(saved)
    assert GenerationConfig.from_pretrained(saved).eos_token_id == [1, 6]
    assert AutoTokenizer.from_pretrained(saved).encode("7") == AutoTokenizer.from_pretrained(folder).encode("7")


def test_save_keeps_a_generation_config_that_transformers_would_not_write(folder: Path, backend: str) -> None:
    shipped = {"do_sample": False, "temperature": 0.9, "top_p": 0.6, "eos_token_id": 1}
    edit(folder / "generation_config.json", **shipped)
    policy = BACKENDS[backend](folder, 1)
    policy.rehearse(folder.parent / "rehearsal")
    policy.save(folder.parent / "saved")
    assert json.loads((folder.parent / "saved/generation_config.json").read_text()) == shipped


def test_rehearse_shows_what_cannot_be_saved_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = BACKENDS["hf"](folder, 1)
    policy.rehearse(folder.parent / "rehearsal")
    assert (
        not (folder.parent / "rehearsal/model.safetensors").exists()
        or load_file(folder.parent / "rehearsal/model.safetensors") == {}
    )

    def refuse(*_: object, **__: object) -> None:
        raise TypeError("Object of type dtype\nis not JSON serializable")

    monkeypatch.setattr(policy.model.config, "save_pretrained", refuse)
    with pytest.raises(
        UserError, match=r"Object of type dtype is not JSON serializable\. A model trained from it could"
    ):
        policy.rehearse(folder.parent / "rehearsal")


def test_sample_ends_at_any_end_token(folder: Path, backend: str) -> None:
    """As `generate` of transformers, with ends in both configs."""
    from transformers import AutoModelForCausalLM

    request = Request(PROMPT, (0,), 12)
    ((free,),) = BACKENDS[backend](folder, ()).sample([request], GREEDY)
    second = free.response_ids[1]
    edit(folder / "config.json", eos_token_id=[1, 16])
    edit(folder / "generation_config.json", eos_token_id=[1, second])
    tokenizer = tokenizers.load(folder)
    assert tokenizer.end_ids == (1, 16, second)
    ((sample,),) = BACKENDS[backend](folder, tokenizer.end_ids).sample([request], GREEDY)
    ids = torch.tensor([PROMPT])
    theirs = AutoModelForCausalLM.from_pretrained(folder).generate(ids, max_new_tokens=12, do_sample=False)
    assert sample.response_ids == tuple(theirs[0, 3:].tolist()) and sample.finished
    assert sample.response_ids[-1] == second and tokenizer.decode(sample.response_ids[-1:]) == ""


def test_ids_that_only_the_model_has_are_sampled_as_empty_text(folder: Path, backend: str) -> None:
    weights = load_file(folder / "model.safetensors")
    rows = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = torch.cat((rows, 3 * rows[:7].flip(1)))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", vocab_size=24)
    check_model_folder(folder, backend)
    tokenizer = tokenizers.load(folder)
    requests = [Request(PROMPT, tuple(range(30)), 8)]
    (samples,) = BACKENDS[backend](folder, tokenizer.end_ids).sample(requests, Sampling())
    beyond = [sample for sample in samples if max(sample.response_ids) >= tokenizer.vocabulary_size]
    assert beyond
    for sample in beyond:
        own = [i for i in sample.response_ids if i < tokenizer.vocabulary_size]
        assert tokenizer.decode(sample.response_ids) == tokenizer.decode(own)
        texts = wiring.pieces(tokenizer)(sample.response_ids)
        assert len(texts) == len(sample.response_ids)
        assert all(not text for i, text in zip(sample.response_ids, texts, strict=True) if i >= 17)


@pytest.mark.parametrize(
    "settings",
    [
        {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}},
        {
            "padding": {
                "strategy": {"Fixed": 16},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "</s>",
            }
        },
    ],
)
def test_load_ignores_truncation_and_padding_stored_in_a_tokenizer(folder: Path, settings: dict) -> None:
    from transformers import AutoTokenizer

    text = "Digits: 7 4 2 .\n"
    expected = tokenizers.load(folder).encode(text)
    edit(folder / "tokenizer.json", **settings)
    tokenizer = tokenizers.load(folder)
    theirs = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids
    assert tokenizer.encode(text) == expected == tuple(theirs)
    assert tokenizer.encode_many([text, "7"]) == [expected, expected[2:3]]


def test_load_encodes_the_same_text_alike_with_dropout_stored(tmp_path: Path) -> None:
    texts = ["counting shells and apples all day long"] * 50
    tokenizers.save(tokenizers.build_bpe(texts, 300), tmp_path)
    expected = tokenizers.load(tmp_path).encode(texts[0])
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = tokenizers.load(tmp_path)
    assert {tokenizer.encode(text) for text in texts} == {expected}


def test_open_refuses_a_head_that_is_tied_in_the_config_only(folder: Path, backend: str) -> None:
    untie(folder)
    edit(folder / "config.json", tie_word_embeddings=True)
    with pytest.raises(UserError, match=r"tie_word_embeddings: true, but lm_head.weight differs"):
        BACKENDS[backend](folder, 1)


@pytest.mark.parametrize("legacy", [False, True])
def test_open_runs_nothing_that_is_pickled(folder: Path, backend: str, legacy: bool) -> None:
    (folder / "model.safetensors").unlink()
    mark = folder / "ran"

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(mark),)

    for content in ({"weight": Trap()}, Trap(), {"epoch": 3}, [torch.ones(1)]):
        torch.save(content, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError) as refused:
            BACKENDS[backend](folder, 1)
        assert "\n" not in str(refused.value) and not mark.exists()


@pytest.mark.parametrize("cut", [0, 1, 100, -30])
def test_open_names_a_bin_file_that_was_cut_off(folder: Path, backend: str, cut: int) -> None:
    pickle(folder)
    data = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(data[:cut])
    with pytest.raises(UserError, match=r"pytorch_model.bin: damaged: .*Download it again"):
        BACKENDS[backend](folder, 1)


def test_open_names_tensors_that_a_bin_file_lacks(folder: Path, backend: str) -> None:
    pickle(folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lack model.layers.1.mlp.up_proj.weight"):
        BACKENDS[backend](folder, 1)


def foreign(folder: Path, kind: str, build: str, **sizes: Any) -> Path:
    """Save a model of transformers into the folder, in place of the one there."""
    import transformers

    config = transformers.AutoConfig.for_model(kind, vocab_size=20, eos_token_id=1, **sizes)
    torch.manual_seed(0)
    getattr(transformers, build)(config).save_pretrained(folder)
    return folder


GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}


def test_open_takes_other_architectures_that_are_complete(folder: Path) -> None:
    policy = BACKENDS["hf"](foreign(folder, "gpt2", "GPT2LMHeadModel", **GPT2), 1)
    policy.save(folder.parent / "saved")
    policy.sample([Request(PROMPT, (0,), 3)], GREEDY)


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
ARCHITECTURES = {
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 8}),  # caps logits, tied, alternating windows
    "mistral": ("MistralForCausalLM", {"sliding_window": 4}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", EXPERTS),  # stored expert by expert, computed as one tensor
    "llama": ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_open_and_save_agree_with_transformers_on_other_architectures(folder: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    build, more = ARCHITECTURES[kind]
    foreign(folder, kind, build, **SIZES, **more)
    check_model_folder(folder, "hf")
    with pytest.raises(UserError, match=r"by backend engine. Use `backend: hf`"):
        check_model_folder(folder, "engine")
    rows = torch.tensor([[4, 7, 9, 3, 12, 5, 6]])
    policy = BACKENDS["hf"](folder, 1)
    with torch.no_grad():
        for weight in policy.weights().values():
            weight += 1e-3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    policy.save(folder.parent / "saved")
    check_model_folder(folder.parent / "saved", "hf")
    theirs = AutoModelForCausalLM.from_pretrained(folder.parent / "saved")
    expected = theirs(input_ids=rows).logits.log_softmax(-1)[:, :-1].gather(-1, rows[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(policy.token_logprobs(rows, 1.0)[0], expected, atol=1e-5, rtol=1e-5)


def test_open_names_what_another_architecture_lacks(folder: Path) -> None:
    foreign(folder, "gpt2", "GPT2LMHeadModel", **GPT2)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("h.1.mlp.c_fc.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the weights lack transformer.h.1.mlp.c_fc.weight, which GPT2LMHeadModel has"):
        BACKENDS["hf"](folder, 1)
    save_file(weights | {"h.1.extra_scale": torch.ones(1), name: torch.ones(3, 3)}, folder / "model.safetensors")
    with pytest.raises(UserError) as refused:
        BACKENDS["hf"](folder, 1)
    assert "\n" not in str(refused.value)


def test_open_refuses_an_encoder(folder: Path) -> None:
    with pytest.raises(UserError, match=r"the weights lack cls.predictions.*which BertLMHeadModel has"):
        BACKENDS["hf"](foreign(folder, "bert", "BertModel", **BERT), 1)
    with pytest.raises(UserError, match=r"BertLMHeadModel: its tokens see those after them"):
        BACKENDS["hf"](foreign(folder, "bert", "BertForMaskedLM", **BERT), 1)


@pytest.mark.parametrize("kernels", ["compiled", "plain"])
@pytest.mark.parametrize("token", [17, 10**6, -1])
def test_sample_names_a_prompt_outside_the_vocabulary(
    folder: Path, backend: str, token: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPO_SAMPLER", "auto" if kernels == "compiled" else "plain")
    with pytest.raises(UserError, match="prompt: a token outside the model's vocabulary of 17"):
        BACKENDS[backend](folder, 1).sample([Request((4, token), (0,), 3)], GREEDY)


def test_open_runs_no_code_of_a_folder(folder: Path) -> None:
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match=r"custom code|trust_remote_code"):
        BACKENDS["hf"](folder, 1)
    assert not (folder / "ran").exists()


def test_open_gives_one_line_for_a_model_type_of_nobody(folder: Path) -> None:
    edit(folder / "config.json", model_type="nobody", architectures=["NobodyForCausalLM"])
    with pytest.raises(UserError, match=r"nobody") as refused:
        BACKENDS["hf"](folder, 1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("start", ["as it is", "untied"])
def test_critics_open_policies_and_what_they_saved(folder: Path, backend: str, start: str) -> None:
    STARTS[start](folder)
    critic = CRITICS[backend](folder, 3)
    critic.save(folder.parent / "critic")
    again = CRITICS[backend](folder.parent / "critic", 4)
    torch.testing.assert_close(again.values(ROWS), critic.values(ROWS))


def test_save_keeps_numbers_that_json_does_not_have(folder: Path, backend: str) -> None:
    """Python writes Infinity and NaN into the config.json of some models, and reads them."""
    edit(folder / "config.json", _limits=[0.0, float("inf")])
    for name, model in (("policy", BACKENDS[backend](folder, 1)), ("critic", CRITICS[backend](folder, 1))):
        model.rehearse(folder.parent / "rehearsal")
        model.save(folder.parent / name)
        limits = json.loads((folder.parent / name / "config.json").read_text())["_limits"]
        # transformers has a form of its own for them.
        assert limits in ([0.0, float("inf")], [0.0, {"__float__": "Infinity"}])


def test_a_copy_of_a_trained_folder_is_a_start(folder: Path, backend: str) -> None:
    BACKENDS[backend](folder, 1).save(folder.parent / "saved")
    shutil.copytree(folder.parent / "saved", folder.parent / "again")
    check_model_folder(folder.parent / "again", backend)


def test_open_refuses_a_bin_file_of_quantised_weights(folder: Path, backend: str) -> None:
    pickle(folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=rf"quantised weights \({name}\)"):
        BACKENDS[backend](folder, 1)


def test_open_names_a_bin_file_that_would_run_code(folder: Path, backend: str) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Path("x")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin: not a file of tensors alone: opening it would run code"):
        BACKENDS[backend](folder, 1)


def test_save_lets_others_read_the_weights_as_the_umask_says(folder: Path, backend: str) -> None:
    policy = BACKENDS[backend](folder, 1)
    before = os.umask(0o027)
    try:
        policy.save(folder.parent / "saved")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder.parent / "saved").iterdir()}
    assert modes == dict.fromkeys(modes, 0o640)
