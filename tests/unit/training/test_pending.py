"""An unfinished iteration comes back from disk as it was, number by number."""

from __future__ import annotations

import json
import math

import torch

from spo.methods.world import Collected, ValueTarget
from spo.training import pending as unfinished
from spo.training.pending import Pending
from spo.types import Episode


def test_read_returns_what_was_written(tmp_path):
    shared = (3, 4, 5)
    first = Episode("a", (1, 2), shared, (-0.5, -0.25, math.log(0.3)), (0.1, 0.1, -0.2))
    second = Episode("b", (1, 2), shared, (-0.5, -0.25, math.log(0.3)), (1.0, 1.0, 1.0))
    empty = Episode("b", (7,), (), (), ())
    collected = Collected(
        (first, second, empty), {"reward": 0.1}, ((3, first),), (ValueTarget((1.0,), (0.25,)),) * 3, restart=True
    )
    pending = Pending(4, collected, [(-1.0, -2.0, -3.0), (-1.0, -2.0, -3.5), ()], {"": 7}, {"": [{"loss": 0.1}]})
    pending.scores, pending.best, pending.seconds = [(0, 1 / 3)], {"w": torch.ones(2)}, {"train": 1.5}
    unfinished.write_collected(tmp_path / "x.safetensors", pending)
    document = json.loads(json.dumps(unfinished.to_json(pending)))
    assert unfinished.read(tmp_path / "x.safetensors", document, pending.best) == pending


def test_equal_sequences_are_stored_once_and_shared(tmp_path):
    """As pairs of the same response are: each response is in up to 64 of them."""
    episodes = tuple(Episode("a", (1,), (2,) * 1000, (-0.5,) * 1000, (1.0,) * 1000) for _ in range(100))
    pending = Pending(1, Collected(episodes, {}))
    unfinished.write_collected(tmp_path / "x.safetensors", pending)
    assert (tmp_path / "x.safetensors").stat().st_size < 40_000
    back = unfinished.read(tmp_path / "x.safetensors", unfinished.to_json(pending), {}).collected.episodes
    assert back == episodes and back[0].response_ids is back[99].response_ids


def test_nothing_collected_and_nothing_compared(tmp_path):
    pending = Pending(1, Collected((), {"reward": 0.0}))
    unfinished.write_collected(tmp_path / "x.safetensors", pending)
    assert unfinished.read(tmp_path / "x.safetensors", unfinished.to_json(pending), {}) == pending
