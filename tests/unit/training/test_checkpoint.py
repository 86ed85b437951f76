"""The file of tensors: read by the library, written without a second copy of what it holds."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from spo import store
from spo.errors import UserError
from spo.settings import Group, Loss, Memory, Optimizer, Train, binding, changed
from spo.training import checkpoint
from spo.training.checkpoint import State

TENSORS = {
    "weight/a": torch.arange(6.0).view(2, 3),
    "weight/across": torch.arange(6.0).view(2, 3).t(),
    "weight/low": torch.tensor([1.0, -2.5], dtype=torch.bfloat16),
    "weight/scalar": torch.tensor(3.0),
    "weight/empty": torch.zeros(0, 4),
    "weight/é": torch.tensor([float("inf"), -0.0]),
    "weight/learnt": torch.ones(2, requires_grad=True),
}


def test_what_is_written_is_what_the_library_reads(tmp_path):
    checkpoint.save(tmp_path, State(3, TENSORS, (), {"steps": 1.0}))
    path = tmp_path / "step-000003" / "tensors.safetensors"
    read = load_file(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    sums = store.read_json(tmp_path / "step-000003" / "state.json")["sha256"]
    assert sums["tensors.safetensors"] == store.sha256_file(path)
    back = checkpoint.load(tmp_path)
    assert (
        back.done == 3
        and back.counters == {"steps": 1.0}
        and torch.equal(back.tensors["weight/a"], TENSORS["weight/a"])
    )


@pytest.mark.slow
def test_saving_takes_the_memory_of_one_tensor(tmp_path):
    """16 tensors of 16 MiB, none of which can be written as it lies: as on a GPU, each must be copied first."""
    program = """
import resource, sys, torch
from pathlib import Path
from spo.training import checkpoint
tensors = {str(i): torch.ones(2048, 2048).t() for i in range(16)}
assert not any(tensor.is_contiguous() for tensor in tensors.values())
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
checkpoint.save(Path(sys.argv[1]), checkpoint.State(1, tensors, (), {}))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 48  # MiB; all of them are 256


@pytest.mark.parametrize(("scope", "bound"), [("batch", False), ("micro_batch", True)])
def test_a_checkpoint_is_not_bound_to_what_only_decides_whether_a_run_fits(scope, bound, tmp_path):
    """Or the remedy for a lack of memory would be refused. Over a micro-batch Z is taken where `scope` says so."""
    settings = Train(credit=Group(), loss=Loss(scope=scope))
    checkpoint.claim(tmp_path, {"train": changed(binding(settings))})
    checkpoint.claim(
        tmp_path, {"train": changed(binding(replace(settings, memory=Memory(weights="bfloat16", head_chunk_tokens=7))))}
    )
    checkpoint.claim(
        tmp_path, {"train": changed(binding(replace(settings, checkpoint_every=3, checkpoint_every_steps=7)))}
    )
    smaller = replace(settings, optimizer=Optimizer(micro_batch_tokens=64))
    with pytest.raises(UserError, match="micro_batch_tokens") if bound else nullcontext():
        checkpoint.claim(tmp_path, {"train": changed(binding(smaller))})
    with pytest.raises(UserError, match="optimizer.lr"):
        checkpoint.claim(tmp_path, {"train": changed(binding(replace(settings, optimizer=Optimizer(lr=1.0))))})


@pytest.mark.parametrize(
    ("was", "now", "remedy"),
    [
        (
            "compiled",
            None,
            "install a C compiler (gcc or clang), or unset SPO_SAMPLER, to resume with the same sampler",
        ),
        (None, "compiled", "set SPO_SAMPLER=plain to resume with the same sampler"),
    ],
)
def test_claim_keeps_a_folder_whose_sampler_is_missing(tmp_path, was, now, remedy):
    checkpoint.claim(tmp_path, {"sampler": was, "lr": 1})
    with pytest.raises(UserError) as caught:
        checkpoint.claim(tmp_path, {"sampler": now, "lr": 1})
    assert str(caught.value).endswith(f"sampler (was {was}, now {now}); {remedy}")
    with pytest.raises(UserError, match="remove the folder to start from the beginning"):
        checkpoint.claim(tmp_path, {"sampler": now, "lr": 2})
