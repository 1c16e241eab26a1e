# SPDX-License-Identifier: Apache-2.0
"""Finds the members of a JSON object as the server's decoder (Go's encoding/json) finds them.

Clients choose these bytes. Every expression is possessive (it never backtracks) and the scan stops
at the first one that does not match, so no byte is read more than twice.
"""

import re
from typing import Any, Final, NamedTuple

# Go allows this depth and no more (maxNestingDepth, encoding/json/scanner.go).
DEEPEST: Final = 10_000
# Members and brackets that are scanned: this bounds the work to 30 ms of the event loop.
MOST_MEMBERS: Final = 1 << 14
MOST_BRACKETS: Final = 1 << 17
BLANKS: Final = rb"[ \t\r\n]*+"
STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
LITERAL: Final = rb'[^ \t\r\n{}\[\],:"]++'
FLAT: Final = rb'[^"{}\[\]]*+(?:' + STRING + rb'[^"{}\[\]]*+)*+'  # no brackets outside strings
# Blanks, and what some write around a record: the separator of RFC 7464, a byte order mark.
SEPARATORS: Final = b" \t\r\n\x1e\xef\xbb\xbf"
OPENING: Final = re.compile(BLANKS + rb"\{(" + BLANKS + rb"\})?")
# A key, and if its value is a scalar also that and what follows it.
MEMBER: Final = re.compile(
    rb"%b(%b)%b:%b(?:(%b|%b)%b([,}]))?+"
    % (BLANKS, STRING, BLANKS, BLANKS, STRING, LITERAL, BLANKS),
    re.DOTALL,
)
# Everything up to the next bracket that counts: objects and arrays without others are skipped.
BRACKET: Final = re.compile(
    rb'(?:[^"{}\[\]]++|%b|\{%b\}|\[%b\])*+([{}\[\]])' % (STRING, FLAT, FLAT), re.DOTALL
)
NEXT: Final = re.compile(BLANKS + rb"([,}])")
BLANK: Final = re.compile(BLANKS)
ITEM: Final = re.compile(BLANKS + rb"(%b|%b)%b([,\]])" % (STRING, LITERAL, BLANKS), re.DOTALL)
NEXT_ITEM: Final = re.compile(BLANKS + rb"([,\]])")
EMPTY_ARRAY: Final = re.compile(rb"\[%b\]" % BLANKS)
ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    r'|u([0-9a-fA-F]{4})|(["\\/bfnrt]))'
)
CONTROL: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
LITERALS: Final = {b"true": True, b"false": False, b"null": None}


class Member(NamedTuple):
    """A member's raw key, with its quotes, and the position of its value: bytes [begin, end)."""

    key: bytes
    begin: int
    end: int


class JsonObject(NamedTuple):
    """The members in order, equal keys included. `is_closed`: its end was found."""

    first: int  # the position behind the opening brace
    members: list[Member]
    is_closed: bool


def scan_object(body: bytes, begin: int = 0, end: int | None = None) -> JsonObject | None:
    """Scan the object that begins at a position; None if none does. What follows it is ignored.

    A member counts if it is complete. Values are not validated beyond their brackets.
    """
    stop = len(body) if end is None else end
    opening = OPENING.match(body, begin, stop)
    if opening is None:
        return None
    members: list[Member] = []
    if opening[1] is not None:
        return JsonObject(opening.start(1), members, is_closed=True)
    at = first = opening.end()
    while len(members) < MOST_MEMBERS:
        member = MEMBER.match(body, at, stop)
        if member is None:
            break
        key, scalar, mark = member.groups()
        if scalar is not None:
            members.append(Member(key, member.start(2), member.end(2)))
            at = member.end()
        else:
            value = member.end()
            after = _end_of_container(body, value, stop)
            following = None if after is None else NEXT.match(body, after, stop)
            if after is None or following is None:
                break
            members.append(Member(key, value, after))
            mark, at = following[1], following.end()
        if mark == b"}":
            return JsonObject(first, members, is_closed=True)
    return JsonObject(first, members, is_closed=False)


def _end_of_container(body: bytes, begin: int, stop: int) -> int | None:
    if body[begin : begin + 1] not in (b"{", b"["):
        return None
    depth, at = 1, begin + 1
    for _ in range(MOST_BRACKETS):
        bracket = BRACKET.match(body, at, stop)
        if bracket is None:
            return None
        at = bracket.end()
        depth += 1 if bracket[1] in (b"{", b"[") else -1
        if depth == 0:
            return at
        if depth >= DEEPEST:  # with the object around it; the innermost bracket is not counted
            return None
    return None


def items_in(array: bytes) -> list[bytes] | None:
    """Return the raw values of an array; None if it is not a complete one.

    Values are not validated beyond their brackets.
    """
    found: list[bytes] = []
    if EMPTY_ARRAY.fullmatch(array):
        return found
    at = 1 if array[:1] == b"[" else len(array)
    while at < len(array):
        scalar = ITEM.match(array, at)
        if scalar is not None:
            found.append(scalar[1])
            mark, at = scalar[2], scalar.end()
        else:
            begin = BLANK.match(array, at).end()  # type: ignore[union-attr]  # it matches nothing as well
            end = _end_of_container(array, begin, len(array))
            following = None if end is None else NEXT_ITEM.match(array, end)
            if following is None:
                break
            found.append(array[begin:end])
            mark, at = following[1], following.end()
        if mark == b"]":
            return found
    return None


def objects_in(text: bytes) -> list[bytes]:
    """Return the objects that stand one behind another in a text, up to what is not one."""
    found, at = [], 0
    while (begin := text.find(b"{", at)) >= 0 and not text[at:begin].strip(SEPARATORS):
        end = _end_of_container(text, begin, len(text))
        if end is None:
            break
        found.append(text[begin:end])
        at = end
    return found


def fold(key: bytes) -> str:
    """Return a raw key as Go folds it to find a struct's field."""
    if b"\\" not in key and key.isascii():
        return key[1:-1].lower().decode("ascii")
    return fold_text(decode_string(key) or "")


def fold_text(key: str) -> str:
    """Return a key as Go folds it: in lower case, and with the long s as an s.

    The Kelvin sign becomes a k; no other letter beyond ASCII becomes one of ASCII.
    """
    return key.lower() if key.isascii() else key.lower().replace("\u017f", "s")


def decode_string(raw: bytes) -> str | None:
    """Return the text of a raw string, or None if it is not one.

    Like Go, it replaces lone surrogates and bytes that are not UTF-8.
    """
    if len(raw) < 2 or raw[:1] != b'"' or raw[-1:] != b'"':  # noqa: PLR2004 - two quotes
        return None
    text = raw[1:-1].decode("utf-8", "replace")
    return text if "\\" not in text else ESCAPE.sub(_unescape, text)


def _unescape(escape: re.Match[str]) -> str:
    high, low, unit, letter = escape.groups()
    if high is not None:
        code = 0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00)
        return chr(code)
    if unit is None:
        return CONTROL.get(letter, letter)
    code = int(unit, 16)
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)  # noqa: PLR2004 - the surrogates


def decode_scalar(raw: bytes) -> Any:  # noqa: ANN401 - any scalar of JSON
    """Return a scalar as Go decodes it into `any`: every number is a float.

    Raises ValueError for what Go rejects, numbers beyond a float's range included, and for objects
    and arrays.
    """
    match raw[:1]:
        case b'"':
            text = decode_string(raw)
            if text is not None:
                return text
        case b"t" | b"f" | b"n" if raw in LITERALS:
            return LITERALS[raw]
        case _ if NUMBER.fullmatch(raw):
            number = float(raw)
            if abs(number) < float("inf"):
                return number
    raise ValueError("not a scalar that the server accepts")
