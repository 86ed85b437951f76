"""Nested dicts become settings; what does not fit becomes one line with the dotted key and a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from spo.config.layers import Tree, merge, one_line
from spo.errors import UserError

T = TypeVar("T")
Path = tuple[str | int, ...]

# Misspelt and missing keys come first: a wrong name is usually the cause of the problems after it.
_FIRST = ("unexpected_keyword_argument", "missing")
_PHRASES = (
    ("Input should be", "should be"),
    ("should be an object", "should be a mapping"),
    ("should be a valid dictionary", "should be a mapping"),
    ("a valid array", "a list"),
    ("a valid integer", "a whole number"),
    ("a valid number", "a number"),
    ("a valid string", "text"),
    ("a valid boolean", "true or false"),
    ("a finite number", "a finite number"),
    ("Tuple should have", "should have"),
    (" after validation", ""),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
)


def validate(cls: type[T], data: Any, where: Callable[[Path], str]) -> T:
    """`data` as a `cls`, partly given nested settings completed from their field's default.

    `where` names a key, given as a path inside `data`, for the reader; UserError has exactly one line.
    """
    text = json.dumps(_complete(cls, data, (), where), default=str)
    try:
        return _adapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        problems = [each for each in error.errors(include_url=False) if _meant(cls, each["loc"], data)]
    ranks = {kind: rank for rank, kind in enumerate(_FIRST)}
    problem = min(problems, key=lambda each: ranks.get(each["type"], len(ranks)))
    raise UserError(one_line(f"config: {_explain(cls, problem, where)}"))


def parse(cls: type[T], text: str) -> T:
    """A `cls` from the JSON that `slice_json` wrote; UserError as in `validate`."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UserError(f"config: settings are not JSON ({error})") from None
    return validate(cls, data, dotted)


def slice_json(value: Any) -> str:
    """Settings as one line of JSON, every default written out: the same text for the same settings.

    >>> from spo.types import Sampling
    >>> slice_json(Sampling(temperature=0.6))
    '{"temperature": 0.6, "top_p": 1.0}'
    """
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
    return json.dumps(plain, sort_keys=True, ensure_ascii=False)


def dotted(path: Iterable[str | int]) -> str:
    """A key as readers write it.

    >>> dotted(("experiments", "short_cot", "seeds", 0))
    'experiments.short_cot.seeds.0'
    """
    return ".".join(map(str, path))


def plain_text(value: Any) -> str:
    """Return a value as people write it.

    >>> plain_text(1e-4), plain_text(2.5e-05), plain_text(0.9), plain_text(True), plain_text([4, 4])
    ('1e-4', '2.5e-5', '0.9', 'true', '[4, 4]')
    """
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Says that `name` is not among `known`, and what may have been meant.

    >>> unknown("grop", ["grpo", "spo_chain"], "method")
    'unknown method grop (did you mean grpo?)'
    >>> unknown("x", ["grpo", "spo_chain"], "method")
    'unknown method x (there are grpo, spo_chain)'
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names) or 'none'}"
    return one_line(f"unknown {what} {name} ({hint})")


def known(where: str, name: str, names: Iterable[str], what: str) -> None:
    """UserError unless `name`, given at the key `where`, is one of `names`."""
    names = list(names)
    if name not in names:
        refuse(where, unknown(name, names, what))


def refuse(where: str, problem: str) -> None:
    """UserError about the key `where`."""
    raise UserError(one_line(f"config: {where}: {problem}"))


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


def _dataclass(hint: Any, kind: str | None) -> type | None:
    """The dataclass that `hint` means, of several the one of that `kind`."""
    found = [member for member in _members(hint) if dataclasses.is_dataclass(member)]
    return found[0] if len(found) == 1 else next((each for each in found if _kind(each) == kind), None)


def _complete(hint: Any, data: Any, path: Path, where: Callable[[Path], str]) -> Any:
    """`data` with every partly given settings block filled up from the default that its field has.

    Without it `optimizer: {lr: 1}` would reset what `optimizer: Optimizer = Optimizer(beta2=0.98)` sets. A block that
    may be of several kinds must say which: UserError.
    """
    if not isinstance(data, dict):
        return data
    cls = _dataclass(hint, data.get("kind"))
    if cls is None:
        kinds = [_kind(member) for member in _members(hint) if dataclasses.is_dataclass(member)]
        if kinds:
            raise UserError(one_line(f"config: {where((*path, 'kind'))}: {_wrong_kind(data.get('kind'), kinds)}"))
        value = next((typing.get_args(each)[1] for each in _members(hint) if typing.get_origin(each) is dict), None)
        return {key: _complete(value, item, (*path, key), where) for key, item in data.items()} if value else data
    completed: Tree = dict(data)
    for field in dataclasses.fields(cls):
        if field.name in data:
            given = data[field.name]
            if dataclasses.is_dataclass(field.default) and isinstance(given, dict):
                given = merge(dataclasses.asdict(field.default), given)
            completed[field.name] = _complete(hints(cls)[field.name], given, (*path, field.name), where)
    return completed


def _wrong_kind(given: Any, kinds: Sequence[str | None]) -> str:
    close = difflib.get_close_matches(str(given), map(str, kinds), 1)
    hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(map(str, kinds))}"
    return f"{'missing' if given is None else f'unknown kind {given}'} ({hint})"


def _explain(cls: type, problem: Any, where: Callable[[Path], str]) -> str:
    path, owner = _walk(cls, problem["loc"])
    kind, given = problem["type"], problem["input"]
    if kind == "unexpected_keyword_argument":
        return f"{where(path)}: unknown key" + _did_you_mean(path[-1], hints(owner) if owner else ())
    if kind == "missing":
        return f"{where(path)}: missing"
    if kind == "literal_error":
        names = [name.strip("'") for name in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{where(path)}: {unknown(given, names, 'value')}"
    if path and path[-1] == "[key]" or kind == "predicate_failed":
        return f"{where(path[:-1] if path[-1] == '[key]' else path)}: {_rule_of(problem)}"
    message = problem["msg"]
    for old, new in _PHRASES:
        message = message.replace(old, new)
    return f"{where(path)}: {message}, not {_short(given)}"


def _meant(cls: type, location: Sequence[str | int], data: Any) -> bool:
    """Whether a pydantic location lies in the alternative that the data's `kind` names; pydantic tries all of them."""
    hint: Any = cls
    for part in location:
        chosen = _alternative(hint, part)
        if chosen is not None:
            if isinstance(data, dict) and data.get("kind") != _kind(chosen):
                return False
            hint = chosen
            continue
        hint = _below(hint, part)
        data = data.get(part) if isinstance(data, dict) else None
    return True


def _walk(cls: type, location: Sequence[str | int]) -> tuple[Path, type | None]:
    """A pydantic location as a path of keys (alternatives left out), and the dataclass that holds its last key."""
    path: list[str | int] = []
    hint: Any = cls
    owner: type | None = None
    for part in location:
        chosen = _alternative(hint, part)
        if chosen is not None:
            hint = chosen
            continue
        path.append(part)
        owner = next((member for member in _members(hint) if dataclasses.is_dataclass(member)), None)
        hint = _below(hint, part)
    return tuple(path), owner


def _alternative(hint: Any, part: str | int) -> type | None:
    """The dataclass of several that a part of a pydantic location names, by its kind or by its own name."""
    classes = [member for member in _members(hint) if dataclasses.is_dataclass(member)]
    return next((each for each in classes if len(classes) > 1 and part in (_kind(each), each.__name__)), None)


def _below(hint: Any, part: str | int) -> Any:
    """The type of what a key or an index holds."""
    owner = next((member for member in _members(hint) if dataclasses.is_dataclass(member)), None)
    if owner is not None:
        return hints(owner).get(str(part), Any)
    arguments = [a for member in _members(hint) for a in typing.get_args(member) if a is not Ellipsis]
    return arguments[-1] if arguments else Any


def _did_you_mean(name: str | int, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f" (there are {', '.join(known)})" if known else ""


def _rule_of(problem: Any) -> str:
    given = _short(problem["input"])
    if "colour" in problem["msg"]:
        return f"should be a hex colour such as #0072B2, not {given}"
    if "folder" in problem["msg"]:
        return f"should be a relative folder without spaces, dots or '..', not {given}"
    return f"names have lower-case letters, digits, '_' and '.', at most 64 of them, not {given}"


def _short(value: Any) -> str:
    text = one_line(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
