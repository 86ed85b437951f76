"""Model folders of others: what a check finds in them before anything starts."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spo.errors import UserError
from spo.policy import model_folder
from spo.policy.model_folder import check_model_folder, digest, kept_files, model_files
from tests import tiny

LAST = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.model(tmp_path / "model")


def edit(path: Path, **keys: Any) -> None:
    """Change keys of a JSON file; `...` removes one."""
    document = json.loads(path.read_text()) if path.exists() else {}
    document = {key: value for key, value in (document | keys).items() if value is not ...}
    path.write_text(json.dumps(document))


def reweigh(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shard(folder: Path, **elsewhere: str) -> dict[str, str]:
    """Write the weights as two shards with an index; `elsewhere` changes the index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{1 + ('layers.1' in name)}-of-00002.safetensors" for name in weights}
    for file in set(files.values()):
        save_file({name: w for name, w in weights.items() if files[name] == file}, folder / file)
    edit(folder / "model.safetensors.index.json", weight_map=files | elsewhere)
    return files


def test_check_model_folder_tells_what_the_folder_has(folder: Path) -> None:
    facts = check_model_folder(folder, "engine")
    assert (facts.vocabulary_size, facts.tokens, facts.max_position_tokens) == (17, 17, 64)
    assert (facts.end_ids, facts.pad_id, facts.files) == ((1,), 0, (folder / "model.safetensors",))
    assert facts.tensors["model.embed_tokens.weight"] == ("F32", (17, 32))


def test_check_model_folder_imports_no_torch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from spo.policy.model_folder import check_model_folder\n"
        f"check_model_folder(Path({str(folder)!r}), 'engine')\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'tokenizers', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("lm_head.weight", None) or w.pop(LAST), rf"lack {LAST}: 1 of 26"),
        (lambda w: [w.pop(name) for name in list(w) if "layers.1." in name], r"lack .* and 9 more: 12 of 26"),
        (lambda w: w.update({LAST: torch.zeros(32, 47)}), rf"{LAST} has shape \[32, 47\], .* describes \[32, 48\]"),
        (lambda w: w.update({f"{LAST}_scale_inv": torch.ones(1)}), rf"quantised weights \({LAST}_scale_inv\)"),
        (lambda w: w.update({LAST: w[LAST].to(torch.float8_e4m3fn)}), rf"quantised weights \({LAST}\)"),
        (lambda w: w.update({"score.weight": torch.ones(1)}), r"have score.weight, which qwen2 has no place for"),
        (lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.ones(1)}), r"have model.layers.2.mlp"),
    ],
)
def test_check_model_folder_names_tensors_that_are_not_the_architectures(folder: Path, change, message: str) -> None:
    reweigh(folder, change)
    for backend in ("engine", "hf", "vllm", None):
        with pytest.raises(UserError, match=message):
            check_model_folder(folder, backend)


def test_check_model_folder_wants_a_head_unless_it_is_tied(folder: Path) -> None:
    edit(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"lack lm_head.weight: 1 of 27"):
        check_model_folder(folder)
    # The default of Llama, Qwen2, Qwen3 and Mistral in transformers.
    edit(folder / "config.json", tie_word_embeddings=...)
    with pytest.raises(UserError, match=r"lack lm_head.weight"):
        check_model_folder(folder)
    reweigh(folder, lambda w: w.update({"lm_head.weight": torch.zeros(17, 32)}))
    check_model_folder(folder)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("bias", [False, True])
def test_check_model_folder_knows_the_tensors_that_transformers_makes(tmp_path: Path, kind: str, bias: bool) -> None:
    """Names and shapes derived here are those of the library's own models, with odd head sizes and biases too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from spo.policy.architecture import expected_tensors

    sizes = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 6}
    config = AutoConfig.for_model(
        kind, **sizes, num_key_value_heads=3, head_dim=10, vocab_size=30, attention_bias=bias, mlp_bias=bias
    )
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(config).state_dict()
    ours = expected_tensors(config.to_dict(), tmp_path / "config.json")
    assert ours == {name: tuple(tensor.shape) for name, tensor in theirs.items()}


@pytest.mark.parametrize(
    "keys",
    [
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        {"compression_config": {"format": "float-quantized"}},
    ],
)
def test_check_model_folder_refuses_quantised_models_for_every_backend(folder: Path, keys: dict) -> None:
    edit(folder / "config.json", **keys)
    for backend in ("engine", "hf", "vllm", None):
        with pytest.raises(UserError, match=rf"config.json: {next(iter(keys))}: quantised weights cannot be trained"):
            check_model_folder(folder, backend)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"model_type": "qwen3"}, "model_type"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_parameters"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        # The older form counts in transformers where a config has both.
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "rope_parameters": {}}, "rope_scaling"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "rope_parameters"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"logit_scale": 0.0625}, "logit_scale"),
        ({"num_experts": 8}, "num_experts"),
        ({"head_dim": 7}, "head_dim"),
        ({"rope_interleaved": True}, "rope_interleaved"),
    ],
)
def test_check_model_folder_refuses_what_the_engine_would_not_compute(folder: Path, keys: dict, named: str) -> None:
    edit(folder / "config.json", **keys)
    with pytest.raises(UserError, match=rf"config.json: {named}: .* by backend engine. Use `backend: hf`\.$"):
        check_model_folder(folder, "engine")


def test_check_model_folder_wants_whole_groups_of_heads(folder: Path) -> None:
    edit(folder / "config.json", num_key_value_heads=3)
    with pytest.raises(UserError, match=r"num_key_value_heads: 3 does not divide num_attention_heads, 4"):
        check_model_folder(folder)


def test_check_model_folder_takes_the_configs_of_models_of_the_field(folder: Path) -> None:
    """Keys that config.json of R1-Distill-Qwen, SmolLM2 and models of transformers 5 have beside the sizes."""
    r1 = {"attention_dropout": 0.0, "use_mrope": False, "use_sliding_window": False, "sliding_window": 4096}
    smol = {"is_llama_config": True, "rope_interleaved": False, "pretraining_tp": 1, "rope_scaling": None}
    smol |= {"transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}, "torch_dtype": "bfloat16"}
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}}
    for keys in (r1, smol, new):
        edit(folder / "config.json", **keys)
        check_model_folder(folder, "engine")


def test_check_model_folder_takes_keys_that_compute_nothing(folder: Path) -> None:
    off = {"final_logit_softcapping": None, "residual_multiplier": 1.0, "unsloth_version": "2024.9", "_odd": [3]}
    edit(folder / "config.json", **off, sliding_window=32768, max_window_layers=28, rope_scaling=None)
    check_model_folder(folder, "engine")


def test_check_model_folder_finds_a_tokenizer_larger_than_the_embeddings(folder: Path) -> None:
    edit(folder / "config.json", vocab_size=16)
    reweigh(folder, lambda w: w.update({"model.embed_tokens.weight": w["model.embed_tokens.weight"][:16].clone()}))
    for backend in ("engine", "hf", "vllm"):
        with pytest.raises(UserError, match=r"tokenizer.json: has ids up to 16, but the model .* up to 15"):
            check_model_folder(folder, backend)


def test_check_model_folder_allows_embeddings_without_tokens(folder: Path) -> None:
    edit(folder / "config.json", vocab_size=24)
    reweigh(folder, lambda w: w.update({"model.embed_tokens.weight": torch.zeros(24, 32)}))
    facts = check_model_folder(folder, "engine")
    assert (facts.tokens, facts.vocabulary_size) == (17, 24)


def test_check_model_folder_unites_the_end_tokens_of_both_configs(folder: Path) -> None:
    edit(folder / "config.json", eos_token_id=[5, 1], pad_token_id=-1)
    edit(folder / "generation_config.json", eos_token_id=[1, 7], pad_token_id=3)
    facts = check_model_folder(folder)
    assert (facts.end_ids, facts.pad_id) == ((5, 1, 7), 3)
    edit(folder / "config.json", eos_token_id=...)
    assert check_model_folder(folder).end_ids == (1, 7)


@pytest.mark.parametrize(
    ("ends", "message"),
    [(None, "no eos_token_id"), ("</s>", "'</s>' is not an id"), ([17, 20], "17, but the model has ids up to 16")],
)
def test_check_model_folder_refuses_ends_that_end_nothing(folder: Path, ends: object, message: str) -> None:
    edit(folder / "config.json", eos_token_id=ends)
    with pytest.raises(UserError, match=message):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"])
def test_check_model_folder_names_a_pointer_of_git_lfs(folder: Path, name: str) -> None:
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    with pytest.raises(UserError, match=rf"{name}: a pointer of Git LFS .*git lfs pull"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:200],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"<html>not found</html>",
        lambda data: struct.pack("<Q", 2) + b"[]",
        lambda data: data.replace(b'"F32"', b'"F64"', 1),
    ],
)
def test_check_model_folder_names_a_damaged_file(folder: Path, spoil) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=r"model.safetensors: damaged: .*\. Download it again\.$"):
        check_model_folder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '"model"', "\0", '{"model": {}}', '{"model": {"vocab": 3}}'])
def test_check_model_folder_names_a_tokenizer_that_is_none(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer.json: not .*\. Download it again\.$"):
        check_model_folder(folder)


def test_check_model_folder_reads_shards(folder: Path) -> None:
    whole = check_model_folder(folder, "engine").tensors
    shard(folder)
    facts = check_model_folder(folder, "engine")
    assert len(facts.files) == 2 and dict(facts.tensors) == dict(whole)


def test_check_model_folder_names_what_shards_lack(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    files = shard(folder)
    second = folder / files[LAST]
    edit(folder / "model.safetensors.index.json", weight_map=files | {"model.layers.9.x": second.name})
    with pytest.raises(UserError, match=r"the index names model.layers.9.x, which no file has"):
        check_model_folder(folder)
    edit(folder / "model.safetensors.index.json", weight_map=files)
    save_file({LAST: weights[LAST]}, second)
    with pytest.raises(UserError, match=r"the index names .* and 8 more, which no file has"):
        check_model_folder(folder)
    both = {name: weights[name] for name in files if files[name] == second.name or name == "model.norm.weight"}
    save_file(both, second)
    with pytest.raises(UserError, match=r"model.norm.weight is in model-00001-of-00002.safetensors as well"):
        check_model_folder(folder)
    second.unlink()
    with pytest.raises(
        UserError, match=r"model-00002-of-00002.safetensors: no such file, though .*index.json names it"
    ):
        check_model_folder(folder)
    edit(folder / "model.safetensors.index.json", weight_map=files | {LAST: "../elsewhere.safetensors"})
    with pytest.raises(UserError, match=r"\.\./elsewhere.safetensors is not a file of the folder"):
        check_model_folder(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match=r"its shards have no model.safetensors.index.json"):
        check_model_folder(folder)


def test_check_model_folder_refuses_two_sets_of_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    shard(folder)
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"both model.safetensors and model.safetensors.index.json are there"):
        check_model_folder(folder)


def test_check_model_folder_says_how_to_convert_other_formats(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.00.pth")
    with pytest.raises(UserError, match=r"no such file, but consolidated.00.pth. Convert .*`save_pretrained`"):
        check_model_folder(folder)
    (folder / "consolidated.00.pth").unlink()
    with pytest.raises(UserError, match=r"no such file, and no other weights"):
        check_model_folder(folder)


def test_check_model_folder_names_a_link_to_nowhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/0123")
    with pytest.raises(UserError, match=r"a link to ../blobs/0123, which is not there. Download the model again"):
        check_model_folder(folder)


def test_check_model_folder_takes_no_folder_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(UserError, match=r"no such file, and no other weights"):
        check_model_folder(folder)


def test_check_model_folder_refuses_an_adapter(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="their/model")
    with pytest.raises(UserError, match=r"adapter_config.json: .*merge_and_unload"):
        check_model_folder(folder)


def test_check_model_folder_wants_added_tokens_in_the_tokenizer_itself(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", added_tokens_decoder={"1": {"content": "</s>"}})
    check_model_folder(folder)
    edit(folder / "tokenizer_config.json", added_tokens_decoder={"16": {"content": "<|turn|>"}})
    with pytest.raises(
        UserError, match=r"added_tokens_decoder: '<\|turn\|>' has id 16, but tokenizer.json gives it none"
    ):
        check_model_folder(folder)


def test_kept_files_are_all_but_weights_and_state(folder: Path) -> None:
    kept = ["chat_template.jinja", "chat_template.json", "merges.txt", "LICENSE", "modeling_own.py", "tokenizer.model"]
    lost = ["README.md", "pytorch_model.bin", "tf_model.h5", "optimizer.pt", "trainer_state.json", "metrics.jsonl"]
    lost += ["model.safetensors.index.json", ".gitattributes", "training_args.bin", "rng_state_0.pth"]
    for name in (*kept, *lost):
        (folder / name).write_text("x")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/tool_use.jinja").write_text("x")
    names = {path.relative_to(folder).as_posix() for path in kept_files(folder)}
    own = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == {*kept, *own, "additional_chat_templates/tool_use.jinja"}


def test_model_files_are_those_that_the_model_depends_on(folder: Path) -> None:
    for name in ("README.md", "LICENSE", "pytorch_model.bin", "metrics.jsonl", "chat_template.jinja"):
        (folder / name).write_text("x")
    names = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert model_files(folder) == [folder / name for name in names]
    shard(folder)
    assert [path.name for path in model_files(folder) if "model-" in path.name] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert model_files(folder / "none") == []


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "generation_config.json", "chat_template.jinja"])
def test_digest_changes_with_every_file_that_matters(folder: Path, name: str) -> None:
    shard(folder)
    before = digest(folder)
    with open(folder / name, "ab") as file:
        file.write(b" ")
    after = digest(folder)
    assert {key for key in after if before.get(key) != after[key]} == {name}


def test_special_ids_look_into_models_of_several_media(tmp_path: Path) -> None:
    edit(tmp_path / "config.json", text_config={"eos_token_id": [1, 106], "pad_token_id": 0})
    assert model_folder.special_ids(tmp_path) == ((1, 106), 0)
