# SPDX-License-Identifier: Apache-2.0
"""Moments in what one process saves for the next, whose timeline is another one.

A field that holds a moment says so by its type. So what was saved can be moved as a whole, and no
list of fields lags behind.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, TypeVar, get_type_hints

from msgspec import Meta, Struct
from msgspec.structs import replace

_MARK: Final = Meta(title="moment")
Moment = Annotated[float, _MARK]  # seconds on the timeline
Moments = Annotated[tuple[float, ...], _MARK]
S = TypeVar("S")


def moved(saved: S, by: float) -> S:
    """Return a copy in which every moment is later by so many seconds."""
    result: S = _moved(saved, by)
    return result


def _moved(value: Any, by: float) -> Any:  # noqa: ANN401 - whatever a saved structure holds
    if isinstance(value, Struct):
        are_moments = _fields(type(value))
        fields = {name: getattr(value, name) for name in are_moments}
        return replace(
            value,
            **{
                name: _later(each, by) if are_moments[name] else _moved(each, by)
                for name, each in fields.items()
            },
        )
    if isinstance(value, dict):
        return {key: _moved(each, by) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_moved(each, by) for each in value)
    return value


@cache
def _fields(kind: type[Struct]) -> Mapping[str, bool]:
    """Return whether each field holds moments. A day of history has thousands of records."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: is_moment(hints[name]) for name in kind.__struct_fields__}


def is_moment(hint: object) -> bool:
    """Return whether a field of this type holds moments."""
    options = getattr(hint, "__args__", ())  # of `Moment | None`
    return _MARK in getattr(hint, "__metadata__", ()) or any(map(is_moment, options))


def _later(value: Any, by: float) -> Any:  # noqa: ANN401 - a moment, several, or None
    if isinstance(value, tuple):
        return tuple(each + by for each in value)
    return None if value is None else value + by
