# SPDX-License-Identifier: Apache-2.0
"""Reads files that a setting names. A FIFO or a device must not block the event loop."""

import os
import stat
from pathlib import Path


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the content of a regular file; symbolic links are followed.

    Raises OSError, also if the file is not regular or has more than `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"larger than {limit} bytes")
    return content
