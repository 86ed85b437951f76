"""What config/ says about itself is what the settings dataclasses say."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from spo.config import layers, reference

CONFIG = Path(__file__).parents[3] / "config"
REMEDY = "run `python -m spo.config.reference`"


def test_the_schema_is_the_generated_one() -> None:
    assert (CONFIG / "schema.json").read_text(encoding="utf-8") == reference.schema_text(), REMEDY


def test_the_key_table_is_the_generated_one() -> None:
    page = (CONFIG / "README.md").read_text(encoding="utf-8")
    assert page == reference.readme(page), REMEDY


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in reference.key_table().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize("name", ["config.yaml", "smoke.yaml", "gsm8k_tiny.yaml", "tuning.yaml", "paper.yaml"])
def test_editors_accept_every_shipped_file(name: str) -> None:
    jsonschema.validate(layers.read(CONFIG / name).tree, json.loads(reference.schema_text()))


@pytest.mark.parametrize(
    "data",
    [
        {"trainning": {}},
        {"training": {"iterations": 0}},
        {"methods": {"a": {"train": {"credit": {"intervall": 1}}}}},
        {"experiments": {"a": {"overrides": {"b": {"epochs": "2"}}}}},
    ],
)
def test_editors_show_mistakes(data: dict) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(reference.schema_text()))
