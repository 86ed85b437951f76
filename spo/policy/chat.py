"""Chat templates of models: a user's message becomes the text that the model is asked with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from spo import store
from spo.errors import UserError


def has_template(folder: Path) -> bool:
    """Return True if a model folder has a chat template, in a file of its own or in tokenizer_config.json."""
    if (folder / "chat_template.jinja").is_file() or (folder / "additional_chat_templates").is_dir():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def template(folder: Path) -> Callable[[str], str]:
    """Return the function from a user's message to the prompt: the turn of the user and the start of the answer.

    The text is that of transformers' `apply_chat_template` with `add_generation_prompt`, with all special tokens that
    the template writes, so that nothing is added when it is tokenized. UserError, one line, for a folder without a
    template and for a template that refuses a single message of a user.
    """
    if not has_template(folder):
        raise UserError(
            f"{folder}: no chat template, neither chat_template.jinja nor `chat_template` in tokenizer_config.json. "
            "Remove `chat: true`, or give the model a template."
        )
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError) as error:
        raise UserError(f"{folder}: transformers cannot read the tokenizer ({_one_line(error)}).") from None

    def render(message: str) -> str:
        turn = [{"role": "user", "content": message}]
        try:
            return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise UserError(
                f"{folder}: its chat template cannot render one message of a user ({_one_line(error)})."
            ) from None

    return render


def files_digest(folder: Path) -> str:
    """Return the SHA-256 digests of the files that decide what a chat template renders."""
    files = [folder / "chat_template.jinja", folder / "tokenizer_config.json", folder / "special_tokens_map.json"]
    files += sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return " ".join(store.sha256_file(path) for path in files if path.is_file())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
