# SPDX-License-Identifier: Apache-2.0
"""An object that comes in pieces is read as the whole is, wherever it is cut."""

from typing import Final

import pytest

from ollama_exporter.protocol.json_scan import DEEPEST
from ollama_exporter.protocol.json_stream import (
    BLOCK,
    LONGEST_KEY,
    LONGEST_VALUE,
    ObjectScanner,
    is_beginning,
)

Member = tuple[tuple[str, ...], bytes, bytes, bool]
LONG_KEY: Final = b'"' + b"k" * (LONGEST_KEY + 1) + b'"'


class Members:
    """Wants every member, and those of `options` one by one."""

    def __init__(self) -> None:
        self.found: list[Member] = []

    def has_field(self, _path: tuple[str, ...], _key: bytes) -> bool:
        return True

    def is_map(self, key: bytes) -> bool:
        return key == b'"options"'

    def on_value(self, path: tuple[str, ...], key: bytes, raw: bytes, *, is_cut: bool) -> None:
        self.found.append((path, key, raw, is_cut))


def scanned(*pieces: bytes) -> tuple[list[Member], bool, int | None]:
    """Return the members, whether the object is closed, and where in all pieces it ended."""
    sink, before, end = Members(), 0, None
    scanner = ObjectScanner(sink)
    for piece in pieces:
        at = scanner.feed(piece)
        if at is not None:
            end = before + at
        before += len(piece)
    return sink.found, scanner.is_closed, end


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"{}", []),
        (b' { "a" : "x" , "b":1} rest', [b'"x"', b"1"]),
        (b'{"a":"x\\"\\\\y","b\\"c":true}', [b'"x\\"\\\\y"', b"true"]),
        (b'{"a":[ ],"b":{ },"c":[[],{"x":"]"}],"d":null}', [b"[]", b"{}", b"[0]", b"null"]),
        (b'{"a":["\\"]", "}"],"b":{"x":"\\\\"}}', [b"[0]", b"{0}"]),
        (b'{"options":{"num_ctx":1,"x":[1]},"b":2}', [b"1", b"[0]", b"2"]),
        (b"{%b:1,%b:[1]}" % (LONG_KEY, LONG_KEY[:-1] + b'\\""'), [b"1", b"[0]"]),
    ],
)
def test_it_is_the_same_wherever_it_is_cut(text: bytes, values: list[bytes]) -> None:
    whole = scanned(text)
    assert [raw for _, _, raw, _ in whole[0]] == values
    assert whole[1:] == (True, text.rindex(b"}"))
    for cut in range(1, len(text)):
        found, *end = scanned(text[:cut], text[cut:])
        assert ([raw for _, _, raw, _ in found], tuple(end)) == (values, whole[1:]), cut
    found, *end = scanned(*(text[at : at + 1] for at in range(len(text))))
    assert ([raw for _, _, raw, _ in found], tuple(end)) == (values, whole[1:])


@pytest.mark.parametrize(
    "text",
    [
        b"[1]",
        b"{1:2}",
        b'{"a" 1}',
        b'{"a":}',
        b'{"a":]}',
        b'{"a":1 "b":2}',
        b'{"a":"x" "b":2}',
        b'{"a":%b}' % (b"[" * DEEPEST + b"]" * DEEPEST),
        b'{"a":[%b' % (b"[" * (DEEPEST - BLOCK) + b"[]" * BLOCK + b"[" * BLOCK),
    ],
)
def test_what_the_server_rejects_ends_the_scan(text: bytes) -> None:
    for pieces in ((text,), tuple(text[at : at + 1] for at in range(len(text)))):
        scanner = ObjectScanner(Members())
        for piece in pieces:
            scanner.feed(piece)
        assert (scanner.is_open, scanner.is_closed) == (False, False)
        assert scanner.feed(b"}") is None


def test_of_a_long_value_the_beginning_is_kept() -> None:
    text = b'{"a":"' + b"x" * LONGEST_VALUE + b'","b":' + b"1" * (LONGEST_VALUE + 1) + b"}"
    for pieces in ((text,), tuple(text[at : at + 1000] for at in range(0, len(text), 1000))):
        (first, second), _, _ = scanned(*pieces)
        assert (first[2], first[3]) == (text[5 : 5 + LONGEST_VALUE], True)
        assert (second[2], second[3]) == (b"1" * LONGEST_VALUE, True)


@pytest.mark.parametrize(
    ("text", "is_open"), [(b"", True), (b' {"a', True), (b"{}", False), (b"x", False)]
)
def test_a_beginning_is_told_from_a_whole_and_from_what_is_none(
    text: bytes, *, is_open: bool
) -> None:
    assert is_beginning(text) is is_open
