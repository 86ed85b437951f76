"""What all settings are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Seed = Annotated[int, Ge(0), Lt(2**63)]
Above = Annotated[float, Gt(0)]
AtLeast0 = Annotated[float, Ge(0)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type) -> type:
    """Return a frozen keyword-only dataclass whose unknown keys pydantic refuses."""
    cls.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}
    made = dataclass(frozen=True, kw_only=True)(cls)
    SETTINGS.append(made)
    return made


#: Every class of settings, for those who read their docstrings: that takes a tenth of a second, so that jobs do not.
SETTINGS: list[type] = []


def changed(value: Any, default: Any = dataclasses.MISSING) -> Any:
    """Return settings as plain data without the fields that equal their default; `kind` stays.

    Digests and fingerprints are made of this, so that a new setting with a default repeats no job. For the same reason
    a default never changes its meaning: what changes gets a new key.

    >>> @settings
    ... class Inner:
    ...     a: int = 1
    ...     b: int = 2
    >>> @settings
    ... class Outer:
    ...     inner: Inner = Inner(b=3)
    ...     items: tuple[int, ...] = ()
    >>> changed(Outer()), changed(Outer(inner=Inner(a=5, b=3))), changed(Outer(inner=Inner(), items=(1,)))
    ({}, {'inner': {'a': 5}}, {'inner': {'b': 2}, 'items': [1]})
    """
    if dataclasses.is_dataclass(value):
        defaults = {field.name: _default(field) for field in dataclasses.fields(value)}
        if type(default) is type(value):
            defaults = {name: getattr(default, name) for name in defaults}
        return {
            name: changed(getattr(value, name), defaults[name])
            for name in defaults
            if name == "kind" or getattr(value, name) != defaults[name]
        }
    if isinstance(value, Mapping):
        return {key: changed(item) for key, item in value.items()}
    return [changed(item) for item in value] if isinstance(value, list | tuple) else value


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
