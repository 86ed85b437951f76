"""Models of others: where they are, how long they reach, and how their text becomes ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spo.errors import UserError
from spo.policy import tokenizer as tokenizers
from spo.policy.locate import check_context, locate, weights_digest
from tests import tiny


def test_a_folder_is_where_it_is_and_a_hub_id_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some/model").mkdir(parents=True)
    asked, copy = [], tmp_path / "copy"
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, revision, **_: asked.append((name, revision)) or str(copy)
    )
    for folder in (Path("some/model"), tmp_path / "some/model", Path("results/models/none"), Path("none")):
        assert locate(folder) == folder
    assert asked == [] and locate(Path("their/model")) == locate(Path("their/model@abc1")) == copy
    assert asked == [("their/model", None), ("their/model", "abc1")]


def test_a_context_is_held_against_the_models_own_limit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    check_context(tmp_path, 2048, "contexts")
    with pytest.raises(UserError, match=r"^contexts: 2049, but .*config.json has max_position_embeddings 2048$"):
        check_context(tmp_path, 2049, "contexts")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A tokenizer with a beginning of sequence that it would add by itself, and other names of special tokens."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "<end>": 2, "How": 3, "many": 4}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "<end>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    (tmp_path / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    return tmp_path


def test_a_prompt_of_others_has_the_special_tokens_that_it_writes_out_and_no_more(theirs: Path) -> None:
    (theirs / "config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    tokenizer = tokenizers.load(theirs)
    assert (tokenizer.eos_id, tokenizer.pad_id) == (2, 2)
    assert tokenizer.encode("<s>How many") == (1, 3, 4)


def test_no_end_of_sequence_is_one_line(theirs: Path) -> None:
    (theirs / "config.json").write_text("{}")
    with pytest.raises(UserError, match="config.json: no eos_token_id"):
        tokenizers.load(theirs)


def test_shards_are_weights_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model.safetensors: no such file"):
        weights_digest(tmp_path)
    for name in ("model-00001-of-00002", "model-00002-of-00002"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    before = weights_digest(tmp_path)
    assert sorted(before) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"another")
    assert weights_digest(tmp_path) != before
    assert isinstance(weights_digest(tiny.model(tmp_path / "tiny")), str)
