"""Errors of libraries: one line, whoever raises them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spo import __main__ as program
from spo.errors import Foreign, Libraries, RunFailure, UserError, library
from tests import tiny


class PanicException(BaseException):
    """As a library in Rust raises it."""


@pytest.mark.parametrize("error", [Exception("a\n b."), ImportError("a b"), OSError("a b"), PanicException("a b")])
def test_foreign_gives_one_line_for_anything_that_a_library_raises(error: BaseException) -> None:
    with pytest.raises(RunFailure, match=r"^file: a b\. Mend it\.$"), Foreign("file", "Mend it.", RunFailure):
        raise error


@pytest.mark.parametrize("error", [UserError("ours"), RunFailure("ours"), MemoryError(), KeyboardInterrupt()])
def test_foreign_lets_our_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, Foreign("file", "Mend it."):
        raise error
    assert raised.value is error


def test_library_tells_errors_of_libraries_from_ours(tmp_path: Path) -> None:
    from safetensors import SafetensorError
    from transformers import AutoConfig

    assert library(SafetensorError("x")) == "safetensors"
    assert library(ValueError("x")) is None
    with pytest.raises(Exception) as raised:  # noqa: PT011
        AutoConfig.from_pretrained(tmp_path)
    assert library(raised.value) == "transformers"
    with pytest.raises(ZeroDivisionError), Libraries():
        1 / 0  # noqa: B018
    with pytest.raises(RunFailure, match=r"^transformers: .*config.json"), Libraries():
        AutoConfig.from_pretrained(tmp_path)


def test_main_prints_one_line_for_a_library(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    from safetensors import safe_open

    (tmp_path / "x.jsonl").write_text("")

    def command(options: object) -> None:
        safe_open(tmp_path / "x.jsonl", "pt").__enter__()

    parser = program._parser()
    monkeypatch.setattr(program, "_parser", lambda: parser)
    for action in parser._subparsers._group_actions:
        action.choices["grade-file"].set_defaults(command=command)
    code = program.main(["grade-file", "--grader", "math", "--input", "x", "--output", "y"])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (1, 1) and error.startswith("spo: safetensors: ")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\0", b"{", b'{"a": 1}', b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_main_prints_one_line_for_any_broken_file_of_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    folder = tiny.model(tmp_path / "model")
    (folder / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    code = program.main(["grade", "tiny/digits/greedy", "--config", str(tiny.study(tmp_path))])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and f"model/{name}" in error


def test_main_prints_one_line_for_a_tokenizer_that_its_library_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.model(tmp_path / "model")
    document = json.loads((folder / "tokenizer.json").read_text()) | {"decoder": {"type": "Unheard"}}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    predictions = tmp_path / "results/evals/tiny/digits/greedy/predictions.jsonl"
    predictions.parent.mkdir(parents=True)
    predictions.write_text('{"problem_id": "t0", "response_ids": [4]}\n')
    code = program.main(["grade", "tiny/digits/greedy", "--config", str(tiny.study(tmp_path))])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "model/tokenizer.json" in error
