# SPDX-License-Identifier: Apache-2.0
"""Splits a stream of bytes into lines of bounded length. Pure."""

from collections.abc import Iterator


class LineSplitter:
    """Splits at newlines. A line longer than `limit` bytes is cut."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()  # the beginning of an incomplete line, at most `limit` bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that these bytes complete, without their newlines."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            room = self._limit - len(self._rest)
            self._rest += data[start : min(end, start + room)]
            line = bytes(self._rest)
            self._rest.clear()
            start = end + 1
            yield line
        self._rest += data[start : start + self._limit - len(self._rest)]

    def reset(self) -> None:
        """Drop an incomplete line, whose end will not come."""
        self._rest.clear()
