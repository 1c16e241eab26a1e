# SPDX-License-Identifier: Apache-2.0
"""Reads files that a setting names. A FIFO or a device must not block the event loop."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PIECE: Final = 64 << 10  # bytes that are read at a time
MAX_PEM: Final = 1 << 20  # bytes of a certificate chain, of a key, or of the CAs of clients
# Windows has none of these, and no FIFOs in its file system.
_NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
MOST_ASIDE: Final = 9  # files that are moved aside for one path
Signature = tuple[int, int, int]


def read_regular(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """Return the content of a regular file. `follow`: also through a symbolic link.

    Raises OSError, also if the file is not regular or has more than `limit` bytes.
    """
    flags = os.O_RDONLY | _NONBLOCK | (0 if follow else _NOFOLLOW)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        content = bytearray()
        # Asked for `limit` bytes at once, Python makes room for all of them, however few there are.
        while len(content) <= limit and (piece := file.read(PIECE)):
            content += piece
    if len(content) > limit:
        raise OSError(0, f"larger than {limit} bytes")
    return bytes(content)


def signature_of(path: Path) -> Signature:
    """Return what differs once a file was written or replaced. Raises OSError.

    It follows links: mounted configurations are made of them.
    """
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def why_unusable(err: Exception) -> str:
    """Return why a file cannot be used, without its name: the message has that already."""
    return (err.strerror if isinstance(err, OSError) else None) or str(err)


def create_beside(path: Path, *, beginning: bytes) -> tuple[Path, int]:
    """Create a file beside another that only its owner may read; return it and its descriptor.

    Its name is that of the other and `.tmp`. What an earlier attempt left there is removed: a file
    with this beginning. Anything else stays, and the new file gets a name of its own. Raises
    OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
    usual = path.with_name(f"{path.name}.tmp")
    if _begins_with(usual, beginning):
        usual.unlink()
    with suppress(FileExistsError):
        return usual, os.open(usual, flags, 0o600)
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    return own, os.open(own, flags, 0o600)


def move_aside(path: Path, *, suffix: str) -> Path | None:
    """Rename a file by a suffix that no other file has; return its new path.

    Returns None if too many were moved aside before. Raises OSError.
    """
    for number in range(1, MOST_ASIDE + 1):
        aside = path.with_name(f"{path.name}{suffix}{'' if number == 1 else f'.{number}'}")
        try:
            os.link(path, aside, follow_symlinks=False)  # unlike a rename, it never overwrites
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if os.path.lexists(aside):
                continue
            return path.rename(aside)
        path.unlink()
        return aside
    return None


def _begins_with(path: Path, beginning: bytes) -> bool:
    flags = os.O_RDONLY | _NONBLOCK | _NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return is_regular and file.read(len(beginning)) == beginning
    except OSError:
        return False
