from __future__ import annotations

import json
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.data import knights, stories
from spo.errors import UserError
from spo.policy import tokenizer as tokenizers

STORY = "Ann has 47 shells. How many?\n47 + 38: 7 + 8 = 15, 4 + 3 + 1 = 8, so 85.\n#### 85"


def generated_texts(count: int = 300) -> list[str]:
    texts = []
    for source in (stories, knights):
        options = source.Options()
        for seed in range(count):
            rng = Random(seed)
            item = source.draw(rng, options)
            texts += [f"{item.question}\n", source.demonstrate(item, rng, options)]
    return texts


@pytest.fixture(scope="module")
def words():
    return tokenizers.build_words(generated_texts())


def test_words_round_trip_on_every_generated_text(words):
    for text in generated_texts():
        assert words.decode(words.encode(text)) == text
    assert words.vocabulary_size < 250


def test_words_spend_one_token_a_word_digit_mark_or_line_break():
    words = tokenizers.build_words([STORY])
    assert len(words.encode("has 47 shells.\n####")) == 7
    assert [words.decode([token]) for token in words.encode("47 + 8")] == ["4", "7", "+", "8"]


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=6), st.sampled_from([" + ", ", ", "\n", ": "]))
def test_words_round_trip_on_numbers(numbers, between):
    words = tokenizers.build_words(["0123456789 + , : \n"])
    text = between.join(map(str, numbers))
    assert words.decode(words.encode(text)) == text


def test_words_name_the_unknown_word(words):
    with pytest.raises(UserError, match="'zebra'"):
        words.encode("Ann has 4 zebra.")
    with pytest.raises(UserError, match="'zebra'"):
        words.encode_many(["Ann", "zebra"])


def test_decoding_skips_special_tokens(words):
    ids = words.encode("Ann has 47 shells.")
    assert words.decode([*ids, words.eos_id, words.pad_id]) == "Ann has 47 shells."


def test_order_of_texts_does_not_matter():
    texts = generated_texts(40)
    assert tokenizers.build_words(texts).backend.to_str() == tokenizers.build_words(reversed(texts)).backend.to_str()


@given(st.text(max_size=60))
def test_bpe_round_trips_on_anything(text):
    assert BPE.decode(BPE.encode(text)) == text


def test_bpe_has_single_digits_and_stays_within_its_size():
    assert BPE.vocabulary_size <= 400
    assert len(BPE.encode("123456")) == 6
    with pytest.raises(UserError, match="258"):
        tokenizers.build_bpe([STORY], 100)


def test_special_tokens_are_one_token_each_where_a_text_writes_them_out():
    text = f"<s><|go|>{STORY}<|go|>"
    begin, go = map(MARKED.backend.token_to_id, ("<s>", "<|go|>"))
    ids = MARKED.encode(text)
    assert ids[:2] == (begin, go) and ids[-1] == go and ids.count(begin) == 1
    assert ids[2:-1] == MARKED.encode(STORY) and MARKED.decode(ids) == STORY
    assert MARKED.encode_many([text]) == [ids]
    assert not [token for token in MARKED.backend.get_vocab() if "go|" in token and token != "<|go|>"]
    assert BPE.decode(BPE.encode(text)) == text  # without them it is text like any other
    with pytest.raises(UserError, match="259"):
        tokenizers.build_bpe([STORY], 258, ["<s>"])


@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_special_tokens_stay_what_they_are_in_a_folder(tmp_path, model_type):
    from transformers import AutoTokenizer

    tokenizers.save(MARKED, tmp_path)
    ends = {"eos_token_id": MARKED.eos_id, "pad_token_id": MARKED.pad_id}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **ends}))
    again, theirs = tokenizers.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = f"<s>{STORY}<|go|>"
    assert again.encode(text) == tuple(theirs(text)["input_ids"]) == MARKED.encode(text)
    assert (again.eos_id, again.pad_id) == (MARKED.eos_id, MARKED.pad_id) == (theirs.eos_token_id, theirs.pad_token_id)
    assert again.decode(again.encode(text)) == STORY


def test_encode_many_is_encode(words):
    texts = generated_texts(20)
    assert words.encode_many(texts) == [words.encode(text) for text in texts]


@pytest.mark.parametrize("kind", ["words", "bpe"])
@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_transformers_loads_the_same_tokenizer(tmp_path, kind, model_type):
    from transformers import AutoTokenizer

    ours = tokenizers.build_words([STORY]) if kind == "words" else BPE
    tokenizers.save(ours, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert tuple(theirs(STORY)["input_ids"]) == ours.encode(STORY)
    assert theirs.decode([*ours.encode(STORY), ours.eos_id], skip_special_tokens=True) == STORY
    assert (theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (ours.eos_id, ours.pad_id, ours.vocabulary_size)


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_save_and_load_keep_every_id(tmp_path, kind):
    ours = tokenizers.build_words([STORY]) if kind == "words" else BPE
    tokenizers.save(ours, tmp_path)
    again = tokenizers.load(tmp_path)
    assert again.encode(STORY) == ours.encode(STORY)
    assert (again.eos_id, again.pad_id, again.vocabulary_size) == (ours.eos_id, ours.pad_id, ours.vocabulary_size)


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        tokenizers.load(tmp_path)


def test_loading_imports_neither_torch_nor_transformers(tmp_path):
    tokenizers.save(tokenizers.build_words([STORY]), tmp_path)
    code = (
        "import sys; from pathlib import Path; from spo.policy import tokenizer; "
        f"tokenizer.load(Path({str(tmp_path)!r})).encode('Ann'); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BPE = tokenizers.build_bpe([STORY] * 20, 400)
MARKED = tokenizers.build_bpe([f"<s><|go|>{STORY}"] * 20, 400, ["<s>", "<|go|>"])
