"""The part of a study that each job depends on, and what its digest sees."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from spo import config
from spo.config.jobs import READ_BYTES, Jobs, identity
from spo.config.layers import merge
from spo.errors import UserError
from spo.settings import Chain, Group, Loss, Memory, Optimizer, Protocol, Sft, Train, binding, changed, settings
from tests.unit.config.test_study import SMALL, study

GRPO, CHAIN = "tiny-tales-grpo-s1", "tiny-tales-chain-s1"


def digests(folder: Path, changes: dict | None = None) -> dict[str, str]:
    """Digests of all jobs of a small study by command and name."""
    jobs = Jobs(study(folder, changes))
    names = {"prepare": jobs.study.datasets, "sft": jobs.study.models, "train": jobs.runs}
    names |= dict.fromkeys(("generate", "grade", "score"), ["/".join(key) for key in jobs.evaluations])
    names |= {"figure": jobs.study.figures, "table": jobs.study.tables, "report": [""]}
    return {f"{command} {name}".strip(): jobs.digest(command, name) for command in names for name in names[command]}


def differing(folder: Path, changes: dict) -> set[str]:
    before, after = digests(folder), digests(folder, changes)
    return {name for name in before if before[name] != after[name]}


def of(method: str, *commands: str) -> set[str]:
    return {f"{command} tiny-tales-{method}-s{seed}" for command in commands for seed in (1, 2)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"methods": {"grpo": {"train": {"optimizer": {"lr": 3e-4}}}}}, of("grpo", "train") | {"report"}),
        ({"methods": {"grpo": {"train": {"epochs": 1, "loss": {"whiten": False}}}}}, set()),
        ({"training": {"memory": {"head_chunk_tokens": 7}, "checkpoint_every": 3}}, set()),
        ({"training": {"optimizer": {"micro_batch_tokens": 9}}}, set()),
        ({"models": {"tiny": {"sft": {"optimizer": {"micro_batch_tokens": 9}, "checkpoint_every_steps": 3}}}}, set()),
        ({"resources": {"train": {"mem_mb": 9}}, "rates": {"source": "x"}}, set()),
        ({"style": {"colours": {"grpo": "#123456"}}}, {"figure bars", "table contexts", "report"}),
        ({"figures": {"bars": {"note": "x"}}}, {"figure bars", "report"}),
        ({"models": {"tiny": {"sft": {"steps": 7}}}}, {"sft tiny", "report"}),
    ],
)
def test_digest_changes_for_the_jobs_of_a_change(tmp_path: Path, changes: dict, expected: set[str]) -> None:
    assert differing(tmp_path, changes) == expected


def test_digest_of_predictions_does_not_see_the_grader(tmp_path: Path) -> None:
    found = differing(tmp_path, {"datasets": {"tales": {"grader": "gsm8k"}}})
    assert not any(name.startswith("generate") for name in found)
    assert {"train", "grade", "score"} <= {name.partition(" ")[0] for name in found}


def test_digest_sees_the_order_of_methods_but_not_of_keys(tmp_path: Path) -> None:
    turned = copy.deepcopy(SMALL)
    turned["training"] = dict(reversed(turned["training"].items()))
    path = tmp_path / "turned.yaml"
    path.write_text(json.dumps(turned), encoding="utf-8")
    numbers = {"paper_numbers": study(tmp_path).paper_numbers}
    one, other = Jobs(study(tmp_path)), Jobs(config.load([path], numbers))
    assert [one.digest("train", name) for name in one.runs] == [other.digest("train", name) for name in other.runs]


def test_part_refuses_a_name_that_the_study_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^study laptop: unknown run tiny-tales-grop-s1 \(did you mean tiny-tales-grpo-s1\?\)"
    ):
        Jobs(study(tmp_path)).part("train", "tiny-tales-grop-s1")


def test_a_new_field_with_a_default_changes_no_digest_and_no_fingerprint() -> None:
    @settings
    class Wider(Train):
        brand_new: int = 7

    @settings
    class Finer(Chain):
        brand_new: tuple[int, ...] = (1,)

    plain = Train(credit=Chain(rollouts_per_cut=3), epochs=2)
    wider = Wider(credit=Finer(rollouts_per_cut=3), epochs=2)
    assert (
        changed(binding(wider))
        == changed(binding(plain))
        == {
            "credit": {"kind": "chain", "rollouts_per_cut": 3},
            "epochs": 2,
        }
    )
    assert changed(dataclasses.replace(wider, brand_new=8))["brand_new"] == 8


def test_changed_compares_a_block_with_the_default_of_its_field() -> None:
    """SFT's optimizer has defaults of its own."""
    assert changed(Sft(dataset="d")) == {"dataset": "d"}
    assert changed(Sft(dataset="d", optimizer=Optimizer(lr=2e-3))) == {
        "dataset": "d",
        "optimizer": {"beta2": 0.999, "schedule": "constant"},
    }


def test_binding_forgets_what_fits_into_memory() -> None:
    small = Train(
        credit=Group(),
        memory=Memory(head_chunk_tokens=1),
        checkpoint_every=1,
        optimizer=Optimizer(micro_batch_tokens=1),
    )
    assert binding(small) == Train(credit=Group())
    official = dataclasses.replace(small, loss=Loss(scope="micro_batch"))
    assert binding(official).optimizer.micro_batch_tokens == 1
    assert binding(Protocol(memory=Memory(sample_rows=3))) == Protocol()


def test_written_is_read_back_as_the_same_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    label = {"methods": {"grpo": {"label": "GRPO \u2212 \U0001f600"}}}
    path.write_text(json.dumps(merge(SMALL, label)), encoding="utf-8")
    tree, found = config.read([path], {"paper_numbers": study(tmp_path / ".").paper_numbers})
    text, digest = config.written(tree)
    assert text.isascii() and len(digest) == 16
    for name in ("config.json", "config.yaml"):
        (tmp_path / name).write_text(text, encoding="ascii")
        assert config.load([tmp_path / name]) == found
        assert config.written(config.read([tmp_path / name])[0]) == (text, digest)


def test_identity_reads_small_files_and_looks_at_large_ones(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"a")
    with large.open("wb") as file:
        file.truncate(READ_BYTES + 1)
    before = identity(small), identity(large)
    small.touch()
    assert identity(small) == before[0]
    small.write_bytes(b"b")
    assert identity(small) != before[0]
    with large.open("r+b") as file:
        file.write(b"x")
    assert identity(large) != before[1]
