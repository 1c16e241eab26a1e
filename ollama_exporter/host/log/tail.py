# SPDX-License-Identifier: Apache-2.0
"""Follows a log file by its name, through renaming, truncation and re-creation.

The first file is read from its end. A file that appears later is read from its beginning. A line
that the old file or the text before a truncation left without its end gets one.
"""

import os
import stat
from pathlib import Path
from typing import Final

CHUNK: Final = 64 * 1024
# Without O_NONBLOCK, opening a pipe without a writer blocks. Each system has the flags it needs.
FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY")
)
HOLDS: Final = os.name != "nt"  # Windows cannot rename an open file


class LogTail:
    """Reads what is appended. Each call reads one chunk of a local file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the last file
        self._position = 0
        self._first = True  # the first file is read from its end
        self._renamed = False  # another file has the name; read the old one once more
        self._in_line = False  # what was read last has no newline at its end

    def read(self) -> bytes:
        """Return what was appended, at most one chunk. Raises OSError.

        The old file stays open until another one is: so no other gets its inode.
        """
        if self._file is None:
            self._file = self._open()
        data = self._read_on(self._file)
        if data or not self._is_replaced():
            self._renamed = False
        elif not self._renamed:  # the writer may write to it until it opens the new one
            self._renamed = True
        else:
            old, self._file = self._file, self._open()
            self._renamed = False
            os.close(old)
        if not HOLDS:
            self.close()
        return data

    def close(self) -> None:
        """Close the file. The next read opens the name again."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._renamed = None, False

    def _open(self) -> int:
        """Open the file that has the name now, and set the position to read from."""
        first, self._first = self._first, False
        file = os.open(self._path, FLAGS)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            os.close(file)
            raise OSError(f"{self._path} is not a regular file")
        if first:
            self._position = found.st_size
        elif self._identity != (found.st_dev, found.st_ino):
            self._position = 0
        self._identity = (found.st_dev, found.st_ino)
        return file

    def _read_on(self, file: int) -> bytes:
        if os.fstat(file).st_size < self._position:  # truncated
            self._position = 0
        os.lseek(file, self._position, os.SEEK_SET)
        data = os.read(file, CHUNK)
        if not data:
            return data
        begins, cut = self._position == 0, self._in_line
        self._position += len(data)
        self._in_line = not data.endswith(b"\n")
        return b"\n" + data if begins and cut else data

    def _is_replaced(self) -> bool:
        """Return whether the name leads to another file. Without a file, wait for one."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - like fstat above
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) != self._identity
