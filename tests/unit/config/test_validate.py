"""Settings from plain data, and the one line that a reader gets for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.config.layers import Mistakes
from spo.config.study import Study, is_folder, is_name
from spo.config.validate import repaired, validate
from spo.settings import Audit, Chain, Group, Model, Protocol, Train, Tree
from spo.types import Sampling

CHAIN, TREE, GROUP = {"kind": "chain"}, {"kind": "tree"}, {"kind": "group"}


def lines(cls: type, data: object) -> list[str]:
    with pytest.raises(Mistakes) as error:
        validate(cls, data)
    return str(error.value).split("\n")


@pytest.mark.parametrize(
    ("cls", "data", "expected"),
    [
        (Train, {}, "credit: missing"),
        (Train, {"credit": {}}, "credit.kind: missing (there are chain, tree, group, critic,"),
        (Train, {"credit": {"kind": "chian"}}, "credit.kind: unknown kind chian (did you mean chain?)"),
        (Train, {"credit": {"kind": ["x"]}}, "credit.kind: unknown kind ['x'] (there are chain, tree, group, critic,"),
        (Train, {"credit": 3}, "credit: should be a mapping, not 3"),
        (Train, {"credit": None}, "credit: should be a mapping, not None"),
        (Train, {"credit": CHAIN | {"partition": {"intervall": 2}}}, "unknown key (did you mean interval?)"),
        (
            Train,
            {"credit": CHAIN | {"branches": [2]}},
            "credit.branches: unknown key (there are kind, samples_per_problem,",
        ),
        (Train, {"credit": TREE | {"branches": []}}, "credit.branches: should have at least 1 item, not 0"),
        (Train, {"credit": TREE | {"branches": [2, 0]}}, "credit.branches.1: should be at least 1, not 0"),
        (Train, {"credit": TREE | {"replay": {"max_ages": 1}}}, "credit.replay.max_ages: unknown key"),
        (Train, {"credit": GROUP, "iterations": "10"}, "iterations: should be a whole number, not '10'"),
        (Train, {"credit": GROUP, "iterations": 1.5}, "iterations: should be a whole number, not 1.5"),
        (Train, {"credit": GROUP, "iterations": True}, "iterations: should be a whole number, not True"),
        (Train, {"credit": GROUP, "iterations": 0}, "iterations: should be at least 1, not 0"),
        (Train, {"credit": GROUP, "optimizer": {"lr": -1}}, "optimizer.lr: should be greater than 0, not -1"),
        (
            Train,
            {"credit": GROUP, "optimizer": {"lr": float("inf")}},
            "optimizer.lr: should be a finite number, not inf",
        ),
        (
            Train,
            {"credit": GROUP, "optimizer": {"lr": float("nan")}},
            "optimizer.lr: should be a finite number, not nan",
        ),
        (Train, {"credit": GROUP, "loss": {"whiten": "yes"}}, "loss.whiten: should be true or false, not 'yes'"),
        (Train, {"credit": GROUP, "loss": {"kl_over": "mas"}}, "loss.kl_over: unknown value mas (did you mean mask?)"),
        (Train, {"credit": GROUP, "sampling": {"top_p": 0}}, "sampling.top_p: should be greater than 0, not 0"),
        (Train, {"credit": GROUP, "sampling": {"top_p": 1.1}}, "sampling.top_p: should be at most 1, not 1.1"),
        (Train, {"credit": GROUP, "sampling": {"temprature": 1}}, "unknown key (did you mean temperature?)"),
        # Each estimator of an audit is read like a method's credit.
        (
            Audit,
            {"estimators": {"GRPO": {}}},
            "config: estimators.GRPO.kind: missing (there are chain, tree, group, critic,",
        ),
        (
            Audit,
            {"estimators": {"GRPO": {"kind": "grop"}}},
            "estimators.GRPO.kind: unknown kind grop (did you mean group?)",
        ),
        (Audit, {"estimators": {"GRPO": 3}}, "config: estimators.GRPO: should be a mapping, not 3"),
        (
            Audit,
            {"estimators": {"A": GROUP | {"baselin": "x"}}},
            "estimators.A.baselin: unknown key (did you mean baseline?)",
        ),
        (
            Audit,
            {"estimators": {"A": CHAIN | {"partition": {"interval": 0}}}},
            "estimators.A.partition.interval: should be at",
        ),
        (Train, {"credit": GROUP, "iterations": 0, "lose": {}}, "lose: unknown key (did you mean loss?)"),
        (Study, {"studdy": "x"}, "studdy: unknown key (did you mean study?)"),
        (Study, {"study": "A b"}, "study: names have lower-case letters"),
        (Study, {"results": "/etc"}, "results: should be a relative folder"),
        (Study, {"results": "a/../.."}, "results: should be a relative folder"),
        (Study, {"datasets": {"../x": {"source": "s", "grader": "g"}}}, "datasets.../x: names have lower-case letters"),
        (Study, {"datasets": {"a\nb": {"source": "s", "grader": "g"}}}, "names have lower-case letters"),
        (Study, {"datasets": {"x" * 65: {"source": "s", "grader": "g"}}}, "names have lower-case letters"),
        (Study, {"datasets": {"a": {"source": "s"}}}, "datasets.a.grader: missing"),
        (Study, {"datasets": {"a": 3}}, "datasets.a: should be a mapping, not 3"),
        (
            Study,
            {"models": {"a": {"sft": {"dataset": "d", "stpes": 3}}}},
            "models.a.sft.stpes: unknown key (did you mean steps?)",
        ),
        (
            Study,
            {"style": {"colours": {"grpo": "red"}}},
            "style.colours.grpo: should be a hex colour such as #0072B2, not 'red'",
        ),
        (Study, {"style": {"dpi": 5}}, "style.dpi: should be at least 50, not 5"),
        (
            Study,
            {"figures": {"f": {"draw": "d", "title": "t", "experiment": "e", "x": ["second"]}}},
            "(did you mean seconds?)",
        ),
    ],
)
def test_one_line_for_everything_that_is_wrong(cls: type, data: object, expected: str) -> None:
    found = lines(cls, data)
    assert all(line.startswith("config: ") for line in found)
    assert any(expected in line for line in found)


def test_validate_names_every_mistake_once() -> None:
    data = {"credit": CHAIN | {"partition": {"intervall": 2}}, "iterations": "10", "epochs": 0, "lose": {}}
    assert lines(Train, data) == [
        "config: credit.partition.intervall: unknown key (did you mean interval?)",
        "config: iterations: should be a whole number, not '10'",
        "config: epochs: should be at least 1, not 0",
        "config: lose: unknown key (did you mean loss?)",
    ]


def test_repaired_leaves_out_the_least_that_is_wrong() -> None:
    """A value with a default goes alone, one that is needed takes its block along."""
    data = {
        "datasets": {"good": {"source": "s", "grader": "g", "validation": "x"}, "bad": {"source": 3, "grader": "g"}},
        "claims": {"c": {"text": "t", "source": "s", "parts": [{"statistic": "a"}]}},
        "stile": {},
    }
    study, mistakes, gone = repaired(Study, data)
    assert list(study.datasets) == ["good"] and study.datasets["good"].validation == 300 and not study.claims
    assert gone == {("datasets", "good", "validation"), ("datasets", "bad"), ("claims", "c"), ("stile",)}
    assert [path for path, _ in mistakes][:2] == [("datasets", "good", "validation"), ("datasets", "bad", "source")]
    with pytest.raises(Mistakes, match="credit: missing"):
        repaired(Train, {})


def test_the_kind_decides_which_settings_are_meant() -> None:
    for data, cls in ((CHAIN, Chain), (TREE, Tree), (GROUP, Group)):
        assert isinstance(validate(Train, {"credit": data}).credit, cls)


def test_a_partly_given_block_keeps_the_default_of_its_field() -> None:
    model = validate(Model, {"sft": {"dataset": "d", "optimizer": {"lr": 1e-3}}})
    assert (model.sft.optimizer.lr, model.sft.optimizer.beta2, model.sft.optimizer.schedule) == (1e-3, 0.98, "cosine")
    assert validate(Protocol, {"sampling": {"top_p": 0.5}}).sampling == Sampling(temperature=0.0, top_p=0.5)
    assert validate(Train, {"credit": GROUP, "sampling": {}}).sampling == Sampling(temperature=0.6, top_p=0.9)


def test_null_is_a_value() -> None:
    train = validate(Train, {"credit": TREE | {"replay": None}, "loss": {"probability_mask": None}})
    assert train.credit.replay is None and train.loss.probability_mask is None


@given(st.floats(min_value=1e-12, max_value=1e3))
def test_numbers_survive_exactly(lr: float) -> None:
    train = validate(Train, {"credit": GROUP, "optimizer": {"lr": lr}})
    assert train.optimizer.lr == lr


@given(st.text(max_size=70))
def test_a_name_never_leaves_its_folder(text: str) -> None:
    if is_name(text):
        assert 0 < len(text) <= 64
        assert not set(text) & set("/\\ -\n\0") and text not in (".", "..") and not text.startswith(".")
    if is_folder(text):
        assert not text.startswith("/") and ".." not in text.split("/") and not set(text) & set(" '\"$\n\0")


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers())))
def test_no_data_at_all_gives_a_traceback(data: dict) -> None:
    for cls in (Train, Study):
        try:
            validate(cls, data)
        except Mistakes as error:
            assert len(str(error).splitlines()) == len(error.found) > 0
