"""Writing a trained model: its weights in one file, and everything else that its start has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from spo import store
from spo.errors import Foreign, RunFailure
from spo.policy import model_folder
from spo.policy.tensor_files import read_object

REMEDY = "The trained weights are in the state folder; mend this, and the same command saves them"


def save_tensors(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write `model.safetensors` for transformers; raise RunFailure if the library or the disk refuses."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    with Foreign(folder / "model.safetensors", f"{REMEDY}.", RunFailure):
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        store.permit_usual(folder / "model.safetensors")


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a config.json, in which NaN and Infinity may occur, as in those that transformers writes."""
    store.write_text(path, json.dumps(config, indent=2) + "\n")


def save_rest(source: Path, folder: Path, dtype: str | None) -> None:
    """Write all files of `source` but its weights into `folder`, with config.json saying that weights are `dtype`.

    transformers loads weights in the dtype that config.json gives, so an older one would round what was trained. With
    `dtype` None, config.json is left to the caller. generation_config.json and tokenizer_config.json, which a start can
    lack, are written without any setting of their own.
    """
    if source.resolve() == folder.resolve():
        return
    for path in model_folder.kept_files(source):
        target = folder / path.relative_to(source)
        if path.name != "config.json":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    if dtype is not None:
        config = read_object(source / "config.json")
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                part.pop("torch_dtype", None)
                part["dtype"] = dtype
        write_config(folder / "config.json", config)
    if not (folder / "generation_config.json").is_file():
        ends, pad = model_folder.special_ids(source)
        padding = {} if pad is None else {"pad_token_id": pad}
        store.write_json(folder / "generation_config.json", {"eos_token_id": list(ends), **padding})
    if not (folder / "tokenizer_config.json").is_file():
        store.write_json(folder / "tokenizer_config.json", {})
