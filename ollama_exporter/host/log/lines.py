# SPDX-License-Identifier: Apache-2.0
"""Lines out of a stream of bytes, each of bounded length. Pure."""

from collections.abc import Iterator


class LineSplitter:
    """Splits at newlines; of a line longer than `limit` bytes the beginning is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""  # of the line that is not complete yet, at most `limit` bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that these bytes complete, without their newline."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            room = self._limit - len(self._rest)
            yield self._rest + data[start : min(end, start + room)]
            self._rest, start = b"", end + 1
        self._rest += data[start : start + self._limit - len(self._rest)]

    def reset(self) -> None:
        """Drop what is not complete: its end will not come."""
        self._rest = b""
