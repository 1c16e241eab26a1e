# SPDX-License-Identifier: Apache-2.0
"""Sets one member of a request's JSON object and keeps every other byte as it is.

It finds members as the server's decoder (Go's) does. The first key of a path is the field of a
struct, which Go matches in any case; the keys of `options` are those of a map and match exactly. Of
several equal keys Go uses the last, and it merges several `options`: so all of them are set.
"""

import json

from ollama_exporter.protocol.json_scan import JsonObject, Member, decode_string, fold, scan_object

Path = tuple[str, ...]


def set_member(body: bytes, path: Path, value: bytes) -> bytes | None:
    """Set the member at a path of keys and create what is missing of the path.

    Returns None if the body, or a value on the path, is not an object that can be scanned.
    """
    return _set(body, path, value, is_struct=True)


def member(path: Path, value: bytes) -> bytes:
    """Return a member that sets the value at a path of keys."""
    return b"%b:%b" % (json.dumps(path[0]).encode(), _nested(path[1:], value))


def _set(body: bytes, path: Path, value: bytes, *, is_struct: bool) -> bytes | None:
    scanned = scan_object(body)
    if scanned is None or not scanned.is_closed:
        return None
    key, rest = path[0], path[1:]
    there = _members(scanned, key, is_struct=is_struct)
    if not there:
        at = scanned.first
        new = member(path, value)
        return body[:at] + new + (b"," if scanned.members else b"") + body[at:]
    parts, at = [], 0  # joined once, or each of many equal keys would copy the body
    for each in there:
        old = body[each.begin : each.end]
        if not rest:
            new_value: bytes | None = value
        elif old == b"null":
            new_value = _nested(rest, value)
        else:
            new_value = _set(old, rest, value, is_struct=False)
        if new_value is None:
            return None
        parts += [body[at : each.begin], new_value]
        at = each.end
    return b"".join([*parts, body[at:]])


def _nested(path: Path, value: bytes) -> bytes:
    for key in reversed(path):
        value = b"{%b:%b}" % (json.dumps(key).encode(), value)
    return value


def _members(scanned: JsonObject, key: str, *, is_struct: bool) -> list[Member]:
    if is_struct:
        return [member for member in scanned.members if fold(member.key) == key]
    return [member for member in scanned.members if decode_string(member.key) == key]
