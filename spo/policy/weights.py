"""Weights of a model folder, from safetensors or `.bin` files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from spo.errors import Foreign, UserError
from spo.policy.model_folder import check_tensors, check_weights, read_config
from spo.policy.tensor_files import Stored, weight_files

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
#: torch -> what a safetensors header calls it
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_DTYPES |= {torch.int64: "I64", torch.int32: "I32", torch.bool: "BOOL"}


def read_weights(folder: Path, head: bool = True) -> dict[str, Tensor]:
    """Return the tensors of a Llama or Qwen2 by name, without a head if config.json ties it to the embeddings.

    `head`: see `check_weights`. Raises UserError for a folder that `check_weights` or `check_tensors` refuses, and for
    a tied head that is another matrix than the embeddings: transformers would untie it, and other loaders would not.
    """
    config, _ = check_weights(folder, "engine", head)
    weights: dict[str, Tensor] = {}
    for path in weight_files(folder):
        weights |= _read(path)
    check_tensors(folder, config, _stored(weights), head)
    if config.get("tie_word_embeddings") and HEAD in weights:
        own = weights.pop(HEAD)
        if not torch.equal(weights.setdefault(EMBEDDING, own), own):
            raise UserError(untied(folder))
    return weights


def check_pickled(folder: Path, head: bool = True) -> None:
    """Raise UserError for `.bin` weights that `check_tensors` refuses; their names take torch to read.

    Other weights pass: `check_weights` has read their headers. No tensor is read. `head`: see `check_weights`.
    """
    pickled: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if path.suffix == ".bin":
            pickled |= _unpickled(path, "meta")
    if pickled:
        check_tensors(folder, read_config(folder), _stored(pickled), head)


def untied(folder: Path) -> str:
    """Return the line about a head that is tied to the embeddings in config.json only."""
    return (
        f"{folder / 'config.json'}: tie_word_embeddings: true, but {HEAD} differs from {EMBEDDING}. Set it to false if "
        "the model has a head of its own, or remove the head from the weights."
    )


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        with Foreign(path, "Download it again."):
            return load_file(path)
    return _unpickled(path, "cpu")


def _unpickled(path: Path, device: str) -> dict[str, Tensor]:
    remedy = "Convert it with transformers to safetensors"
    with Foreign(f"{path}: not a file of tensors alone", f"{remedy}."):
        try:
            # Only tensors and their containers are made: a pickle can run nothing.
            found = torch.load(path, map_location=device, weights_only=True, mmap=False)
        except torch.serialization.pickle.UnpicklingError:  # its many lines advise to let the file run what it wants
            raise UserError(
                f"{path}: not a file of tensors alone: opening it would run code. {remedy} if you trust it."
            ) from None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise UserError(f"{path}: not a file of tensors alone. {remedy}.")
    return {str(name): tensor for name, tensor in found.items()}


def _stored(weights: Mapping[str, Tensor]) -> dict[str, Stored]:
    return {name: Stored(_DTYPES.get(w.dtype, str(w.dtype)), tuple(w.shape)) for name, w in weights.items()}
