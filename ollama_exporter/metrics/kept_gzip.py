# SPDX-License-Identifier: Apache-2.0
"""Compresses scrapes. What has not changed since the last one is not compressed again.

Compressing took a quarter of the time of a scrape, and most of its text is the same each time. Each
run of text ends with a full flush, after which nothing refers to what was before it. So the deflate
blocks of an unchanged run can stand in any later answer, in any place.
"""

import struct
import zlib
from collections.abc import Hashable, Iterable, Iterator
from typing import Final

GZIP_LEVEL: Final = 1  # higher levels take longer and save nothing on this text
# Of zlib's hash table: 8 KiB. The usual 64 KiB take longer, for 0.2 % fewer bytes.
MEMORY: Final = 5
AT_ONCE: Final = 16 << 10  # bytes: 0.1 ms
RAW: Final = -zlib.MAX_WBITS
# RFC 1952: magic, deflate, no flags, no time, fastest, Unix.
HEAD: Final = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 3))


class KeptGzip:
    """Holds the compressed runs of the latest answers, by their place."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[bytes, bytes]] = {}  # text, and its blocks

    def gzip(self, runs: Iterable[tuple[Hashable | None, bytes]]) -> Iterator[bytes]:
        """Yield a gzip file in parts. A run is its place, or None if it is new, and its text."""
        deflate = zlib.compressobj(GZIP_LEVEL, wbits=RAW, memLevel=MEMORY)
        checksum, size = 0, 0
        yield HEAD
        for place, text in runs:
            if not text:
                yield b""
                continue
            checksum, size = zlib.crc32(text, checksum), size + len(text)
            kept = None if place is None else self._kept.get(place)
            if kept is not None and kept[0] == text:
                yield kept[1]
                continue
            blocks: list[bytes] = []
            for start in range(0, len(text), AT_ONCE):
                blocks.append(deflate.compress(text[start : start + AT_ONCE]))
                yield blocks[-1]
            blocks.append(deflate.flush(zlib.Z_FULL_FLUSH))
            if place is not None:
                self._kept[place] = text, b"".join(blocks)
            yield blocks[-1]
        yield deflate.flush() + struct.pack("<LL", checksum, size & 0xFFFFFFFF)
