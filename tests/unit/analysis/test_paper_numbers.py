from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spo.analysis.slices import PaperNumber

NUMBERS = yaml.safe_load((Path(__file__).parents[3] / "config" / "paper_numbers.yaml").read_text(encoding="utf-8"))


def _value(group: str, method: str, context: int | None = None) -> float:
    found = [n["value"] for n in NUMBERS[group]["numbers"] if n["method"] == method and n.get("context") == context]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("group", NUMBERS)
def test_every_group_is_made_of_paper_numbers(group):
    entry = NUMBERS[group]
    assert set(entry) <= {"where", "setting", "note", "numbers"}
    numbers = [PaperNumber(where=entry["where"], **number) for number in entry["numbers"]]
    assert all(0 <= number.value <= 100 for number in numbers)
    assert len({(number.method, number.context) for number in numbers}) == len(numbers)
    assert numbers or entry["note"], "a group without numbers says why"


def test_the_bars_agree_with_the_text_of_the_paper():
    # "6 to 12 points over PPO and GRPO": 56.7 − 50.1 = 6.6 and 56.7 − 44.6 = 12.1.
    assert _value("fig3a", "spo_chain") - _value("fig3a", "ppo") == pytest.approx(6.6)
    assert _value("fig3a", "spo_chain") - _value("fig3a", "grpo") == pytest.approx(12.1)
    assert len(NUMBERS["fig3a"]["numbers"]) == 9


@pytest.mark.parametrize(
    ("method", "value", "wrong"), [("ppo", 50.1, "44.6"), ("grpo", 44.6, "45.7"), ("vineppo", 53.4, "55.4")]
)
def test_disputed_numbers_carry_a_note(method, value, wrong):
    row = next(number for number in NUMBERS["fig3a"]["numbers"] if number["method"] == method)
    assert row["value"] == value
    assert wrong in row["note"]


def test_table_1_is_complete():
    for group in ("table1_math500", "table1_aime24"):
        methods = {number["method"] for number in NUMBERS[group]["numbers"]}
        assert methods == {"base", "grpo", "spo_tree", "deepscaler", "still3"}
        assert len(NUMBERS[group]["numbers"]) == 15
    assert _value("table1_math500", "spo_tree", 2048) == 73.6
    assert _value("table1_aime24", "grpo", 2048) == 3.3
