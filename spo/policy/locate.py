"""Resolve a path or hub id to a local model folder."""

from __future__ import annotations

from pathlib import Path

from spo.errors import Foreign, UserError
from spo.policy.architecture import text_config
from spo.policy.model_folder import read_config
from spo.policy.tensor_files import OTHER_WEIGHTS

#: Not fetched from the hub: weights in formats that nothing here reads, and their folders.
NOT_FETCHED = (*(pattern for pattern in OTHER_WEIGHTS if pattern != "*.safetensors"), "consolidated*", "original/*")
NOT_FETCHED += ("onnx/*", "openvino/*", "coreml/*", "*.tar", "*.tar.gz", "*.zip")
#: Fetched if a repository has no safetensors.
PICKLED = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")


def locate(model: Path) -> Path:
    """Return the folder of a model: `model` itself, or the local copy of a hub id.

    An id is `Qwen/Qwen2.5-0.5B` or, of one revision, `Qwen/Qwen2.5-0.5B@COMMIT`. It is fetched unless the hub's cache
    has it; a copy in the cache serves when the hub is out of reach. Raises UserError, one line, for an id that is
    neither here nor to be had.
    """
    if model.exists() or model.is_absolute() or len(model.parts) != 2:
        return model
    name, _, revision = str(model).partition("@")
    remedy = "Fetch it where there is a network (`hf download`), or name a local folder with `path:`."
    try:
        with Foreign(f"model {model}: no such folder, and not to be had from the hub", remedy):
            return _fetch(name, revision or None)
    except UserError:
        # Also when the hub's library fails before it looks into its cache, as with a proxy that it cannot use.
        copy = _cached(name, revision or None)
        if copy is None:
            raise
        return copy


def check_context(folder: Path, tokens: int, key: str) -> None:
    """Raise UserError if a model has fewer positions than a context of `tokens`, which the config gives at `key`."""
    limit = text_config(read_config(folder)).get("max_position_embeddings")
    if isinstance(limit, int) and tokens > limit:
        raise UserError(f"{key}: {tokens}, but {folder / 'config.json'} has max_position_embeddings {limit}")


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, revision=revision, ignore_patterns=list(NOT_FETCHED)))
    if not any(folder.glob("*.safetensors")):
        snapshot_download(name, revision=revision, allow_patterns=list(PICKLED))
    return folder


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # not there, or no id of the hub
        return None
