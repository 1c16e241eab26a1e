# SPDX-License-Identifier: Apache-2.0
"""A log file that is followed by its name: through renaming, truncation and re-creation.

What the file holds at the start is not read; a file that appears later is read from its begin.
"""

import os
import stat
from pathlib import Path
from typing import Final

CHUNK: Final = 64 * 1024
# O_NONBLOCK: a pipe without a writer would hold everything up. Each system has those it needs.
FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY")
)
HOLDS: Final = os.name != "nt"  # an open file could not be renamed there


class LogTail:
    """Reads what is appended. Blocks for no longer than a read of a local file takes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._identity: tuple[int, int] | None = None  # of the file that was read last
        self._position = 0
        self._first = True  # what the first file holds already is old
        self._left = False  # another file has the name; one more look at the old one is due

    def read(self) -> bytes:
        """Return what was appended, at most a chunk; empty: nothing for now. Raises OSError."""
        if self._file is None:
            self._file = self._open()
        data = self._take(self._file)
        if data or not self._moved():
            self._left = False
        elif not self._left:  # whoever wrote may do so until it opens the new one
            self._left = True
        else:
            self.close()
        if not HOLDS:
            self.close()
        return data

    def close(self) -> None:
        """Close the file; the next read begins with the name."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._left = None, False

    def _open(self) -> int:
        """Open what has the name now, where reading is to go on."""
        first, self._first = self._first, False
        file = os.open(self._path, FLAGS)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            os.close(file)
            raise OSError(f"{self._path} is no regular file")
        if first:
            self._position = found.st_size
        elif self._identity != (found.st_dev, found.st_ino):
            self._position = 0
        self._identity = (found.st_dev, found.st_ino)
        return file

    def _take(self, file: int) -> bytes:
        if os.fstat(file).st_size < self._position:  # truncated: it begins anew
            self._position = 0
        os.lseek(file, self._position, os.SEEK_SET)
        data = os.read(file, CHUNK)
        self._position += len(data)
        return data

    def _moved(self) -> bool:
        """Tell whether the name leads to another file by now; without any, one may come."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - beside fstat
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) != self._identity
