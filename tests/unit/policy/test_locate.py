"""Models of others: where they are, how long they reach, and how their text becomes ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spo.errors import UserError
from spo.policy import tokenizer as tokenizers
from spo.policy.locate import check_context, locate
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
    assert set(asked) == {("their/model", None), ("their/model", "abc1")}


def test_a_context_is_held_against_the_models_own_limit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    check_context(tmp_path, 2048, "contexts")
    with pytest.raises(UserError, match=r"^contexts: 2049, but .*config.json has max_position_embeddings 2048$"):
        check_context(tmp_path, 2049, "contexts")


HUB = ("config.json", "chat_template.jinja", "vocab.txt", "merges.txt", "tokenizer.model", "LICENSE", "modeling_own.py")
HUB += ("additional_chat_templates/tools.jinja", "pytorch_model.bin", "tf_model.h5", "original/consolidated.00.pth")
HUB += ("onnx/model.onnx", "consolidated.safetensors", "optimizer.pt")


@pytest.mark.parametrize("weights", [("model.safetensors",), ()])
def test_locate_fetches_all_but_weights_in_other_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: tuple[str, ...]
) -> None:
    """`.bin` files are fetched only if there is nothing else; patterns are applied by the hub's own function."""
    from huggingface_hub.utils import filter_repo_objects

    def fetch(name: str, revision: str | None, allow_patterns=None, ignore_patterns=None) -> str:
        files = (*HUB, *weights)
        for path in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("x")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    found = {path.relative_to(tmp_path).as_posix() for path in locate(Path("a/b")).rglob("*") if path.is_file()}
    assert found == {*HUB[:8], *(weights or ("pytorch_model.bin",))}


@pytest.mark.parametrize("offline", ["0", "1"])
def test_locate_says_in_one_line_that_a_proxy_cannot_be_used(tmp_path: Path, offline: str) -> None:
    """The hub's library raises ImportError; with a copy in its cache it is not needed."""
    cache = tmp_path / "hub"
    variables = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    variables |= {"HF_HOME": str(tmp_path), "ALL_PROXY": "socks5://127.0.0.1:9", "HF_HUB_OFFLINE": offline}
    study = tiny.study(tmp_path, model="a/b")
    command = [sys.executable, "-m", "spo", "generate", "tiny/digits/greedy", "--config", str(study)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("spo: model a/b: no such folder, and not to be had from the hub (") or (
        "SOCKS proxy" in done.stderr
    )
    copy = cache / "models--a--b/snapshots" / ("0" * 40)
    tiny.model(copy)
    (cache / "models--a--b/refs").mkdir()
    (cache / "models--a--b/refs/main").write_text("0" * 40)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


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
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.end_ids) == (2, 2, (2, 7))
    assert tokenizer.encode("<s>How many") == (1, 3, 4)


def test_no_end_of_sequence_is_one_line(theirs: Path) -> None:
    (theirs / "config.json").write_text("{}")
    with pytest.raises(UserError, match="config.json: no eos_token_id"):
        tokenizers.load(theirs)
