"""Config files as nested dicts that know their lines, and how one file is laid over another."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import ScalarNode

from spo.errors import UserError

Tree = dict[str, Any]
#: Keys and indices from the top of a config file down to a value.
KeyPath = tuple[str | int, ...]

#: Values of one file, aliases written out. The largest shipped config has 2,000; aliases of aliases grow exponentially.
MOST_VALUES = 100_000


class Mistake(NamedTuple):
    """One problem with the value at a key."""

    path: KeyPath
    problem: str


class Mistakes(UserError):
    """All problems of some settings, one line each."""

    def __init__(self, found: Iterable[Mistake]) -> None:
        self.found = tuple(dict.fromkeys(found))
        super().__init__("\n".join(one_line(f"config: {dotted(path)}: {problem}") for path, problem in self.found))


@dataclass(frozen=True)
class Layer:
    """One config file (or the command line's `--config`): its values, its name, and the line of every key."""

    tree: Tree
    name: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)


class Place(NamedTuple):
    """Place that sets a value: the layer (its index and name), and the line, 0 if the layer has no lines."""

    layer: int
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


def read(path: Path) -> Layer:
    """Return the mapping in a YAML or JSON file; raise UserError, one line with file and line, for anything else.

    YAML is version 1.2: `1e-6` is a number, `on` is text. Keys that are given twice are refused.
    """
    text = _text(path)
    is_json, content = _json(text)
    if is_json:
        text = text.replace("\t", " ")  # JSON has no tabs inside texts, and between them a blank is as good
    try:
        document = _parser().load(text)
        if document is None:
            raise UserError(f"{path}: the file is empty. Give it at least one key")
        if not isinstance(document, CommentedMap):
            raise UserError(f"{path}: the file should be a mapping of keys to values")
        reader = _Reader(path)
        tree = reader.plain(document, ())
    except DuplicateKeyError as error:
        raise UserError(_twice(path, error)) from None
    except MarkedYAMLError as error:
        raise UserError(_marked(path, text, error)) from None
    except RecursionError:
        raise UserError(f"{path}: values are nested too deeply, or an alias stands inside its own anchor") from None
    except (YAMLError, ValueError) as error:
        raise UserError(one_line(f"{path}: not YAML ({error})")) from None
    return Layer(content if is_json else tree, str(path), reader.lines)


def read_all(paths: Sequence[Path]) -> list[Layer]:
    """Return every file as `read` does; raise UserError with a line for each file that is none."""
    found, problems = [], []
    for path in paths:
        try:
            found.append(read(path))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such file. With Snakemake, name targets before --configfile, which takes every word "
            "after it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(one_line(f"{path}: the file cannot be read as UTF-8 text ({error})")) from None


def _json(text: str) -> tuple[bool, Any]:
    if not text.lstrip().startswith("{"):
        return False, None
    try:
        return True, json.loads(text)
    except (ValueError, RecursionError):
        return False, None


class _Unfinished(dict):
    """Values that the parser has begun to read: it would take null for one that stands inside itself."""

    def __getitem__(self, node: Any) -> Any:
        raise RecursionError


def _parser() -> YAML:
    parser = YAML(typ="rt", pure=True)
    parser.constructor.add_constructor("tag:yaml.org,2002:timestamp", _as_written)
    parser.constructor.recursive_objects = _Unfinished()
    return parser


def _as_written(constructor: Any, node: ScalarNode) -> str:
    """A date is text, as in YAML 1.2."""
    return node.value


def _twice(path: Path, error: DuplicateKeyError) -> str:
    line = error.problem_mark.line + 1
    key = str(error.problem).partition('"')[2].partition('"')[0]
    return one_line(f"{path}:{line}: {key}: the same key is given twice. Remove one of them")


def _marked(path: Path, text: str, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    there = text.splitlines()[line - 1 : line]
    has_tab = bool(there) and "\t" in there[0][: len(there[0]) - len(there[0].lstrip())]
    problem = "a tab. Indent YAML with spaces" if has_tab else one_line(error.problem or "not YAML")
    return f"{path}:{line}: {problem}"


class _Reader:
    """Turns what the YAML library gives into plain values, and notes the line of every key and item."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {}
        self.values = 0

    def plain(self, value: Any, at: KeyPath) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise UserError(f"{self.path}: more than {MOST_VALUES} values, aliases written out. Use fewer aliases")
        if isinstance(value, CommentedMap | CommentedSeq) and getattr(value.tag, "value", None) is not None:
            raise UserError(f"{self._line(at)}: {value.tag.value}: values with a tag are not read. Remove the tag")
        if isinstance(value, CommentedMap):
            return {str(key): self._child(item, (*at, str(key)), _key_line(value, key)) for key, item in value.items()}
        if isinstance(value, CommentedSeq):
            return [self._child(item, (*at, i), value.lc.data[i][0]) for i, item in enumerate(value)]
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if value is None:
            return None
        if isinstance(value, datetime.date):
            return str(value)
        tag = getattr(getattr(value, "tag", None), "value", None) or type(value).__name__
        raise UserError(f"{self._line(at)}: {tag}: values with a tag are not read. Remove the tag")

    def _child(self, value: Any, at: KeyPath, line: int) -> Any:
        self.lines[at] = line + 1
        return self.plain(value, at)

    def _line(self, at: KeyPath) -> str:
        return f"{self.path}:{self.lines[at]}" if at in self.lines else str(self.path)


def _key_line(mapping: CommentedMap, key: Any) -> int:
    """The line, from 0, of a key; one that a merge key (`<<`) brings in stands where it is written."""
    if mapping.lc.data and key in mapping.lc.data:
        return mapping.lc.data[key][0]
    for merged in getattr(mapping, "merge", ()):
        source = merged[1] if isinstance(merged, tuple) else merged
        if isinstance(source, CommentedMap) and key in source:
            return _key_line(source, key)
    return mapping.lc.line


def place(layers: Sequence[Layer], path: KeyPath) -> Place:
    """Return where the value at `path` is set: in the uppermost layer that has the key, or the nearest key above it."""
    for length in range(len(path), 0, -1):
        for index in range(len(layers) - 1, -1, -1):
            if _has(layers[index].tree, path[:length]):
                layer, above = layers[index], range(length, 0, -1)
                return Place(
                    index, next((layer.lines[path[:n]] for n in above if path[:n] in layer.lines), 0), layer.name
                )
    return Place(len(layers) - 1, 0, layers[-1].name)


def located(layers: Sequence[Layer], mistakes: Iterable[Mistake]) -> list[str]:
    """Return a line for each mistake, `file:line: key: problem`, in the order of files and lines."""
    lines = {(place(layers, mistake.path), mistake) for mistake in mistakes}
    ordered = sorted(lines, key=lambda each: (*each[0], dotted(each[1].path), each[1].problem))
    return [one_line(f"{where}: {dotted(path)}: {problem}") for where, (path, problem) in ordered]


def _has(tree: Any, path: KeyPath) -> bool:
    for part in path:
        inside = isinstance(tree, list | tuple) and isinstance(part, int) and part < len(tree)
        if not inside and not (isinstance(tree, Mapping) and part in tree):
            return False
        tree = tree[part]
    return True


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


def stack(trees: Sequence[Tree]) -> Tree:
    """Trees laid over each other; a tree's `replace` names top-level keys that forget what lies below.

    >>> stack([{"study": "a", "tables": {"t": 1}}, {"replace": ["tables"], "tables": {"u": 2}}])
    {'study': 'a', 'tables': {'u': 2}}
    """
    merged: Tree = {}
    for tree in trees:
        forgotten = tree.get("replace", ())
        if not isinstance(forgotten, list | tuple) or not set(map(str, forgotten)) <= {*merged, *tree}:
            raise Mistakes([Mistake(("replace",), f"should be a list of top-level keys, not {forgotten!r}")])
        merged = {key: value for key, value in merged.items() if key not in forgotten}
        merged = merge(merged, {key: value for key, value in tree.items() if key != "replace"})
    return merged


def dotted(path: Iterable[str | int]) -> str:
    """A key as readers write it.

    >>> dotted(("experiments", "short_cot", "seeds", 0))
    'experiments.short_cot.seeds.0'
    """
    return ".".join(map(str, path))


def one_line(text: str) -> str:
    """`text` with every run of blanks and line breaks made one blank."""
    return " ".join(text.split())
