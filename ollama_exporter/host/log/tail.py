# SPDX-License-Identifier: Apache-2.0
"""Follows a log file by its name, through renaming, truncation and re-creation.

The first file is read from its end. A file that appears later is read from its beginning. A line
that the old file or the text before a truncation left without its end gets one.

A truncated file may have grown beyond its old size by the next read: a server that fails at its
start, again and again, writes the same number of bytes each time. So what was read last is compared
with what stands there now. A writer that does not append (`serve > server.log`) goes on where it
was: the file then begins with a hole, which is skipped.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

CHUNK: Final = 64 * 1024
KNOWN: Final = 128  # bytes in front of the position that are compared: a moment and more
# Without O_NONBLOCK, opening a pipe without a writer blocks. Each system has the flags it needs.
FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY")
)
HOLDS: Final = os.name != "nt"  # Windows cannot rename an open file
HOLE: Final = b"\0\0"
SEEK_DATA: Final[int | None] = getattr(os, "SEEK_DATA", None)  # not everywhere


class LogTail:
    """Reads what is appended. Each call reads one chunk of a local file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the last file
        self._position = 0
        self._known = b""  # what stands in front of the position
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
            os.lseek(file, max(0, self._position - KNOWN), os.SEEK_SET)
            self._known = os.read(file, min(KNOWN, self._position))
        elif self._identity != (found.st_dev, found.st_ino):
            self._begin_anew()
        self._identity = (found.st_dev, found.st_ino)
        return file

    def _begin_anew(self) -> None:
        self._position, self._known = 0, b""

    def _read_on(self, file: int) -> bytes:
        data = self._read_behind_known(file)
        if data is None:  # truncated
            self._begin_anew()
            data = self._read_behind_known(file) or b""
        if data.startswith(HOLE):
            data = self._skip_hole(file)
        if not data:
            return data
        begins, cut = not self._known, self._in_line
        self._position += len(data)
        self._known = (self._known + data)[-KNOWN:]
        self._in_line = not data.endswith((b"\n", b"\n\0"))  # the second in UTF-16
        return b"\n" + data if begins and cut else data

    def _read_behind_known(self, file: int) -> bytes | None:
        """Return the next chunk; None if what stands in front of it was read otherwise."""
        known = len(self._known)
        os.lseek(file, self._position - known, os.SEEK_SET)
        data = os.read(file, known + CHUNK)
        return data[known:] if data.startswith(self._known) else None

    def _skip_hole(self, file: int) -> bytes:
        """Move the position behind the zeros that stand there; return what follows them."""
        if SEEK_DATA is not None:
            with suppress(OSError):  # no data up to the end, or a file system without holes
                self._position = os.lseek(file, self._position, SEEK_DATA)
        self._known = b""
        data = self._read_behind_known(file) or b""
        zeros = len(data) - len(data.lstrip(b"\0"))
        zeros -= zeros % 2  # the last one may belong to a letter in UTF-16
        self._position += zeros
        return data[zeros:]

    def _is_replaced(self) -> bool:
        """Return whether the name leads to another file. Without a file, wait for one."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - like fstat above
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) != self._identity
