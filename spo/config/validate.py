"""Plain data become settings by pydantic; each of its errors becomes a line with the dotted key and a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from spo.config.layers import KeyPath, Mistake, Mistakes, merge, one_line
from spo.settings import Credit

T = TypeVar("T")

#: Ends of pydantic's messages, and the words that people who write YAML know.
PHRASES = (
    ("Input should be", "should be"),
    ("should be an object", "should be a mapping"),
    ("should be a valid dictionary", "should be a mapping"),
    ("a valid array", "a list"),
    ("a valid integer", "a whole number"),
    ("a valid number", "a number"),
    ("a valid string", "text"),
    ("a valid boolean", "true or false"),
    ("Tuple should have", "should have"),
    (" after validation", ""),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
)
#: What a predicate of `spo.config.study` asks for.
PREDICATES = {
    "is_colour": "should be a hex colour such as #0072B2",
    "is_folder": "should be a relative folder without spaces, dots or '..'",
    "is_name": "names have lower-case letters, digits, '_' and '.', at most 64 of them",
}
#: The settings class of every block in some data, by the block's path.
Owners = dict[KeyPath, type]


def validate(cls: type[T], data: Any) -> T:
    """Return `data` as a `cls`; blocks that are given in part keep the default of their field for the rest.

    Raises Mistakes with every problem, in the order of the fields.
    """
    owners: Owners = {}
    text = json.dumps(_complete(cls, data, (), owners), default=str)
    try:
        return _adapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
    raise Mistakes(_mistake(problem, data, owners) for problem in found)


def repaired(cls: type[T], data: Any) -> tuple[T, list[Mistake], frozenset[KeyPath]]:
    """Return what is left of `data` without its mistakes, the mistakes, and the paths that were left out.

    A value is left out alone if its key has a default, otherwise with the block around it. Raises Mistakes if nothing
    is left.
    """
    mistakes: list[Mistake] = []
    gone: set[KeyPath] = set()
    while True:
        try:
            return validate(cls, data), mistakes, frozenset(gone)
        except Mistakes as error:
            mistakes += error.found
            owners: Owners = {}
            _complete(cls, data, (), owners)
            cuts = {_optional(path, data, owners) for path, _ in error.found}
            if () in cuts or cuts <= gone:
                raise Mistakes(mistakes) from None
            gone |= cuts
            for cut in cuts:
                data = _without(data, cut)


def plain_text(value: Any) -> str:
    """Return a value as people write it.

    >>> plain_text(1e-4), plain_text(2.5e-05), plain_text(0.9), plain_text(True), plain_text([4, 4])
    ('1e-4', '2.5e-5', '0.9', 'true', '[4, 4]')
    """
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def unknown(name: Any, known: Iterable[str], what: str) -> str:
    """Say that `name` is not among `known`, and what may have been meant.

    >>> unknown("grop", ["grpo", "spo_chain"], "method")
    'unknown method grop (did you mean grpo?)'
    >>> unknown("x", ["grpo", "spo_chain"], "method")
    'unknown method x (there are grpo, spo_chain)'
    """
    return one_line(f"unknown {what} {name} ({_hint(name, sorted(set(known))) or 'there are none'})")


def known(path: KeyPath, name: str | None, names: Iterable[str], what: str) -> Iterator[Mistake]:
    """Yield a mistake unless `name`, given at the key `path`, is one of `names`."""
    names = list(names)
    if name not in names:
        yield Mistake(path, unknown(name, names, what))


def _hint(name: Any, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), names, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}" if names else ""


@functools.cache
def _adapter(cls: type) -> TypeAdapter:
    return TypeAdapter(cls)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields, `Annotated` kept."""
    return typing.get_type_hints(cls, include_extras=True)


def _members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union (None left out), or the one type; `Annotated` taken off."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for each in typing.get_args(hint) if each is not type(None) for member in _members(each))
    return (hint,)


def _kind(cls: Any) -> str | None:
    return next((field.default for field in dataclasses.fields(cls) if field.name == "kind"), None)


def _dataclass(hint: Any, kind: Any) -> type | None:
    """The dataclass that `hint` means, of several the one of that `kind`."""
    found = [member for member in _members(hint) if dataclasses.is_dataclass(member)]
    return found[0] if len(found) == 1 else next((each for each in found if _kind(each) == kind), None)


def _complete(hint: Any, data: Any, path: KeyPath, owners: Owners) -> Any:
    """`data` with every partly given block filled up from the default that its field has; notes the blocks' classes.

    Without it `optimizer: {lr: 1}` would reset what `optimizer: Optimizer = Optimizer(beta2=0.98)` sets.
    """
    if isinstance(data, list | tuple):
        item = _argument(hint, tuple, 0)
        return [_complete(item, each, (*path, i), owners) for i, each in enumerate(data)]
    if not isinstance(data, Mapping):
        return data
    cls = _dataclass(hint, data.get("kind"))
    if cls is None:
        value = _argument(hint, dict, 1)
        return {key: _complete(value, item, (*path, key), owners) for key, item in data.items()}
    owners[path] = cls
    completed = dict(data)
    for field in dataclasses.fields(cls):
        if field.name in data:
            given = data[field.name]
            if dataclasses.is_dataclass(field.default) and isinstance(given, Mapping):
                given = merge(dataclasses.asdict(field.default), given)
            completed[field.name] = _complete(hints(cls)[field.name], given, (*path, field.name), owners)
    return completed


def _argument(hint: Any, origin: type, index: int) -> Any:
    """The type of what a tuple or mapping of type `hint` holds; Any where it holds nothing that is known."""
    return next((typing.get_args(each)[index] for each in _members(hint) if typing.get_origin(each) is origin), Any)


def _mistake(problem: Any, data: Any, owners: Owners) -> Mistake:
    path = _keys(problem["loc"], owners)
    kind, given = problem["type"], problem["input"]
    if path[-1:] == ("[key]",):
        path = path[:-1]
    if kind == "unexpected_keyword_argument":
        owner = owners.get(path[:-1])
        hint = _hint(path[-1], list(hints(owner))) if owner else ""
        return Mistake(path, f"unknown key ({hint})" if hint else "unknown key")
    if kind == "missing":
        return Mistake(path, "missing")
    if kind in ("union_tag_not_found", "union_tag_invalid") and not isinstance(given, Mapping):
        return Mistake(path, f"should be a mapping, not {_short(given)}")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        names = _quoted(problem["ctx"].get("expected_tags", "")) or _kinds()
        said = f"unknown kind {given['kind']}" if "kind" in given else "missing"
        return Mistake((*path, "kind"), one_line(f"{said} ({_hint(given.get('kind', ''), names)})"))
    if kind == "literal_error":
        return Mistake(path, unknown(given, _quoted(problem["ctx"]["expected"]), "value"))
    if kind == "predicate_failed":
        rule = next((text for name, text in PREDICATES.items() if name in problem["msg"]), problem["msg"])
        return Mistake(path, f"{rule}, not {_short(given)}")
    message = problem["msg"]
    for old, new in PHRASES:
        message = message.replace(old, new)
    return Mistake(path, f"{message}, not {_short(given)}")


def _keys(location: Sequence[str | int], owners: Owners) -> KeyPath:
    """A location of pydantic as keys of the data, without the names of union members that pydantic puts between.

    >>> from spo.settings import Chain
    >>> _keys(("credit", "chain", "interval"), {("credit",): Chain})
    ('credit', 'interval')
    """
    path: list[str | int] = []
    entered = False
    for part in location:
        owner = owners.get(tuple(path))
        if not entered and owner is not None and part == _kind(owner):
            entered = True
            continue
        path.append(part)
        entered = False
    return tuple(path)


def _quoted(text: str) -> list[str]:
    """Names that pydantic lists in quotes.

    >>> _quoted("'a', 'b' or 'c'")
    ['a', 'b', 'c']
    """
    return [name.strip("'") for name in text.replace(" or ", ", ").split(", ") if name]


def _kinds() -> list[str]:
    return [kind for member in _members(Credit) if (kind := _kind(member)) is not None]


def _optional(path: KeyPath, data: Any, owners: Owners) -> KeyPath:
    """The nearest part of `data` at or above `path` that may be left out; () is all of it."""
    if path[-1:] == ("kind",):
        path = path[:-1]  # without its kind a block means nothing
    while path:
        owner = owners.get(path[:-1])
        if _holds(data, path) and isinstance(path[-1], str):
            field = owner and next((each for each in dataclasses.fields(owner) if each.name == path[-1]), None)
            if not field or not _required(field):
                return path
        path = path[:-1]
    return ()


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _holds(data: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _without(data: Any, path: KeyPath) -> Any:
    """`data` without the key at `path`; as it is where that has gone already."""
    if not isinstance(data, Mapping) or path[0] not in data:
        return data
    if len(path) == 1:
        return {key: value for key, value in data.items() if key != path[0]}
    return {**data, path[0]: _without(data[path[0]], path[1:])}


def _short(value: Any) -> str:
    text = one_line(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
