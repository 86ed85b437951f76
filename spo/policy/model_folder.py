"""Checks of a model folder: weights, config, tokenizer and end tokens, the same for every backend. No torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spo import store
from spo.errors import UserError
from spo.policy import tensor_files
from spo.policy.architecture import check_engine, expected_tensors, text_config
from spo.policy.tensor_files import OTHER_WEIGHTS, WEIGHTS, Stored, few, read_object

#: Folders of a model whose files belong to it.
_KEPT_FOLDERS = ("additional_chat_templates",)
#: Not kept in a trained folder: another card, weights in any format, and state and logs of training.
_NOT_KEPT = ("README.md", "*.index.json", "adapter_config.json", "*.jsonl", "manifest.json", "*.png", "*.jpg", "*.svg")
_NOT_KEPT += ("trainer_state.json", "*_results.json", "zero_to_fp32.py", "latest", "events.out.tfevents.*")
_NOT_KEPT += OTHER_WEIGHTS
#: Kept, but without any influence on what a model computes.
_DOCUMENTS = ("LICENSE*", "NOTICE*", "*.md", "*.pdf", "*.ipynb", "USE_POLICY*")
#: Dtypes that weights of models without quantisation have; integers are buffers such as position ids.
_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "BOOL")
#: Names of tensors that every loader ignores, since they follow from the config.
_DERIVED = ("*.rotary_emb.inv_freq", "*.attn.bias", "*.attn.masked_bias")


@dataclass(frozen=True)
class ModelFolder:
    """Facts about a model folder that was checked.

    `tensors` is None for `.bin` weights, whose names take torch to read. `vocabulary_size` counts embeddings, `tokens`
    the ids of the tokenizer, which may be fewer. A response ends at any of `end_ids`.
    """

    folder: Path
    config: Mapping[str, Any]
    files: tuple[Path, ...]
    tensors: Mapping[str, Stored] | None
    vocabulary_size: int
    tokens: int
    end_ids: tuple[int, ...]
    pad_id: int | None
    max_position_tokens: int | None


def check_model_folder(folder: Path, backend: str | None = None) -> ModelFolder:
    """Return the facts of a model folder; raise UserError, one line, for one that cannot be trained or sampled.

    With `backend` engine, also refuse what that backend does not compute. Reads JSON and the headers of the weights.
    """
    config, tensors = check_weights(folder, backend)
    for path in model_files(folder):
        tensor_files.check_no_pointer(path)
    size, tokens = _count(folder, config, "vocab_size"), tokenizer_size(folder)
    if tokens > size:
        raise UserError(
            f"{folder / 'tokenizer.json'}: has ids up to {tokens - 1}, but the model has embeddings for ids up to "
            f"{size - 1} (vocab_size {size} in config.json). Add embeddings with `resize_token_embeddings`, or use the "
            "tokenizer that the model was trained with."
        )
    ends, pad = special_ids(folder)
    if min(ends) >= size:
        raise UserError(
            f"{folder / 'config.json'}: eos_token_id: {min(ends)}, but the model has ids up to {size - 1} only: no "
            "response could end. Set it to the token that ends a response."
        )
    limit = text_config(config).get("max_position_embeddings")
    files = tensor_files.weight_files(folder)
    return ModelFolder(
        folder, config, files, tensors, size, tokens, ends, pad, limit if isinstance(limit, int) else None
    )


def check_weights(
    folder: Path, backend: str | None = None, head: bool = True
) -> tuple[dict[str, Any], dict[str, Stored] | None]:
    """Return config.json and the tensors of a folder, once they agree; raise UserError if they do not.

    The tensors are None for `.bin` weights, and are compared for the architectures of `expected_tensors` only: backends
    hf and vllm compare the others when they load them. `head`: the folder has one, unlike a saved value model's.
    """
    config = read_config(folder)
    if backend == "engine":
        check_engine(config, folder / "config.json")
    files = tensor_files.weight_files(folder)
    if files[0].suffix == ".bin":
        for path in files:
            tensor_files.check_archive(path)
        return config, None
    tensors = tensor_files.read_headers(files)
    absent = [name for name, _ in tensor_files.index_names(folder) if name not in tensors]
    if absent:
        raise UserError(f"{folder}: the index names {few(absent)}, which no file has. Download the model again.")
    check_tensors(folder, config, tensors, head)
    return config, tensors


def check_tensors(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored], head: bool = True) -> None:
    """Raise UserError unless `tensors` are those of the architecture that config.json describes."""
    coded = [name for name, stored in tensors.items() if stored.dtype not in _DTYPES]
    scales = [name for name in tensors if name.endswith(("_scale_inv", ".weight_scale", ".qweight", ".qzeros"))]
    if coded or scales:
        raise UserError(
            f"{folder}: quantised weights ({few(coded or scales)}) mean nothing without their scales. Use the "
            "model in float32, bfloat16 or float16."
        )
    expected = expected_tensors(config, folder / "config.json")
    if expected is None:
        return
    if not head:
        expected.pop("lm_head.weight", None)
    elif text_config(config).get("tie_word_embeddings"):
        _check_tied(expected, tensors)
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise UserError(
            f"{folder}: the weights lack {few(missing)}: {len(missing)} of {len(expected)} tensors that config.json "
            "describes. Download the model again, or correct config.json."
        )
    wrong = [name for name, shape in expected.items() if tensors[name].shape != shape]
    if wrong:
        raise UserError(
            f"{folder}: {wrong[0]} has shape {list(tensors[wrong[0]].shape)}, but config.json describes "
            f"{list(expected[wrong[0]])}{f' ({len(wrong)} tensors differ)' if len(wrong) > 1 else ''}. Use the "
            "config.json of these weights."
        )
    ignored = _DERIVED if head else (*_DERIVED, "lm_head.weight", "value_head.*")
    others = [name for name in tensors if name not in expected and not _matches(name, ignored)]
    if others:
        raise UserError(
            f"{folder}: the weights have {few(others)}, which {config['model_type']} has no place for: they would be "
            "ignored. Use weights of this architecture."
        )


def special_ids(folder: Path) -> tuple[tuple[int, ...], int | None]:
    """Return every id that ends a response, and the id of padding, None if there is none.

    A response ends at each `eos_token_id` of config.json and of generation_config.json, one number or a list. Raises
    UserError if there is none.
    """
    config, path = read_config(folder), folder / "generation_config.json"
    sources = {"config.json": text_config(config) | config}
    if path.is_file():
        sources[path.name] = read_object(path)
    ends: dict[int, None] = {}
    for name, source in sources.items():
        found = source.get("eos_token_id")
        for end in found if isinstance(found, list) else [found]:
            if end is None or end == -1:  # some converters write -1 for none
                continue
            if not _is_id(end):
                raise UserError(
                    f"{folder / name}: eos_token_id: {end!r} is not an id. Set it to one or a list of them."
                )
            ends[end] = None
    if not ends:
        raise UserError(
            f"{folder / 'config.json'}: no eos_token_id, so that nothing says where responses end. Set it to the token "
            "that ends a response."
        )
    pads = [pad for source in sources.values() if _is_id(pad := source.get("pad_token_id"))]
    return tuple(ends), pads[0] if pads else None


def tokenizer_size(folder: Path) -> int:
    """Return the largest id of tokenizer.json and 1; raise UserError for a file that is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; a model folder has a config.json, a tokenizer.json and weights. Write it with "
            "`AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)` of transformers."
        )
    document = read_object(path)
    try:
        vocabulary = document["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
        added = {token["content"]: token["id"] for token in document.get("added_tokens") or []}
        size = 1 + max([*ids, *added.values()], default=-1)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a tokenizer of the library `tokenizers`. Download it again.") from None
    _check_added(folder, added, vocabulary if isinstance(vocabulary, dict) else None)
    return size


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json; raise UserError if the folder is no model, an adapter, or quantised."""
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder / 'adapter_config.json'}: the folder has an adapter, not a model alone. Merge it first "
            "(`merge_and_unload` of peft), and use the folder of the merged model."
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file: {folder} is not a model folder")
    config = read_object(path)
    for key in ("quantization_config", "compression_config"):
        if config.get(key) or text_config(config).get(key):
            raise UserError(
                f"{path}: {key}: quantised weights cannot be trained. Use the model in float32, bfloat16 or float16."
            )
    if config.get("is_encoder_decoder"):
        raise UserError(f"{path}: is_encoder_decoder: not a causal language model. Use a model with a decoder alone.")
    return config


def kept_files(folder: Path) -> list[Path]:
    """Return the files, sorted, that a folder with other weights of the same model needs: all but weights and state."""
    found = [path for path in _files(folder) if not _matches(path.name, _NOT_KEPT)]
    return found + [path for name in _KEPT_FOLDERS if (folder / name).is_dir() for path in _files(folder / name)]


def model_files(folder: Path) -> list[Path]:
    """Return the files, sorted, that what a model computes depends on; none for a folder that is not there."""
    indexed = [
        (single, index) for single, index in WEIGHTS if any((folder / name).is_file() for name in (single, index))
    ]
    used = [folder / name for name in indexed[0] if (folder / name).is_file()] if indexed else []
    used += [folder / name for name in sorted({name for _, name in tensor_files.index_names(folder)})]
    others = [path for path in kept_files(folder) if not _matches(path.name, _DOCUMENTS)]
    return sorted({*others, *(path for path in used if path.is_file())})


def digest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of `model_files` by its path in the folder."""
    tensor_files.weight_files(folder)
    return {path.relative_to(folder).as_posix(): store.sha256_file(path) for path in model_files(folder)}


def _check_tied(expected: dict[str, tuple[int, ...]], tensors: Mapping[str, Stored]) -> None:
    """Expect the embeddings under one of two names, or both: backends compare those when they load them."""
    head = expected.pop("lm_head.weight")
    if "lm_head.weight" in tensors:
        expected["lm_head.weight"] = head
        if "model.embed_tokens.weight" not in tensors:
            del expected["model.embed_tokens.weight"]


def _check_added(folder: Path, added: Mapping[str, int], vocabulary: Mapping[str, int] | None) -> None:
    """Raise UserError if tokenizer_config.json adds tokens that tokenizer.json lacks: AutoTokenizer would have them."""
    path = folder / "tokenizer_config.json"
    decoder = read_object(path).get("added_tokens_decoder") if path.is_file() else None
    known = {**(vocabulary or {}), **added}
    for number, token in decoder.items() if isinstance(decoder, dict) else ():
        content = token.get("content") if isinstance(token, dict) else token
        if vocabulary is None and content not in known:
            continue
        if str(known.get(content)) != str(number):
            raise UserError(
                f"{path}: added_tokens_decoder: {content!r} has id {number}, but tokenizer.json gives it "
                f"{known.get(content, 'none')}. Save the tokenizer again with `save_pretrained` of transformers."
            )


def _count(folder: Path, config: Mapping[str, Any], key: str) -> int:
    found = text_config(config).get(key)
    if not _is_id(found) or found < 1:
        raise UserError(
            f"{folder / 'config.json'}: {key}: {found!r} is not a positive whole number. Download it again."
        )
    return found


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
