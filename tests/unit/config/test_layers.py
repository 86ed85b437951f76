"""Config files: what is read, how layers combine, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spo.config import layers
from spo.errors import UserError

TREES = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


def read(folder: Path, text: str) -> dict:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return layers.read(path)


def test_scalars_mean_what_they_look_like(tmp_path: Path) -> None:
    text = "a: 1e-6\nb: 3\nc: true\nd: on\ne: 2024-01-01\nf: ~\ng: 010\nh: -.5\ni: '7'\nj: no\nk: 1_000\nl:\n"
    assert read(tmp_path, text) == {
        "a": 1e-6, "b": 3, "c": True, "d": "on", "e": "2024-01-01", "f": None, "g": 10, "h": -0.5, "i": "7", "j": "no",
        "k": "1_000", "l": None,
    }  # fmt: skip


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &x {k: 1}\nb: {<<: *x, m: 2}\n") == {"a": {"k": 1}, "b": {"k": 1, "m": 2}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; it needs at least one key"),
        ("# only a comment\n", "is empty; it needs at least one key"),
        ("- 1\n- 2\n", "must be a mapping of keys to values"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "config: b.c: the same key twice ("),
        ("a:\n\tb: 1\n", "line 2: a tab; YAML is indented with spaces"),
        ("a: [1, 2\n", "line 2: expected"),
        ("a: *nowhere\n", "line 1: found undefined alias"),
        ("a: !!python/object:os.system {}\n", "line 1: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
    ],
)
def test_what_is_not_a_config_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert str(error.value).startswith("config: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_wrong_bytes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^config: no file .*nowhere.yaml$"):
        layers.read(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(UserError, match="cannot be read as UTF-8 text"):
        layers.read(tmp_path / "latin.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert layers.read(tmp_path / "bom.yaml") == {"a": 1}


@given(TREES)
def test_an_empty_layer_changes_nothing(tree: dict) -> None:
    assert layers.merge(tree, {}) == tree
    assert layers.merge({}, tree) == tree
    assert layers.merge(tree, tree) == tree


@given(TREES, TREES)
def test_the_upper_layer_has_the_last_word(below: dict, above: dict) -> None:
    merged = layers.merge(below, above)
    assert list(merged) == list(dict.fromkeys((*below, *above)))
    for key, value in merged.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict) and key in above:
            assert value == layers.merge(below[key], above[key])
        else:
            assert value == above.get(key, below.get(key))


def test_another_kind_replaces_the_whole_block() -> None:
    below = {"credit": {"kind": "chain", "rollouts_per_cut": 9}}
    assert layers.merge(below, {"credit": {"rollouts_per_cut": 5}})["credit"] == {
        "kind": "chain",
        "rollouts_per_cut": 5,
    }
    assert layers.merge(below, {"credit": {"kind": "group"}})["credit"] == {"kind": "group"}


def test_replace_forgets_what_lies_below_and_nothing_above() -> None:
    first = {"tables": {"a": 1}, "figures": {"f": 1}}
    second = {"replace": ["tables"], "tables": {"b": 2}}
    third = {"tables": {"c": 3}}
    assert layers.stack([first, second, third]) == {"tables": {"b": 2, "c": 3}, "figures": {"f": 1}}
    with pytest.raises(UserError, match="^config: replace: "):
        layers.stack([first, {"replace": ["tabels"]}])
    with pytest.raises(UserError, match="^config: replace: "):
        layers.stack([first, {"replace": "tables"}])
