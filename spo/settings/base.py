"""What all settings are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, dataclass_transform

from annotated_types import Ge, Gt, Le

Positive = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Above = Annotated[float, Gt(0)]
AtLeast0 = Annotated[float, Ge(0)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type) -> type:
    """A frozen keyword-only dataclass whose unknown keys pydantic refuses and whose field docstrings it reads."""
    cls.__pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True, "allow_inf_nan": False}
    return dataclass(frozen=True, kw_only=True)(cls)
