from __future__ import annotations

from types import SimpleNamespace

import pytest

from spo.data import DATASETS, check_settings, generated, knights
from spo.data.splits import normalised
from spo.errors import UserError
from spo.settings import Dataset


def dataset(source: str, **changes) -> Dataset:
    sizes = {"train": 60, "validation": 20, "test": 40, "demonstrations": 100}
    return Dataset(source=source, grader="final_line", **{**sizes, **changes})


def questions(splits) -> dict[str, list[str]]:
    found = {split: [problem.question for problem in items] for split, items in splits.problems().items()}
    return {**found, "demonstrations": [row["question"] for row in splits.demonstrations]}


@pytest.mark.parametrize("source", ["stories", "knights"])
def test_splits_have_their_sizes_and_no_question_twice(source):
    splits = DATASETS[source](dataset(source), "d")
    found = questions(splits)
    assert {split: len(items) for split, items in found.items()} == {
        "train": 60, "validation": 20, "test": 40, "demonstrations": 100,
    }  # fmt: skip
    everything = [normalised(question) for items in found.values() for question in items]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("source", ["stories", "knights"])
def test_held_out_problems_do_not_depend_on_how_many_others_there_are(source):
    small = DATASETS[source](dataset(source), "d")
    large = DATASETS[source](dataset(source, train=150, demonstrations=300), "d")
    assert small.test == large.test
    assert small.validation == large.validation
    assert small.train == large.train[:60]
    assert small.demonstrations == large.demonstrations[:100]


@pytest.mark.parametrize("source", ["stories", "knights"])
def test_the_seed_decides_everything(source):
    assert DATASETS[source](dataset(source, seed=3), "d") == DATASETS[source](dataset(source, seed=3), "d")
    first, second = (questions(DATASETS[source](dataset(source, seed=seed), "d")) for seed in (3, 4))
    assert not set(first["test"]) & set(second["test"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"colour": 1}}, r"datasets\.d\.options\.colour: unknown option"),
        ({"options": {"digits": "many"}}, r"datasets\.d\.options\.digits: .* not 'many'"),
        ({"options": {"digits": 9}}, r"datasets\.d\.options\.digits 9"),
        ({"options": {"bugs": {"haste": 0.1}}}, r"unknown bug 'haste'"),
        ({"train": None}, r"datasets\.d\.train"),
        ({"test": None}, r"datasets\.d\.test"),
        ({"source": "novels"}, r"datasets\.d\.source: unknown source 'novels'; known are stories"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_drawn(changes, message):
    with pytest.raises(UserError, match=message):
        check_settings("d", dataset(changes.pop("source", "stories"), **changes))


def test_running_out_of_questions_is_an_error():
    three_questions = SimpleNamespace(
        Options=knights.Options, draw=lambda rng, _: SimpleNamespace(question=f"{rng.randint(1, 3)}?", answer="x")
    )
    with pytest.raises(UserError, match=r"datasets\.d\.train: these options give only 1 different problems"):
        generated.load(dataset("knights", train=5, validation=1, test=1), "d", three_questions)
