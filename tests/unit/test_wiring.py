"""What training is handed of a tokenizer: the texts of tokens, whatever the tokenizer does with blanks."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from spo import wiring
from spo.policy import tokenizer as tokenizers

TEXT = "Tom has 12 pens.\nHe gives 3 away: 12 - 3 = 9.\n#### 9"


def sentence_pieces() -> tokenizers.Tokenizer:
    """Like Rho's tokenizer: a blank belongs to the word after it and is not written at the beginning of a text."""
    words = ["▁Tom", "▁has", "▁", "1", "2", "▁pens", ".", "<0x0A>", "He", "▁gives", "▁3", "9", "#", "</s>", "<unk>"]
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizers.Tokenizer(backend, eos_id=13, pad_id=13, unknown_id=None)


@pytest.mark.parametrize("build", [lambda: tokenizers.build_words([TEXT]), lambda: tokenizers.build_bpe([TEXT], 280)])
def test_pieces_are_together_the_text(build):
    tokenizer = build()
    ids = tokenizer.encode(TEXT)
    assert "".join(wiring.pieces(tokenizer)(ids)) == TEXT


def test_pieces_keep_the_blank_before_a_word():
    pieces = wiring.pieces(sentence_pieces())([7, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert pieces == ["\n", " Tom", " has", " ", "1", "2", " pens", ".", "\n", "He"]
