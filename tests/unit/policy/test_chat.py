"""Prompts in a model's own chat template, compared with transformers' own rendering and tokenizing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spo import store, wiring
from spo.__main__ import main
from spo.errors import UserError
from spo.policy import BACKENDS, chat, transformer
from spo.policy import tokenizer as tokenizers
from spo.policy.engine import Engine
from spo.settings import Dataset, Protocol, changed
from spo.types import Sampling
from tests import tiny

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<s>", "<|im_start|>", "<|im_end|>")
DATASET = Dataset(source="stories", grader="final_line", message="Answer this.\n\n{question}", chat=True)
QUESTION = "Digits: 1 2 3."
PROMPT = f"<s><|im_start|>user\nAnswer this.\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"


def chat_model(folder: Path, template: str | None = TEMPLATE, inside: bool = True) -> Path:
    """A random model whose tokenizer adds <s> by itself, as Llama's does; its template is in one file or the other."""
    from tokenizers.processors import TemplateProcessing

    torch.set_num_threads(1)
    texts = [PROMPT, *(problem.question for problem in tiny.problems())]
    tokenizer = tokenizers.build_bpe(texts, 400, SPECIALS)
    begin = tokenizer.backend.token_to_id("<s>")
    tokenizer.backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    tokenizers.save(tokenizer, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"bos_token": "<s>"}
    if template is not None and inside:
        config["chat_template"] = template
    elif template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    path.write_text(json.dumps(config), encoding="utf-8")
    shape = replace(tiny.ARCHITECTURE, max_position_tokens=128)
    made = transformer.model_config(shape, tokenizer.vocabulary_size, tokenizer.eos_id, tokenizer.pad_id)
    (folder / "config.json").write_text(json.dumps(made))
    weights = transformer.initial_weights(shape, tokenizer.vocabulary_size, 0)
    Engine(transformer.geometry(folder), weights, tokenizer.eos_id, folder).save(folder)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["tokenizer_config.json", "chat_template.jinja"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model"), inside=request.param)


def test_prompter_gives_the_text_and_ids_of_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    text, ids = wiring.prompter(tokenizers.load(folder), DATASET, folder)(QUESTION)
    turn = [{"role": "user", "content": f"Answer this.\n\n{QUESTION}"}]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(turn, add_generation_prompt=True)
    assert text == PROMPT and list(ids) == list(theirs["input_ids"])
    begin, start, end = map(tokenizers.load(folder).backend.token_to_id, SPECIALS)
    assert ids[0] == begin and [ids.count(each) for each in (begin, start, end)] == [1, 2, 1]


def test_encoder_asks_without_template_unless_told(folder: Path) -> None:
    tokenizer, problem = tokenizers.load(folder), tiny.problems(1)[0]
    plain = wiring.encoder(tokenizer, replace(DATASET, chat=False), folder)(problem)
    assert tokenizer.decode(plain) == f"{problem.question}\n"
    assert len(wiring.encoder(tokenizer, DATASET, folder)(problem)) > len(plain)


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_generate_asks_in_the_chat_template(folder: Path, tmp_path: Path, capsys, monkeypatch, backend: str) -> None:
    monkeypatch.chdir(tmp_path)
    protocol = Protocol(sampling=Sampling(temperature=1.0), backend=backend, max_response_tokens=4)
    file = tiny.study(
        tmp_path,
        model=folder,
        protocols={"greedy": changed(protocol)},
        datasets={"digits": {"message": DATASET.message, "chat": True}},
        experiments={"e": {"contexts": [120]}},
    )
    assert main(["generate", "tiny/digits/greedy", "--config", str(file)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("first prompt: "))
    found = json.loads(line.removeprefix("first prompt: "))
    question = tiny.problems(1)[0].question
    assert found["prompt"] == PROMPT.replace(QUESTION, question)
    rows = store.read_jsonl(tmp_path / "results/evals/tiny/digits/greedy/predictions.jsonl")
    assert rows[0]["prompt_tokens"] == len(found["ids"]) and all(row["response_ids"] for row in rows)


@pytest.mark.parametrize("backend", ["engine", "hf"])
def test_a_saved_policy_is_asked_as_its_start(folder: Path, tmp_path: Path, backend: str) -> None:
    BACKENDS[backend](folder, tokenizers.load(folder).eos_id).save(tmp_path / "model")
    prompts = [wiring.prompter(tokenizers.load(each), DATASET, each)(QUESTION) for each in (folder, tmp_path / "model")]
    assert prompts[0] == prompts[1] and prompts[0][0] == PROMPT


def test_a_template_that_writes_only_our_own_special_tokens_has_them_as_tokens(tmp_path: Path) -> None:
    """Elsewhere `</s>` in a text is text to our tokenizers: a question may hold it."""
    folder = tiny.model(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}\n{{ eos_token }}", encoding="utf-8")
    tokenizer = tokenizers.load(folder)
    _, ids = wiring.prompter(tokenizer, replace(DATASET, message="{question}"), folder)(QUESTION)
    assert ids[-1] == tokenizer.eos_id and ids[:-1] == tokenizer.encode(f"{QUESTION}\n")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            None,
            r"no chat template, neither chat_template\.jinja nor `chat_template` in tokenizer_config\.json\. Remove",
        ),
        ("{{ raise_exception('no system\nprompt') }}", r"its chat template cannot render .* \(no system prompt\)\.$"),
        ("{% for m in %}", r"its chat template cannot render one message of a user \(.*\)\.$"),
        ("{{ messages[7]['content'].upper() }}", r"its chat template cannot render one message of a user \(.*\)\.$"),
    ],
)
def test_a_template_that_does_not_serve_is_one_line(tmp_path: Path, template: str | None, expected: str) -> None:
    folder = chat_model(tmp_path, template, inside=False)
    with pytest.raises(UserError, match=expected) as refused:
        wiring.prompter(tokenizers.load(folder), DATASET, folder)(QUESTION)
    assert "\n" not in str(refused.value)


def test_files_digest_changes_with_the_template(tmp_path: Path) -> None:
    folder = chat_model(tmp_path, inside=False)
    before = wiring.asked_with(DATASET, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE + " ", encoding="utf-8")
    assert wiring.asked_with(DATASET, folder) != before
    assert wiring.asked_with(replace(DATASET, chat=False), folder) == DATASET.prompt


@pytest.mark.parametrize("content", ["", "[]", '{"chat_template": null}', "{"])
def test_has_template_is_false_for_configs_without_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    assert not chat.has_template(tmp_path) and not chat.has_template(tmp_path / "absent")
