"""From what a config calls a model to a folder on this machine, and what that folder says of itself."""

from __future__ import annotations

import json
from pathlib import Path

from spo import store
from spo.errors import UserError

#: What of a model on the hub is fetched.
FILES = ("*.json", "*.safetensors")


def locate(model: Path) -> Path:
    """The folder of a model: `model` itself, or the local copy of a hub id, such as `Qwen/Qwen2.5-0.5B` or, of one
    revision, `Qwen/Qwen2.5-0.5B@COMMIT`; where there is no copy and a network it is fetched.

    Raises UserError, one line, for an id that is neither here nor to be had.
    """
    if model.exists() or model.is_absolute() or len(model.parts) != 2:
        return model
    from huggingface_hub import snapshot_download

    name, _, revision = str(model).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"model {model}: no such folder, and not to be had from the hub ({reason}); fetch it where there is a "
            "network (`hf download`), or name a local folder with `path:`"
        ) from None


def check_context(folder: Path, tokens: int, key: str) -> None:
    """UserError where a model has fewer positions than a context of `tokens`, which the config gives at `key`."""
    limit = _config(folder).get("max_position_embeddings")
    if isinstance(limit, int) and tokens > limit:
        raise UserError(f"{key}: {tokens}, but {folder / 'config.json'} has max_position_embeddings {limit}")


def special_ids(folder: Path) -> tuple[int | None, int | None]:
    """Ids of the end of a sequence, the first where there are several, and of padding, as config.json says."""
    config = _config(folder)
    eos, pad = config.get("eos_token_id"), config.get("pad_token_id")
    return (eos[0] if isinstance(eos, list) and eos else eos), pad


def weights_digest(folder: Path) -> str | dict[str, str]:
    """SHA-256 of a model's weights, of each file where there are several; UserError where there are none."""
    if (folder / "model.safetensors").is_file():
        return store.sha256_file(folder / "model.safetensors")
    shards = sorted(folder.glob("model-*.safetensors"))
    if not shards:
        raise UserError(f"{folder / 'model.safetensors'}: no such file, and no shards of it")
    return {path.name: store.sha256_file(path) for path in shards}


def _config(folder: Path) -> dict:
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: {folder} is not a model folder") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
