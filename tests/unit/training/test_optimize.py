"""Which rows of a batch go through the policy together."""

from __future__ import annotations

from dataclasses import replace

from spo import prefixes
from spo.batching import collate
from spo.settings import Loss, Optimizer, Train
from spo.training.optimize import OBJECTIVES
from spo.types import Episode
from tests import tiny

#: Two problems in turn, prompts of 4 tokens, responses of 2 or 6.
PROMPTS, RESPONSES = ((5, 6, 7, 8), (9, 8, 7, 6)), ((3, 4), (4, 3, 3, 4, 4, 4))
EPISODES = [
    Episode("p", PROMPTS[i % 2], (10 + i, *RESPONSES[i // 4][1:]), *[(-1.0,) * len(RESPONSES[i // 4])] * 2)
    for i in range(8)
]


def groups(objective: str, loss: Loss, tokens: int) -> list[tuple[int, ...]]:
    method = tiny.METHODS["accepted" if objective == "nll" else "pairs"]
    train: Train = replace(method, loss=loss, optimizer=Optimizer(micro_batch_tokens=tokens))
    batch = collate(EPISODES, prefixes.PADDING_ID, [episode.old_logprobs for episode in EPISODES])
    return [tuple(rows) for rows in OBJECTIVES[objective].plan(batch, train).groups]


def test_rows_with_the_same_prompt_go_together():
    """4 tokens of a prompt, two responses of 2 and two of 6: 20 distinct tokens, where 40 would be padded. In the order
    of a dictionary, rows of the first prompt come first."""
    assert groups("clipped", Loss(), 20) == [(0, 2, 4, 6), (1, 3, 5, 7)]
    assert groups("policy_iteration", Loss(), 20) == [(0, 2, 4, 6), (1, 3, 5, 7)]
    assert groups("nll", Loss(), 20) == [(0, 2, 4, 6), (1, 3, 5, 7)]
    assert groups("clipped", Loss(micro_batch_episodes=3), 99) == [(0, 2, 4), (6, 1, 3), (5, 7)]


def test_a_micro_batch_that_is_its_own_scope_keeps_the_given_order_and_counts_padding():
    loss = Loss(scope="micro_batch")
    assert groups("clipped", loss, 20) == [(0, 1, 2), (3, 4), (5, 6), (7,)]
    assert groups("clipped", replace(loss, micro_batch_episodes=2), 99) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_pairs_stay_whole():
    assert groups("preference", Loss(), 32) == [(4, 5), (6, 7), (0, 1, 2, 3)]
