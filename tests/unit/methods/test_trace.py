"""Traces: what they show adds up, and their text is the text of the tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.credit.partition import cutpoints
from spo.methods.trace import pieces, trace
from spo.policy import tokenizer as tokenizers
from spo.settings import Chain, Partition, Trace, Tree
from spo.types import Problem
from tests import coin

PROBLEMS = tuple(Problem(f"c{i}", f"Question {i}?", str(i)) for i in range(3))
PLAN = Trace(
    chain=Chain(partition=Partition(interval=1), rollouts_per_cut=4), tree=Tree(branches=(2, 3), segment_tokens=2)
)


def decode(ids) -> str:
    return "".join("TH"[i] for i in ids if i in (coin.TAILS, coin.HEADS))


@pytest.fixture(scope="module")
def traced() -> list[dict]:
    return trace(coin.world(), PROBLEMS, PLAN, decode)


def test_a_chain_shows_tokens_cuts_values_and_their_differences(traced):
    assert [row["id"] for row in traced] == ["c0", "c1", "c2"] and traced[1]["question"] == "Question 1?"
    for row in (each["chain"] for each in traced):
        assert len(row["tokens"]) == len(row["probabilities"]) == 4 and row["tokens"][3] == ""
        assert row["cutpoints"] == [0, 1, 2] and row["cuts"] == [0, 1, 2, 4]
        assert row["probabilities"] == [{"H": 0.6, "T": 0.4, "": 1.0}[token] for token in row["tokens"]]
        assert cutpoints(np.log(row["probabilities"])) == (0, 1, 2)
        assert row["values"][-1] == row["reward"] == float(row["tokens"].count("H") >= 2) and row["finished"]
        assert row["advantages"] == pytest.approx(np.diff(row["values"]).tolist())


def test_a_value_that_is_not_estimated_is_empty():
    plan = replace(PLAN, chain=Chain(partition=Partition(name="fixed_tokens", tokens=2), first_segment="zero"))
    world = coin.world()
    sure = replace(world, policy=Sure())
    (row,) = trace(sure, PROBLEMS[:1], plan, decode)
    assert row["chain"]["values"][0] is None and row["chain"]["advantages"][0] == 0.0


class Sure(coin.Tosser):
    """Tosses the same coins, and says that it was certain of them."""

    def token_logprobs(self, input_ids, temperature):
        logprobs, entropy = super().token_logprobs(input_ids, temperature)
        return 0 * logprobs, entropy


def test_a_tree_has_its_texts_values_and_advantages(traced):
    for row in traced:
        nodes = row["tree"]
        assert [node["parent"] for node in nodes] == [-1, 0, 0, 1, 1, 1, 2, 2, 2]
        assert [node["leaf"] for node in nodes] == [False] * 3 + [True] * 6
        for n, node in enumerate(nodes):
            below = [child["value"] for child in nodes if child["parent"] == n]
            if below:
                assert node["value"] == pytest.approx(np.mean(below))
            else:
                coins = nodes[node["parent"]]["text"] + node["text"]
                assert len(coins) == 3 and node["value"] == float(coins.count("H") >= 2) and node["finished"]
            if n:
                assert node["advantage"] == pytest.approx(node["value"] - nodes[node["parent"]]["value"])
                assert len(node["text"]) == node["tokens"] - node["finished"]


def test_chain_and_tree_are_drawn_independently(traced):
    other = trace(coin.world(), PROBLEMS, replace(PLAN, tree=Tree(branches=(4,))), decode)
    assert [row["chain"] for row in other] == [row["chain"] for row in traced]
    assert trace(coin.world(), PROBLEMS, PLAN, decode) == traced


WORDS = tokenizers.build_words(["7 + 5: 2, so 12.\n#### 12"])
BYTES = tokenizers.build_bpe(["naïve 漢字 ½ and 🙂"] * 3, 280)


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES], ids=["words", "bpe"])
@given(data=st.data())
def test_pieces_are_the_text(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1), max_size=12))
    assert "".join(pieces(tokenizer.decode, ids)) == tokenizer.decode(ids)


def test_a_character_of_several_tokens_is_with_the_last():
    ids = BYTES.encode("a½b")
    texts = pieces(BYTES.decode, ids)
    assert "".join(texts) == "a½b" and "\ufffd" not in "".join(texts)
