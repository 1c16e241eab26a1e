# SPDX-License-Identifier: Apache-2.0
"""Finds the members of a JSON object that comes in pieces, in constant space.

Like json_scan.py it reads as the server's decoder (Go's encoding/json) does. It has no limit on
the number of members, brackets or bytes: what it keeps is one short token. Time is linear.
"""

import re
from enum import Enum, auto
from itertools import accumulate, islice
from typing import ClassVar, Final, Protocol

from ollama_exporter.protocol.json_scan import (
    BLANKS,
    BRACKET,
    DEEPEST,
    LITERAL,
    MEMBER,
    STRING,
    fold,
)

LONGEST_KEY: Final = 256  # bytes; no field's key is longer, even with each letter escaped
LONGEST_VALUE: Final = 64 << 10  # bytes of a value that are kept
BLOCK: Final = 4096  # bytes in which brackets are counted at once
FEW: Final = 32  # brackets that are looked at one by one: fewer than a block costs
KEY: Final = re.compile(BLANKS + rb"(%b)" % STRING, re.DOTALL)
BLANK: Final = re.compile(BLANKS)
STRING_REST: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
LITERAL_REST: Final = re.compile(rb"(?:%b)?+" % LITERAL)
STRINGS: Final = re.compile(STRING, re.DOTALL)
WHOLE_STRINGS: Final = re.compile(rb'(?:[^"]++|%b)*+' % STRING, re.DOTALL)
STRING_OR_BRACKET: Final = re.compile(rb"%b|([{}\[\]])" % STRING, re.DOTALL)
NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"{}[]")))
STEPS: Final = [1 if byte in b"{[" else -1 for byte in range(256)]
NO_KEY: Final = b'""'  # stands for a key that is too long to be a field's


class MemberSink(Protocol):
    """Receives members of the object, in order."""

    def has_field(self, path: tuple[str, ...], key: bytes) -> bool:
        """Return whether the value of a raw key is wanted. `path`: of the object it stands in."""

    def is_map(self, key: bytes) -> bool:
        """Return whether the members of an object are wanted one by one. `key`: its raw key."""

    def on_value(self, path: tuple[str, ...], key: bytes, raw: bytes, *, is_cut: bool) -> None:
        """Handle a wanted value.

        Of an array or object only whether it is empty: b"[]", b"{}", or with one member. `is_cut`:
        it is longer than what is kept.
        """


class NoMembers:
    """Wants no member."""

    def has_field(self, _path: tuple[str, ...], _key: bytes) -> bool:
        """Return False."""
        return False

    def is_map(self, _key: bytes) -> bool:
        """Return False."""
        return False

    def on_value(self, path: tuple[str, ...], key: bytes, raw: bytes, *, is_cut: bool) -> None:
        """Do nothing."""


def is_beginning(text: bytes) -> bool:
    """Return whether a text is a JSON object that was cut, or nothing at all."""
    scanner = ObjectScanner(NoMembers())
    scanner.feed(text)
    return scanner.is_open


class ScanPhase(Enum):
    """What comes next."""

    BEGIN = auto()  # the opening brace
    FIRST = auto()  # a key or the closing brace
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    STRING = auto()  # the rest of a string: a value, or a key that is too long
    LITERAL = auto()  # the rest of a number or a word
    SKIP = auto()  # the rest of an array or object
    COMMA = auto()  # a comma or the closing brace
    CLOSED = auto()
    BROKEN = auto()  # the server's decoder rejects this


ENDED: Final = frozenset({ScanPhase.CLOSED, ScanPhase.BROKEN})


class ObjectScanner:
    """Scans the first object of a stream. What follows it is ignored, as the server does."""

    def __init__(self, sink: MemberSink, *, path: tuple[str, ...] = ()) -> None:
        """`path`: where the object stands."""
        self._sink = sink
        self._phase = ScanPhase.BEGIN
        self._outer = self._path = path
        self._carry = b""  # the beginning of a token
        self._key = b""
        self._is_key = False  # the string being scanned is one
        self._is_wanted = False  # the current value
        self._kept: list[bytes] = []  # of the current value
        self._kept_size = 0
        self._depth = 0  # of the array or object that is skipped
        self._is_in_string = False  # inside the skipped one
        self._is_at_opening = False  # of the skipped one: it may be empty
        self.has_members = False

    @property
    def is_closed(self) -> bool:
        """Whether the object's end was found."""
        return self._phase is ScanPhase.CLOSED

    @property
    def is_open(self) -> bool:
        """Whether more of the object must come: what came is neither all of it nor malformed."""
        return self._phase not in ENDED

    def feed(self, data: bytes) -> int | None:
        """Scan a piece. Return the position in it of the brace that closes the object, if any."""
        if self._phase in ENDED:
            return None
        carried = len(self._carry)
        text = self._carry + data if carried else data
        self._carry = b""
        at, end = 0, len(text)
        while at < end and self._phase not in ENDED:
            at = self._SCANS[self._phase](self, text, at)
        return at - 1 - carried if self.is_closed else None

    # -- one method for each phase: scans from a position and returns the next one ----------------

    def _scan_begin(self, text: bytes, at: int) -> int:
        begin = _after_blanks(text, at)
        if begin == len(text):
            return begin
        self._phase = ScanPhase.FIRST if text[begin : begin + 1] == b"{" else ScanPhase.BROKEN
        return begin + 1

    def _scan_key(self, text: bytes, at: int) -> int:
        member = MEMBER.match(text, at)
        if member is not None:
            self.has_members = True
            self._key, scalar, mark = member.groups()
            if scalar is None:
                self._phase = ScanPhase.VALUE
                return member.end()
            if self._sink.has_field(self._path, self._key):
                self._emit(scalar[:LONGEST_VALUE], is_cut=len(scalar) > LONGEST_VALUE)
            self._phase = ScanPhase.KEY
            if mark == b"}":
                self._close()
            return member.end()
        key = KEY.match(text, at)
        if key is not None:
            self._key, self._phase = key[1], ScanPhase.COLON
            return key.end()
        begin = _after_blanks(text, at)
        first = text[begin : begin + 1]
        if first == b"}" and self._phase is ScanPhase.FIRST:
            self._close()
        elif first == b'"' and len(text) - begin > LONGEST_KEY:
            self._key, self._is_key, self._is_wanted = NO_KEY, True, False
            self._phase = ScanPhase.STRING
        elif first == b'"':
            self._carry = text[begin:]
            return len(text)
        elif first:
            self._phase = ScanPhase.BROKEN
        return begin + len(first)

    def _scan_colon(self, text: bytes, at: int) -> int:
        begin = _after_blanks(text, at)
        if begin == len(text):
            return begin
        self.has_members = True
        self._phase = ScanPhase.VALUE if text[begin : begin + 1] == b":" else ScanPhase.BROKEN
        return begin + 1

    def _scan_value(self, text: bytes, at: int) -> int:
        begin = _after_blanks(text, at)
        if begin == len(text):
            return begin
        first = text[begin : begin + 1]
        self._is_wanted = self._sink.has_field(self._path, self._key)
        self._kept, self._kept_size = [], 0
        if first == b'"':
            self._keep(first)
            self._is_key, self._phase = False, ScanPhase.STRING
        elif first == b"{" and self._path == self._outer == () and self._sink.is_map(self._key):
            self._path, self._phase = (fold(self._key),), ScanPhase.FIRST
        elif first in (b"{", b"["):
            self._keep(first)
            self._depth, self._is_in_string, self._is_at_opening = 1, False, True
            self._phase = ScanPhase.SKIP
        elif first in (b"}", b"]", b":", b","):
            self._phase = ScanPhase.BROKEN
        else:
            self._phase = ScanPhase.LITERAL
            return begin
        return begin + 1

    def _scan_string(self, text: bytes, at: int) -> int:
        end = _string_end(text, at)
        if not self._is_key:
            self._keep(text[at:end])
        if end == len(text):
            return end
        if text[end : end + 1] == b"\\":
            self._carry = b"\\"
        elif self._is_key:
            self._phase = ScanPhase.COLON
        else:
            self._keep(b'"')
            self._end_value()
        return end + 1

    def _scan_literal(self, text: bytes, at: int) -> int:
        end = LITERAL_REST.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing
        self._keep(text[at:end])
        if end < len(text):
            self._end_value()
        return end

    def _scan_comma(self, text: bytes, at: int) -> int:
        begin = _after_blanks(text, at)
        if begin == len(text):
            return begin
        mark = text[begin : begin + 1]
        if mark == b"}":
            self._close()
        else:
            self._phase = ScanPhase.KEY if mark == b"," else ScanPhase.BROKEN
        return begin + 1

    def _scan_skipped(self, text: bytes, at: int) -> int:
        if self._is_in_string:
            return self._scan_inner_string(text, at)
        closing: int | None = None
        if self._is_at_opening:
            at = _after_blanks(text, at)
            if at == len(text):
                return at
            self._is_at_opening = False
            if text[at : at + 1] not in (b"]", b"}"):
                self._keep(b"0")  # something
            closing = self._short_end(text, at)
        stop = min(at + BLOCK, len(text))
        end = stop
        if closing is None:
            end = WHOLE_STRINGS.match(text, at, stop).end()  # type: ignore[union-attr]  # it matches nothing
            inside = self._closing(text[at:end])
            closing = None if inside is None else at + inside
        if closing is not None:
            self._keep(text[closing : closing + 1])
            self._end_value()
            return closing + 1
        self._is_in_string = end < stop  # a string begins that does not end in this block
        return end + self._is_in_string

    def _scan_inner_string(self, text: bytes, at: int) -> int:
        end = _string_end(text, at)
        if text[end : end + 1] == b"\\":
            self._carry = b"\\"
        elif end < len(text):
            self._is_in_string = False
        return min(end + 1, len(text))

    def _short_end(self, text: bytes, at: int) -> int | None:
        """Return where an array or object ends that has few brackets and is here as a whole."""
        depth = 1
        for _ in range(FEW):
            bracket = BRACKET.match(text, at)
            if bracket is None:
                return None
            depth += 1 if bracket[1] in (b"{", b"[") else -1
            if depth == 0:
                return bracket.start(1)
            at = bracket.end()
        return None

    def _closing(self, block: bytes) -> int | None:
        """Return where in a block the skipped array or object ends. Else count its brackets."""
        bare = STRINGS.sub(b"", block) if b'"' in block else block
        brackets = bare.translate(None, NOT_BRACKETS)
        closing = brackets.count(b"]") + brackets.count(b"}")
        if self._depth + len(brackets) - closing >= DEEPEST:  # it may have been so deep within
            highest = max(accumulate(map(STEPS.__getitem__, brackets)), default=0)
            if self._depth + highest >= DEEPEST:
                self._phase = ScanPhase.BROKEN
                return None
        if closing >= self._depth:
            depths = list(accumulate(map(STEPS.__getitem__, brackets)))
            if -self._depth in depths:
                wanted = depths.index(-self._depth)
                found = (each for each in STRING_OR_BRACKET.finditer(block) if each[1])
                return next(islice(found, wanted, None)).start()
        self._depth += len(brackets) - 2 * closing
        return None

    # -- values ----------------------------------------------------------------------------------

    def _keep(self, piece: bytes) -> None:
        if self._is_wanted:
            if self._kept_size < LONGEST_VALUE:
                self._kept.append(piece[: LONGEST_VALUE - self._kept_size])
            self._kept_size += len(piece)

    def _end_value(self) -> None:
        if self._is_wanted:
            self._emit(b"".join(self._kept), is_cut=self._kept_size > LONGEST_VALUE)
        self._kept, self._phase = [], ScanPhase.COMMA

    def _emit(self, raw: bytes, *, is_cut: bool) -> None:
        self._sink.on_value(self._path, self._key, raw, is_cut=is_cut)

    def _close(self) -> None:
        self._phase = ScanPhase.CLOSED if self._path == self._outer else ScanPhase.COMMA
        self._path = self._outer

    _SCANS: ClassVar = {
        ScanPhase.BEGIN: _scan_begin,
        ScanPhase.FIRST: _scan_key,
        ScanPhase.KEY: _scan_key,
        ScanPhase.COLON: _scan_colon,
        ScanPhase.VALUE: _scan_value,
        ScanPhase.STRING: _scan_string,
        ScanPhase.LITERAL: _scan_literal,
        ScanPhase.SKIP: _scan_skipped,
        ScanPhase.COMMA: _scan_comma,
    }


def _after_blanks(text: bytes, at: int) -> int:
    return BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing as well


def _string_end(text: bytes, at: int) -> int:
    """Return where the rest of a string ends: at its quote, or at what is not there yet."""
    return STRING_REST.match(text, at).end()  # type: ignore[union-attr]  # likewise
