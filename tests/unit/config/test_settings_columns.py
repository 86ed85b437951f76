"""The table of hyper-parameters says what runs are trained with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spo import config
from spo.config import layers
from spo.config.settings_columns import ROWS
from spo.errors import UserError
from spo.settings import Train
from spo.settings.methods import Accepted, Chain, Critic, Group, Pairs, Tree
from tests.unit.config.test_study import CONFIG, study

PAPER = config.load([CONFIG / "config.yaml", CONFIG / "paper.yaml"])


def columns(found: config.Study, name: str) -> dict[str, dict[str, str]]:
    """Texts by row, by label of the column."""
    table = config.pictures(found)[name]
    return {column.label: dict(column.texts) for column in table.columns}


def test_the_papers_columns_are_those_of_its_appendix() -> None:
    """spec §1.7, the shipped values of columns A to E."""
    found = columns(PAPER, "settings")
    rows = {
        "batch, episodes": "64 128 128 128 128",
        "episodes per iteration": "512 512 512 512 512",
        "problems per iteration": "64 16 64 32 64",
        "responses per problem": "8 – 8 – 8",
        "interval, cutpoints per segment": "5 – – – 5",
        "MC samples": "9 – – – 9",
        "tokens per level M": "– 30 – 600 –",
        "tree": "– 6-6-6 – 6-6-6 –",
        "temperature": "0.6 0.6 0.6 0.6 0.6",
        "top-p": "0.9 0.9 1 1 0.9",
        "context, tokens": "2047 2047 2048 2048 2048",
        "KL coefficient": "1e-4 1e-4 1e-4 1e-4 1e-4",
        "learning rate": "1e-6 1e-6 1e-6 1e-6 1e-6",
        "epochs per iteration": "2 1 1 1 2",
        "mask threshold": "0.9 0.9 off 0.9 0.9",
        "micro-batch, episodes": "8 8 2 2 8",
        "iterations": "1000 1000 1000 1000 1000",
        "evaluation temperature": "0.35 0.35 0.6 0.6 0.35",
        "evaluation samples per problem": "16 16 1 1 16",
    }
    assert {row: " ".join(texts[row] or "–" for texts in found.values()) for row in rows} == rows
    assert list(found)[0] == "SPO-chain, GSM8K, Rho-1.1B"


def test_methods_show_what_they_use_and_nothing_else() -> None:
    found = columns(PAPER, "settings_short_cot")
    assert list(found) == [PAPER.methods[name].label for name in PAPER.experiments["short_cot"].methods]
    for label in ("RestEM", "DPO-positive"):
        assert {found[label][row] for row in ("KL coefficient", "clip range", "mask threshold", "objective")} == {""}
        assert found[label]["episodes per iteration"] == ""
    assert (found["PPO"]["discount gamma"], found["PPO"]["lambda of GAE"], found["GRPO"]["discount gamma"]) == (
        "1",
        "1",
        "",
    )
    assert (found["DPO-positive"]["beta of preferences"], found["DPO-positive"]["penalty"]) == ("0.3", "50")
    assert (found["VinePPO"]["partition"], found["VinePPO"]["cutpoint threshold"]) == ("lines", "")
    assert (found["RLOO"]["baseline"], found["RLOO"]["iterations"]) == ("leave_one_out", "650")


@pytest.mark.parametrize("path", [path for path in ROWS.values() if path is not None])
def test_every_row_is_a_setting_that_exists(path: str) -> None:
    credits = (Accepted(), Chain(), Critic(), Group(), Pairs(), Tree())
    trains = [Train(credit=credit) for credit in credits]

    def has(value: object, parts: list[str]) -> bool:
        return not parts or (dataclasses.is_dataclass(value) and hasattr(value, parts[0])
                             and has(getattr(value, parts[0]), parts[1:]))  # fmt: skip

    assert any(has(train, path.split(".")) for train in trains)


def test_settings_are_resolved_through_all_layers(tmp_path: Path) -> None:
    made = {"tables": {"hyper": {"make": "settings_table", "title": "H", "experiment": "one"}}}
    found = columns(study(tmp_path, made), "hyper")
    assert {label: (texts["learning rate"], texts["batch, episodes"]) for label, texts in found.items()} == {
        "GRPO": ("1e-4", "8"), "Chain": ("2e-4", "16"), "Chain 2": ("2e-4", "8"),
    }  # fmt: skip
    assert found["Chain 2"]["interval, cutpoints per segment"] == "2"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"make": "settings_table"}, "tables.hyper: give either `experiment`, for all of its methods, or `columns`"),
        ({"make": "settings_table", "experiment": "one", "columns": {"one": ["grpo"]}}, "tables.hyper: give either"),
        ({"make": "settings_table", "columns": {"two": ["grpo"]}}, "tables.hyper.columns.two: unknown experiment two"),
        ({"make": "settings_table", "columns": {"one": ["gpro"]}}, "tables.hyper.columns.one: unknown method of that"),
        ({"make": "cost_table", "columns": {"one": ["grpo"]}}, "tables.hyper.columns: cost_table has no such columns"),
    ],
)
def test_columns_that_cannot_be_are_refused(tmp_path: Path, table: dict, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        study(tmp_path, layers.merge({"tables": {"hyper": {"title": "H"}}}, {"tables": {"hyper": table}}))
    assert expected in str(refused.value)
