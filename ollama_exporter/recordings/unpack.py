# SPDX-License-Identifier: Apache-2.0
"""Reads the lines of files that may be packed with gzip, and bounds what they unpack to.

A file of 100 kB may unpack to 100 MB of blank lines. Recordings and logs pack to a fortieth at
best.
"""

import gzip
import zlib
from collections.abc import Iterator
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from ollama_exporter.errors import RecordingError
from ollama_exporter.recordings.format import GZIP

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_RATIO: Final = 250  # bytes of content to a byte of the file
MOST_BLANK: Final = 10_000  # lines in a row
ALWAYS: Final = 16 << 20  # bytes that may come of the smallest file


class UnpackError(OSError):
    """The file unpacks to more than a recording or a log would."""


class _Bounded(RawIOBase):
    """Reads gzip data up to a bound."""

    def __init__(self, packed: BinaryIO, limit: int) -> None:
        self._file = gzip.GzipFile(fileobj=packed)
        self._limit = self._left = limit

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read the next bytes. Raises UnpackError beyond the bound."""
        count = self._file.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise UnpackError(
                f"it unpacks to more than {self._limit >> 20} MiB, {MOST_RATIO} times its size; "
                "unpack it and check what it holds"
            )
        return count


def numbered_lines(path: Path, *, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file, plain or gzip, each with its number and cut at `longest` bytes.

    Raises RecordingError with the number of the line that cannot be read.
    """
    number = 0
    try:
        size = path.stat().st_size
        with path.open("rb") as raw, _unpacked(raw, size=size) as file:
            blank = 0
            for number, line in enumerate(iter(partial(file.readline, longest), b""), 1):
                blank = blank + 1 if line == b"\n" else 0
                if blank > MOST_BLANK:
                    why = f"more than {MOST_BLANK} blank lines in a row"
                    raise RecordingError(path, number, why)
                yield number, line
    except (OSError, EOFError) as err:  # gzip's own errors are OSErrors; EOFError: cut short
        raise RecordingError(path, number, f"cannot be read: {err}") from err
    except zlib.error as err:
        raise RecordingError(path, number, f"damaged gzip data: {err}") from err


def _unpacked(raw: BufferedReader, *, size: int) -> BinaryIO:
    """Return the content of an opened file of `size` bytes, unpacked if that is needed."""
    if raw.peek(2)[:2] != GZIP:
        return raw
    limit = max(ALWAYS, MOST_RATIO * size)
    return cast("BinaryIO", BufferedReader(_Bounded(raw, limit), 1 << 16))
