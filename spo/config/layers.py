"""Config files as nested dicts: read strictly, then laid over each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spo.errors import UserError

Tree = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML whose scalars mean what they look like: `1e-6` is a number, `on` and `2024-01-01` are text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|false|False", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)", "-+.0123456789"),
    ("null", r"~|null|Null|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan").replace(".NaN", "nan"))


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def read(path: Path) -> Tree:
    """The mapping in a YAML file; UserError names file, line and remedy for anything else, duplicate keys included."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"config: no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config: {path} cannot be read as UTF-8 text ({one_line(str(error))})") from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise UserError(f"config: {path} is empty; it needs at least one key")
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"config: {path} must be a mapping of keys to values")
        _refuse_duplicates(path, node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        tab = "\t" in text.splitlines()[line - 1] if line <= len(text.splitlines()) else False
        problem = "a tab; YAML is indented with spaces" if tab else one_line(error.problem or "not YAML")
        raise UserError(f"config: {path}, line {line}: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"config: {path} is not YAML ({one_line(str(error))})") from None
    finally:
        loader.dispose()


def _refuse_duplicates(path: Path, node: yaml.Node, above: tuple[str, ...] = ()) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(path, item, above)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        here = (*above, str(key.value))
        if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
            first, second = lines[key.value] + 1, key.start_mark.line + 1
            raise UserError(f"config: {'.'.join(here)}: the same key twice ({path}, lines {first} and {second})")
        lines[key.value] = key.start_mark.line
        _refuse_duplicates(path, value, here)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """`above` laid over `below`: mappings merge, everything else is replaced.

    A mapping whose `kind` changes is replaced whole, since the keys of one kind mean nothing to another.

    >>> merge({"lr": 1, "credit": {"kind": "chain", "threshold": 0.9}}, {"credit": {"kind": "group"}})
    {'lr': 1, 'credit': {'kind': 'group'}}
    >>> merge({"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [3]}})
    {'a': {'x': 1, 'y': [3]}}
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        same_kind = both and value.get("kind", old.get("kind")) == old.get("kind")
        merged[key] = merge(old, value) if same_kind else value
    return merged


def stack(layers: Sequence[Tree]) -> Tree:
    """Config files laid over each other; a layer's `replace` names top-level keys that forget what lies below.

    >>> stack([{"study": "a", "tables": {"t": 1}}, {"replace": ["tables"], "tables": {"u": 2}}])
    {'study': 'a', 'tables': {'u': 2}}
    """
    merged: Tree = {}
    for layer in layers:
        forgotten = layer.get("replace", ())
        if not isinstance(forgotten, list | tuple) or not set(map(str, forgotten)) <= {*merged, *layer}:
            raise UserError(f"config: replace: expected a list of top-level keys, not {forgotten!r}")
        merged = {key: value for key, value in merged.items() if key not in forgotten}
        merged = merge(merged, {key: value for key, value in layer.items() if key != "replace"})
    return merged


def one_line(text: str) -> str:
    """`text` with every run of blanks and line breaks made one blank."""
    return " ".join(text.split())
