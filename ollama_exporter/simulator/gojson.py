# SPDX-License-Identifier: Apache-2.0
"""JSON and moments the way Go's encoding/json and time packages write and reject them."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, NoReturn

# encoding/json escapes these inside strings, and they occur nowhere else
_ESCAPED: Final = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)
_WHERE: Final = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": (
        "looking for beginning of object key string"
    ),
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
}
_BLANKS: Final = " \t\r\n"
_FOLDED: Final = str.maketrans({"\u017f": "s", "\u212a": "k"})  # Go folds these two to ASCII
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
MOST_DEPTH: Final = 10_000  # encoding/json's own limit
READ_DEPTH: Final = 60  # of what the simulator reads
MOST_DIGITS: Final = 18  # of an integer that every type of the server holds
MAPS: Final = frozenset({"options", "parameters", "files", "adapters", "format", "metadata"})
# Slices, maps and pointers: a null empties them.
NULLABLE: Final = MAPS | {"stream", "keep_alive", "messages", "think", "tools", "input", "shift"}


def dumps(value: object) -> bytes:
    """Encode without blanks, in the order of the keys, HTML escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPED).encode()


def line(value: object) -> bytes:
    """Encode as a stream's encoder does: with a line feed at the end."""
    return dumps(value) + b"\n"


class GoObject(dict[str, Any]):
    """A decoded JSON object, as Go decodes it into a struct.

    Names match in any case. The last of several values counts, but a null leaves a scalar as it is,
    and maps are merged. `every` has all values that were given for a name, since Go rejects a wrong
    one even if another follows.
    """

    __slots__ = ("_given",)

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__()
        self._given: list[tuple[str, Any]] = []
        for written, value in pairs:
            name = written.translate(_FOLDED).lower()
            self._given.append((name, value))
            before = self.get(name)
            if name in MAPS and isinstance(before, dict) and isinstance(value, dict):
                self[name] = before | value
            elif value is not None or name in NULLABLE or name not in self:
                self[name] = value

    def every(self, name: str) -> list[Any]:
        """Return all values that were given for a name."""
        return [value for given, value in self._given if given == name]


def loads(body: bytes) -> GoObject:
    """Decode the first value of a body, an object; what follows is not read.

    Raises ValueError with the text that the server answers. What is nested deeper than any field
    that the simulator reads is not checked.
    """
    text = body.decode(errors="replace").lstrip(_BLANKS)
    if not text:
        raise ValueError("missing request body")
    text = _without_depths(text)
    try:
        value, _ = _DECODER.raw_decode(text)
    except json.JSONDecodeError as err:
        if err.pos >= len(text.rstrip(_BLANKS)):
            raise ValueError("unexpected EOF") from err
        where = _WHERE.get(err.msg, "in string literal")
        raise ValueError(f"invalid character {text[err.pos]!r} {where}") from err
    if not isinstance(value, _Pairs):
        kind = kind_of(value)
        raise ValueError(f"json: cannot unmarshal {kind} into Go value of type api.Request")  # noqa: TRY004 - the server's answer, not a misuse
    return _struct(value)


class _Pairs:
    """An object that is not a struct or a map yet."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _struct(found: _Pairs) -> GoObject:
    return GoObject((name, _value(name, value)) for name, value in found.pairs)


def _value(name: str, value: object) -> object:
    """Turn what is nested into structs and maps, by the name of the field that holds it."""
    match value:
        case _Pairs():
            folded = name.translate(_FOLDED).lower()
            return _map(value) if folded in MAPS else _struct(value)
        case list():
            return [_value(name, each) for each in value]
        case str():
            return _SURROGATE.sub("\ufffd", value)  # half a pair, as Go replaces it
        case _:
            return value


def _map(found: _Pairs) -> dict[str, Any]:
    """Names of a map are exact, and the last of several values counts."""
    return {
        name: _map(value) if isinstance(value, _Pairs) else value for name, value in found.pairs
    }


def _without_depths(text: str) -> str:
    """Replace what is nested too deep for us by null. Raises ValueError beyond Go's own limit."""
    if text.count("{") + text.count("[") <= READ_DEPTH:
        return text
    kept: list[str] = []
    depth, position = 0, 0  # of what is kept
    for found in _TOKEN.finditer(text):
        mark = found[0]
        if mark in "{[":
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError("exceeded max depth")
            if depth == READ_DEPTH + 1:
                kept.append(text[position : found.start()])
        elif mark in "}]":
            depth -= 1
            if depth == READ_DEPTH:
                kept.append("null")
                position = found.end()
            elif depth <= 0:
                break
    else:
        if depth > READ_DEPTH:
            raise ValueError("unexpected EOF")
    return "".join((*kept, text[position:]))


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def _refuse(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's decoder accepts."""
    character = "I" if name == "-Infinity" else name[0]
    where = "in numeric literal" if name == "-Infinity" else "looking for beginning of value"
    raise ValueError(f"invalid character {character!r} {where}")


def kind_of(value: object) -> str:
    """Name a decoded value's type as encoding/json does."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"


def moment(seconds: float, zone: tzinfo = UTC) -> str:
    """Write Unix seconds as RFC 3339: up to nine digits, no trailing zeros, numeric offset or Z."""
    nanos = round(seconds * 1e9)
    whole, part = divmod(nanos, 10**9)
    at = datetime.fromtimestamp(whole, zone)
    fraction = f".{part:09d}".rstrip("0") if part else ""
    offset = at.utcoffset() or timedelta()
    tail = "Z" if not offset else at.strftime("%z")[:3] + ":" + at.strftime("%z")[3:5]
    return at.strftime("%Y-%m-%dT%H:%M:%S") + fraction + tail


def nanoseconds(seconds: float) -> int:
    """Turn a duration into the integer that the wire carries."""
    return round(seconds * 1e9)


def without_zeros(record: dict[str, object]) -> dict[str, object]:
    """Drop what `omitempty` drops: a zero count or duration is absent, not 0."""
    return {key: value for key, value in record.items() if value not in (0, "", None)}


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_int=_integer,
    parse_float=float,
    parse_constant=_refuse,
)
