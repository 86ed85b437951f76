"""Tensors that config.json describes, and the keys of it that backend engine computes. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spo.errors import UserError

#: Architectures whose tensors are known here -> numbers that transformers takes if config.json has none; without
#: them a head has hidden_size / heads dimensions, and there are as many key heads as query heads.
FAMILIES: dict[str, dict[str, int]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
}
#: Those that backend engine computes.
ENGINE_FAMILIES = ("llama", "qwen2")
#: Numbers that must be given: the defaults of transformers are those of one model of each family.
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
#: Keys that backend engine reads.
_COMPUTED = (*_SIZES, "model_type", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "rope_theta")
_COMPUTED += ("rope_parameters", "rope_scaling", "tie_word_embeddings", "max_position_embeddings", "layer_types")
_COMPUTED += ("attention_bias", "mlp_bias", "use_sliding_window")
#: Keys without influence on log-probabilities: of training, of generation, of other tasks, of versions.
_WITHOUT_INFLUENCE = ("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "initializer_range")
_WITHOUT_INFLUENCE += ("attention_dropout", "hidden_dropout", "use_cache", "return_dict", "output_attentions")
_WITHOUT_INFLUENCE += ("output_hidden_states", "chunk_size_feed_forward", "id2label", "label2id", "problem_type")
_WITHOUT_INFLUENCE += ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "pretraining_tp")
_WITHOUT_INFLUENCE += ("decoder_start_token_id", "tokenizer_class", "max_length", "min_length", "temperature", "top_k")
_WITHOUT_INFLUENCE += ("top_p", "typical_p", "num_beams", "num_beam_groups", "num_return_sequences", "length_penalty")
_WITHOUT_INFLUENCE += ("repetition_penalty", "diversity_penalty", "return_dict_in_generate", "tie_encoder_decoder")
_WITHOUT_INFLUENCE += ("torchscript", "is_decoder", "max_sequence_length", "model_max_length", "initializer_factor")
_WITHOUT_INFLUENCE += ("do_sample", "early_stopping", "no_repeat_ngram_size", "bad_words_ids", "max_new_tokens")
_WITHOUT_INFLUENCE += ("task_specific_params", "tf_legacy_loss", "use_bfloat16", "gradient_checkpointing", "seq_length")
_WITHOUT_INFLUENCE += ("is_llama_config", "transformers.js_config", "unsloth_fixed", "use_flash_attn")
#: Of qwen2 alone, where `use_sliding_window` decides whether they count.
_QWEN2 = ("sliding_window", "max_window_layers")


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of config.json about the language model, which models of several media have inside."""
    inner = config.get("text_config")
    return dict(inner) if isinstance(inner, Mapping) else dict(config)


def expected_tensors(config: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]] | None:
    """Return name and shape of every weight of a Llama, Mistral, Qwen2 or Qwen3; None for another architecture.

    Raises UserError, which names `path`, for numbers that are missing or wrong.

    >>> config = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
    ...           "num_attention_heads": 2, "vocab_size": 10}
    >>> found = expected_tensors(config, Path("config.json"))
    >>> len(found), found["lm_head.weight"], found["model.layers.0.mlp.down_proj.weight"]
    (12, (10, 8), (8, 12))
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        return None
    sizes = {key: positive(config, key, path) for key in _SIZES}
    width, inner, heads = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_attention_heads"]
    head, kv_heads = head_size(config, path), key_heads(config, path)
    if heads % kv_heads:
        raise UserError(
            f"{path}: num_key_value_heads: {kv_heads} does not divide num_attention_heads, {heads}. Use the "
            "config.json of the model."
        )
    rows = {"q": heads * head, "k": kv_heads * head, "v": kv_heads * head}
    biased = family in ("llama", "qwen3") and bool(config.get("attention_bias"))
    out = {"model.embed_tokens.weight": (sizes["vocab_size"], width)}
    for layer in range(sizes["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, count in rows.items():
            out[f"{at}.self_attn.{name}_proj.weight"] = (count, width)
            if biased or family == "qwen2":
                out[f"{at}.self_attn.{name}_proj.bias"] = (count,)
        out[f"{at}.self_attn.o_proj.weight"] = (width, heads * head)
        if biased:
            out[f"{at}.self_attn.o_proj.bias"] = (width,)
        if family == "qwen3":
            out |= {f"{at}.self_attn.{name}_norm.weight": (head,) for name in "qk"}
        for name, shape in (("gate", (inner, width)), ("up", (inner, width)), ("down", (width, inner))):
            out[f"{at}.mlp.{name}_proj.weight"] = shape
            if family == "llama" and config.get("mlp_bias"):
                out[f"{at}.mlp.{name}_proj.bias"] = shape[:1]
        out |= {f"{at}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return out | {"model.norm.weight": (width,), "lm_head.weight": (sizes["vocab_size"], width)}


def head_size(config: Mapping[str, Any], path: Path) -> int:
    """Return the dimensions of a head, as transformers derives them if config.json does not give them."""
    default = positive(config, "hidden_size", path) // positive(config, "num_attention_heads", path)
    return positive(FAMILIES[config["model_type"]] | config, "head_dim", path, default)


def key_heads(config: Mapping[str, Any], path: Path) -> int:
    """Return the number of key and value heads, as transformers derives it if config.json does not give it."""
    default = positive(config, "num_attention_heads", path)
    return positive(FAMILIES[config["model_type"]] | config, "num_key_value_heads", path, default)


def positive(config: Mapping[str, Any], key: str, path: Path, default: int | None = None) -> int:
    """Return a positive whole number of config.json; raise UserError if it is none, or missing without a default."""
    found = default if config.get(key) is None else config[key]
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f"{path}: {key}: {found!r} is not a positive whole number. Use the config.json of the model.")
    return found


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json says of rotary positions, in today's or an older form, `rope_type` and `rope_theta` set.

    >>> rope_parameters({"rope_theta": 5e5, "rope_scaling": None})
    {'rope_type': 'default', 'rope_theta': 500000.0}
    """
    # In the order of transformers: the older form counts if a config has both.
    found = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    kind = found.pop("rope_type", None) or found.pop("type", None) or "default"
    found.pop("type", None)
    if found.get("partial_rotary_factor") in (None, 1):
        found.pop("partial_rotary_factor", None)
    theta = found.pop("rope_theta", None) or config.get("rope_theta") or 10000.0
    return {"rope_type": kind, "rope_theta": theta, **found}


def check_engine(config: Mapping[str, Any], path: Path) -> None:
    """Raise UserError if config.json describes anything that backend engine does not compute, or might.

    A key that is not known here counts unless its value switches nothing on or is a text.
    """
    family = config.get("model_type")
    if family not in ENGINE_FAMILIES:
        raise _refused(path, "model_type", f"{family!r} is not supported")
    rope = rope_parameters(config)
    if set(rope) != {"rope_type", "rope_theta"} or rope["rope_type"] != "default":
        raise _refused(path, "rope_scaling" if config.get("rope_scaling") else "rope_parameters", "not supported")
    unsupported = {
        "hidden_act": config.get("hidden_act", "silu") not in ("silu", "swish"),
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "layer_types": set(config.get("layer_types") or ()) - {"full_attention"},
        "mlp_bias": family == "llama" and bool(config.get("mlp_bias")),
        "attention_bias": family == "llama" and bool(config.get("attention_bias")),
    }
    for key, bad in unsupported.items():
        if bad:
            raise _refused(path, key, "not supported")
    known = {*_COMPUTED, *_WITHOUT_INFLUENCE, *(_QWEN2 if family == "qwen2" else ())}
    for key, value in config.items():
        off = isinstance(value, str) or (value is not True and value in (None, 0, 1.0, [], {}))
        if key not in known and not key.startswith("_") and not off:
            raise _refused(path, key, "not known")
    if head_size(config, path) % 2:
        raise _refused(path, "head_dim", "an odd number is not supported")
    for key in ("rms_norm_eps", "rope_theta"):
        value = rope["rope_theta"] if key == "rope_theta" else config.get(key, 1e-6)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"{path}: {key}: {value!r} is not a positive number. Use the config.json of the model.")


def _refused(path: Path, key: str, why: str) -> UserError:
    return UserError(f"{path}: {key}: {why} by backend engine. Use `backend: hf`.")
