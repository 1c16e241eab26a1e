# SPDX-License-Identifier: Apache-2.0
"""Sets one member of a JSON object and keeps every other byte as it is.

The server's decoder (Go's) matches keys in any case and uses the last of several: all are set.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

# A string, a structural character or a literal. Clients choose these bytes, so no byte may be read
# twice: the quantifiers are possessive (they never backtrack), and an unclosed string is one token
# up to the end of the text. If it did not match, each quote in it would start another scan.
TOKEN: Final = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL
)
OPENING: Final = frozenset({b"{", b"["})
CLOSING: Final = frozenset({b"}", b"]"})


@dataclass(frozen=True, slots=True)
class Member:
    """A member's key and the position of its value: bytes [begin, end)."""

    key: str
    begin: int
    end: int


def members(body: bytes, begin: int = 0, end: int | None = None) -> list[Member]:
    """Return the members of the object in `body[begin:end]`, which must be valid JSON."""
    found: list[Member] = []
    depth, key, start, last = 0, b"", 0, 0
    named = False  # the key and its colon were read: the value follows
    for token in TOKEN.finditer(body, begin, len(body) if end is None else end):
        mark = token[0]
        closes = mark in CLOSING
        if depth == 1 and named and (mark == b"," or closes):
            found.append(Member(str(json.loads(key)), start, last))
            named, start = False, 0
        elif depth == 1 and mark == b":":
            named = True
        elif depth == 1 and named:
            start = start or token.start()
        elif depth == 1:
            key = mark
        depth += (mark in OPENING) - closes
        last = token.end()
    return found


def set_member(body: bytes, path: tuple[str, ...], value: bytes) -> bytes | None:
    """Set the member at a path of keys and create what is missing of the path.

    `body` must be a valid JSON object. Returns None if a value on the path is not an object.
    """
    return _set_member(body, 0, len(body), path, value)


def _set_member(
    body: bytes, begin: int, end: int, path: tuple[str, ...], value: bytes
) -> bytes | None:
    key, rest = path[0], path[1:]
    there = [m for m in members(body, begin, end) if m.key.lower() == key]
    if not there:
        at = body.index(b"{", begin) + 1
        empty = not members(body, begin, end)
        new = b"%b:%b" % (json.dumps(key).encode(), _nested(rest, value))
        return body[:at] + new + (b"" if empty else b",") + body[at:]
    parts, at = [], 0  # joined once, or each of many equal keys would copy the body
    for member in there:
        old = body[member.begin : member.end]
        if not rest:
            new_value: bytes | None = value
        elif old == b"null":
            new_value = _nested(rest, value)
        elif old[:1] == b"{":
            new_value = _set_member(old, 0, len(old), rest, value)
        else:
            return None
        if new_value is None:
            return None
        parts += [body[at : member.begin], new_value]
        at = member.end
    return b"".join([*parts, body[at:]])


def _nested(path: tuple[str, ...], value: bytes) -> bytes:
    for key in reversed(path):
        value = b"{%b:%b}" % (json.dumps(key).encode(), value)
    return value


def values_at(body: bytes, path: tuple[str, ...]) -> list[bytes]:
    """Return the raw values at a path of keys, in order."""
    found = [body[m.begin : m.end] for m in members(body) if m.key.lower() == path[0]]
    if len(path) == 1:
        return found
    return [inner for each in found if each[:1] == b"{" for inner in values_at(each, path[1:])]
