# SPDX-License-Identifier: Apache-2.0
"""JSON and moments the way Go's encoding/json and time packages write and reject them."""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

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
    "Extra data": "after top-level value",
}


def dumps(value: object) -> bytes:
    """Encode without blanks, in the order of the keys, HTML escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPED).encode()


def line(value: object) -> bytes:
    """Encode as a stream's encoder does: with a line feed at the end."""
    return dumps(value) + b"\n"


def loads(body: bytes) -> dict[str, Any]:
    """Decode an object. Raises ValueError with the text that the server answers."""
    if not body.strip():
        raise ValueError("missing request body")
    try:
        text = body.decode(errors="replace")
        value = json.loads(text)
    except json.JSONDecodeError as err:
        if err.pos >= len(text.rstrip()):
            raise ValueError("unexpected EOF") from err
        where = _WHERE.get(err.msg, "in string literal")
        raise ValueError(f"invalid character {text[err.pos]!r} {where}") from err
    if not isinstance(value, dict):
        kind = kind_of(value)
        raise ValueError(f"json: cannot unmarshal {kind} into Go value of type api.Request")  # noqa: TRY004 - the server's answer, not a misuse
    return value


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
