"""Config files: what is read, how layers combine, what is refused and in which words."""

from __future__ import annotations

import time
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
    return layers.read(path).tree


def test_scalars_mean_what_they_look_like(tmp_path: Path) -> None:
    text = "a: 1e-6\nb: 3\nc: true\nd: on\ne: 2024-01-01\nf: ~\ng: 010\nh: -.5\ni: '7'\nj: no\nk: 1_000\nl:\n"
    assert read(tmp_path, text) == {
        "a": 1e-6, "b": 3, "c": True, "d": "on", "e": "2024-01-01", "f": None, "g": 10, "h": -0.5, "i": "7", "j": "no",
        "k": 1000, "l": None,
    }  # fmt: skip


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &x {k: 1}\nb: {<<: *x, m: 2}\n") == {"a": {"k": 1}, "b": {"k": 1, "m": 2}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ": the file is empty. Give it at least one key"),
        ("# only a comment\n", ": the file is empty. Give it at least one key"),
        ("- 1\n- 2\n", ": the file should be a mapping of keys to values"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", ":4: c: the same key is given twice. Remove one of them"),
        ('{\n\t"a": 1,\n\t"a": 2\n}', ":3: a: the same key is given twice. Remove one of them"),
        ("a:\n\tb: 1\n", ":2: a tab. Indent YAML with spaces"),
        ("a: [1, 2\n", ":2: expected"),
        ("a: *nowhere\n", ":1: found undefined alias"),
        ("b: 1\na: !!python/object:os.system {}\n", ":2: tag:yaml.org,2002:python/object:os.system: values with a tag"),
        ("a: [1, !mine 2]\n", ":1: !mine: values with a tag are not read. Remove the tag"),
        ("a: !!set {b}\n", ":1: CommentedSet: values with a tag are not read. Remove the tag"),
        ("a: 1\n---\nb: 2\n", ":2: but found another document"),
        ("a: &m {<<: *m}\n", ": values are nested too deeply, or an alias stands inside its own anchor"),
        ("a: &m {<<: [{b: 1}, *m]}\n", ": values are nested too deeply, or an alias stands inside its own anchor"),
        ("a: &m [1, *m]\n", ": values are nested too deeply, or an alias stands inside its own anchor"),
        ("a: &m\n  b: {c: *m}\n", ": values are nested too deeply, or an alias stands inside its own anchor"),
        ("a: &m {b: *m}\n", ": values are nested too deeply, or an alias stands inside its own anchor"),
        ("a: \0\n", ": not YAML (unacceptable character"),
        ("a: " + 1000 * "[", "x.yaml"),
    ],
)
def test_what_is_not_a_config_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "x.yaml"))
    assert "\n" not in str(error.value)


def test_read_refuses_aliases_of_aliases_in_short_time(tmp_path: Path) -> None:
    """Eight lines, each nine times the one before: 43 million values, written out."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for below, here in zip("abcdefg", "bcdefgh", strict=True):
        lines.append(f"{here}: &{here} [{', '.join([f'*{below}'] * 9)}]")
    before = time.process_time()
    with pytest.raises(UserError, match=r"x.yaml: more than 100000 values, aliases written out. Use fewer aliases$"):
        read(tmp_path, "\n".join(lines))
    assert time.process_time() - before < 10


def test_read_takes_json_indented_with_tabs(tmp_path: Path) -> None:
    """As Snakemake does; texts keep their meaning, and keys their lines."""
    path = tmp_path / "x.json"
    path.write_text('{\n\t"a": {\n\t\t"b": "\\ud83d\\ude00\\t|",\n\t\t"c": 1e-6\n\t}\n}\n', encoding="utf-8")
    layer = layers.read(path)
    assert layer.tree == {"a": {"b": "\U0001f600\t|", "c": 1e-6}}
    assert layer.lines == {("a",): 2, ("a", "b"): 3, ("a", "c"): 4}


def test_read_notes_the_line_of_every_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &x\n  k: 1\nb:\n  <<: *x\n  l: [1,\n    2]\n", encoding="utf-8")
    lines = layers.read(path).lines
    assert lines == {
        ("a",): 1,
        ("a", "k"): 2,
        ("b",): 3,
        ("b", "k"): 2,
        ("b", "l"): 5,
        ("b", "l", 0): 5,
        ("b", "l", 1): 6,
    }


def test_read_all_names_every_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("", encoding="utf-8")
    with pytest.raises(UserError) as error:
        layers.read_all([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{tmp_path / 'a.yaml'}: ") and second.startswith(f"{tmp_path / 'b.yaml'}: ")


def test_place_is_the_uppermost_layer_that_has_the_key() -> None:
    below = layers.Layer({"a": {"b": 1, "c": [1, 2]}}, "below.yaml", {("a",): 1, ("a", "b"): 2, ("a", "c"): 3})
    above = layers.Layer({"a": {"b": 2}}, "above.yaml", {("a",): 7, ("a", "b"): 8})
    line = layers.Layer({"x": 1}, "--config")
    found = [
        str(layers.place([below, above, line], path))
        for path in (("a", "b"), ("a", "c", 1), ("a", "d"), ("x",), ("y",))
    ]
    assert found == ["above.yaml:8", "below.yaml:3", "above.yaml:7", "--config", "--config"]


def test_a_missing_file_and_wrong_bytes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nowhere.yaml: there is no such file. With Snakemake, name targets before --configfile"
    ):
        layers.read(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(UserError, match="cannot be read as UTF-8 text"):
        layers.read(tmp_path / "latin.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert layers.read(tmp_path / "bom.yaml").tree == {"a": 1}


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
