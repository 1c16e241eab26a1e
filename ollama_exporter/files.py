# SPDX-License-Identifier: Apache-2.0
"""Reads files that a setting names. A FIFO or a device must not block the event loop."""

import os
import stat
from pathlib import Path
from typing import Final

# Windows has none of these, and no FIFOs in its file system.
_NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)


def read_regular(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """Return the content of a regular file. `follow`: also through a symbolic link.

    Raises OSError, also if the file is not regular or has more than `limit` bytes.
    """
    flags = os.O_RDONLY | _NONBLOCK | (0 if follow else _NOFOLLOW)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"larger than {limit} bytes")
    return content


def create_exclusive(path: Path) -> int:
    """Create a file that only its owner may read; return its descriptor. Raises OSError.

    A regular file of that name that an earlier attempt left is removed. A link, a FIFO or
    somebody else's file is not.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        found = path.lstat()
        mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not (stat.S_ISREG(found.st_mode) and mine):
            raise
        path.unlink()
    return os.open(path, flags, 0o600)
