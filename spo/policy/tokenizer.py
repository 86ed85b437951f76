"""Tokenizers of the models that are trained from scratch, in the files that `transformers.AutoTokenizer` reads.

`words` suits the generated tasks: a token is a word, one digit, a run of `#`, one punctuation mark or a line break, and
no token is spent on blanks. `bpe` is a byte-level BPE for any text. Only the `tokenizers` library is imported here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spo.errors import Foreign, UserError
from spo.policy.model_folder import special_ids, tokenizer_size

if TYPE_CHECKING:
    import tokenizers

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"

# One piece of text that is one token of `words`; everything else (blanks) is left out and put back by the decoder.
PIECE = r"[A-Za-z]+(?:'[a-z]+)?|[0-9]|#+|\n|[^\sA-Za-z0-9#]"
# Blanks that the decoder puts between tokens and that the generated texts do not have.
NO_BLANK = (
    r"(?<=[0-9]) (?=[0-9])",
    r" (?=[,.:;?!)\n])",
    r"(?<=[(\n$]) ",
)
_CONTINUES = "\x01"  # WordPiece's mark of a token that needs no blank before it; no token of ours starts so


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back, without automatic special tokens."""

    backend: tokenizers.Tokenizer
    eos_id: int
    pad_id: int
    unknown_id: int | None
    #: A response ends at any of these; `eos_id` is the first of them.
    end_ids: tuple[int, ...]

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.backend.get_vocab_size()

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of `text`; raises UserError naming the word when a `words` vocabulary lacks it."""
        return self._checked(self.backend.encode(text, add_special_tokens=False), text)

    def encode_many(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """`encode` of each text, faster for thousands of them."""
        out: list[tuple[int, ...]] = []
        # The library's encodings hold forty times as much as the ids; a few at a time keeps the memory small.
        for start in range(0, len(texts), 1000):
            part = list(texts[start : start + 1000])
            encodings = self.backend.encode_batch(part, add_special_tokens=False)
            out += [self._checked(encoding, text) for encoding, text in zip(encodings, part, strict=True)]
        return out

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` without special tokens and end tokens: the inverse of `encode` for generated and any
        BPE text. Ids that only the model has, in the padding of its embeddings, are no text either.
        """
        return self.backend.decode([i for i in ids if i not in self.end_ids], skip_special_tokens=True)

    def with_written_specials(self) -> Tokenizer:
        """Return this tokenizer with special tokens counting as such where a text writes them out."""
        if not self.backend.encode_special_tokens:
            return self
        backend = type(self.backend).from_str(self.backend.to_str())
        backend.encode_special_tokens = False
        return replace(self, backend=backend)

    def _checked(self, encoding: tokenizers.Encoding, text: str) -> tuple[int, ...]:
        if self.unknown_id is not None and self.unknown_id in encoding.ids:
            start, end = encoding.offsets[encoding.ids.index(self.unknown_id)]
            raise UserError(
                f"the tokenizer has no token for {text[start:end]!r} (in {text[:60]!r}); "
                "train the model on this dataset or use tokenizer kind bpe"
            )
        return tuple(encoding.ids)


def build_words(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer with one token for each different word, digit and mark of `texts`, in alphabetical order.

    >>> words = build_words(["47 + 3: so 50.\\n#### 50"])
    >>> words.decode(words.encode("3 + 47: so 0.\\n#### 5")), words.vocabulary_size
    ('3 + 47: so 0.\\n#### 5', 14)
    """
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    piece = re.compile(PIECE)
    pieces = {found for text in texts for found in piece.findall(text)} - {PAD, EOS, UNKNOWN}
    vocabulary = {token: number for number, token in enumerate([PAD, EOS, UNKNOWN, *sorted(pieces)])}
    backend = Backend(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, EOS, UNKNOWN)])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="removed", invert=True)
    backend.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix=_CONTINUES, cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(Regex(pattern), "") for pattern in NO_BLANK),
        ]
    )
    return _wrap(backend)


def build_bpe(texts: Iterable[str], vocabulary_size: int, special_tokens: Sequence[str] = ()) -> Tokenizer:
    """A byte-level BPE trained on `texts`, with single digits, of at most `vocabulary_size` tokens.

    `special_tokens` are one token each where a text has them; decoding leaves them out. Raises UserError if
    `vocabulary_size` cannot hold the 256 bytes and all special tokens.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    least = 256 + len((PAD, EOS, *special_tokens))
    if vocabulary_size < least:
        raise UserError(f"tokenizer.vocabulary_size {vocabulary_size}: byte-level BPE needs at least {least}")
    backend = Backend(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, EOS, *special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Their letters are no text to learn pairs from.
    special = re.compile("|".join(map(re.escape, special_tokens)) or "(?!)")
    backend.train_from_iterator((piece for text in texts for piece in special.split(text)), trainer)
    return _wrap(backend, written=bool(special_tokens))


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json into `folder`, for `AutoTokenizer`."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        # For models of type qwen2 transformers 5 rebuilds every tokenizer as Qwen's own, unless a class is named here.
        # It then takes `tokenizer_class`, which is a local one, and never looks for remote code.
        "auto_map": {"AutoTokenizer": [None, "tokenizer.PreTrainedTokenizerFast"]},
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "eos_token": EOS,
        "pad_token": PAD,
    }
    if tokenizer.unknown_id is not None:
        config["unk_token"] = UNKNOWN
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.backend.to_str(pretty=True) + "\n", encoding="utf-8")


def load(folder: Path) -> Tokenizer:
    """Read what `save` wrote, or the tokenizer.json of a model of others; raises UserError if there is none.

    Where it has special tokens beside ours, as those of others have, they count as such when a text writes them out
    (`<s>`): prompts need them.
    """
    from tokenizers import Tokenizer as Backend

    folder = Path(folder)
    path = folder / "tokenizer.json"
    tokenizer_size(folder)
    with Foreign(path, "Download it again."):
        backend = Backend.from_str(path.read_text(encoding="utf-8"))
        # Settings of whoever used it last: they would cut prompts, fill them up, or tokenise them at random.
        backend.no_truncation()
        backend.no_padding()
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None
    special = {token.content for token in backend.get_added_tokens_decoder().values()}
    if {EOS, PAD} <= special <= {EOS, PAD, UNKNOWN}:
        own = _wrap(backend)
        # Before its config.json is written, and where others have added ends to it.
        ends = special_ids(folder)[0] if (folder / "config.json").is_file() else ()
        return replace(own, end_ids=tuple(dict.fromkeys((own.eos_id, *ends))))
    ends, pad_id = special_ids(folder)
    return Tokenizer(backend, ends[0], ends[0] if pad_id is None else pad_id, unknown_id=None, end_ids=ends)


def _wrap(backend: tokenizers.Tokenizer, written: bool = False) -> Tokenizer:
    """`written`: special tokens count as such where a text writes them out; otherwise one that says </s> goes on."""
    eos_id, pad_id = backend.token_to_id(EOS), backend.token_to_id(PAD)
    if eos_id is None or pad_id is None:
        raise UserError(f"the tokenizer lacks {EOS} or {PAD}")
    backend.encode_special_tokens = not written
    return Tokenizer(backend, eos_id, pad_id, backend.token_to_id(UNKNOWN), end_ids=(eos_id,))
