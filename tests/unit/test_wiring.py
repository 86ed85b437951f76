"""Texts of tokens for training, whatever the tokenizer does with blanks."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from spo import wiring
from spo.policy import tokenizer as tokenizers
from spo.settings import Dataset, Group, Train
from spo.types import Problem

TEXT = "Tom has 12 pens.\nHe gives 3 away: 12 - 3 = 9.\n#### 9"


def sentence_pieces() -> tokenizers.Tokenizer:
    """Like Rho's tokenizer: a blank belongs to the word after it and is not written at the beginning of a text."""
    words = ["▁Tom", "▁has", "▁", "1", "2", "▁pens", ".", "<0x0A>", "He", "▁gives", "▁3", "9", "#", "</s>", "<unk>"]
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizers.Tokenizer(backend, eos_id=13, pad_id=13, unknown_id=None, end_ids=(13,))


@pytest.mark.parametrize("build", [lambda: tokenizers.build_words([TEXT]), lambda: tokenizers.build_bpe([TEXT], 280)])
def test_pieces_are_together_the_text(build):
    tokenizer = build()
    ids = tokenizer.encode(TEXT)
    assert "".join(wiring.pieces(tokenizer)(ids)) == TEXT


def test_pieces_keep_the_blank_before_a_word():
    pieces = wiring.pieces(sentence_pieces())([7, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert pieces == ["\n", " Tom", " has", " ", "1", "2", " pens", ".", "\n", "He"]


@pytest.mark.parametrize(
    ("unfinished", "expected"),
    # right, wrong, several conclusions, none, and right but cut
    [("zero", (1, 0, -2, 0, 0)), ("minus_one", (1, 0, -2, -1, -1)), ("graded", (1, 0, -2, 0, 1))],
)
def test_rewarder_pays_what_the_official_code_does(unfinished, expected):
    """Spec §2.1 item 3, §7.1; with -1 as in the authors' run of Fig. 3 (spec §9)."""
    texts = ["so\n#### 9", "so\n#### 8", "#### 9\n#### 9", "so 9", "so\n#### 9"]
    tokenizer = tokenizers.build_bpe(texts, 280)
    train = Train(credit=Group(), unfinished_reward=unfinished)
    reward = wiring.rewarder(tokenizer, Dataset(source="gsm8k", grader="gsm8k_official"), train)
    finished = (True, True, True, True, False)
    found = [reward(Problem("p", "?", "9"), tokenizer.encode(t), f) for t, f in zip(texts, finished, strict=True)]
    assert tuple(found) == expected
