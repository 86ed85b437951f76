"""Supervised training where it cannot go on."""

from __future__ import annotations

import pytest
import torch

from spo.errors import RunFailure
from spo.policy import BACKENDS
from spo.settings import Sft
from spo.training import sft
from tests import tiny


def test_memory_that_runs_out_names_the_key(tmp_path, monkeypatch):
    def too_large(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    policy = BACKENDS["engine"](tiny.model(tmp_path / "model"), 1)
    monkeypatch.setattr(torch.Tensor, "backward", too_large)
    said = r"^out of memory \(2\.00 GiB more were asked for\): lower sft\.optimizer\.micro_batch_tokens \(now 16384\)$"
    with pytest.raises(RunFailure, match=said):
        sft.run(
            name="tiny",
            settings=Sft(dataset="tales", steps=1, log_every_steps=1, batch_examples=2),
            fingerprint={},
            examples=[((3, 4), (5, 1))],
            policy=policy,
            state=tmp_path / "state",
        )
