# SPDX-License-Identifier: Apache-2.0
"""Answers that a gateway compressed although nobody had asked for that."""

import zlib
from typing import Final

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.foreign_text import clean

PLAIN: Final = frozenset({"", "identity"})
READABLE: Final = frozenset({"gzip", "x-gzip", "deflate"})
EITHER: Final = 32 + zlib.MAX_WBITS  # the header tells gzip from zlib
BARE: Final = -zlib.MAX_WBITS  # some servers send `deflate` without zlib's header
LONGEST_NAME: Final = 40


def decompressed(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Return a body of at most `limit` bytes as it was before its encoding.

    Raises TargetError(malformed).
    """
    name = encoding.strip().lower()
    if name in PLAIN:
        return body
    shown = clean(name, limit=LONGEST_NAME)
    if name not in READABLE:
        why = f"the answer is compressed ({shown}), which nobody has asked for"
        raise TargetError(FailureReason.MALFORMED, why)
    is_bare = name == "deflate" and (len(body) < 2 or int.from_bytes(body[:2]) % 31 != 0)  # noqa: PLR2004 - RFC 1950 2.2
    inflater = zlib.decompressobj(BARE if is_bare else EITHER)
    try:
        found = inflater.decompress(body, limit + 1)
    except zlib.error as err:
        why = f"the answer cannot be decompressed ({shown}: {err})"
        raise TargetError(FailureReason.MALFORMED, why) from err
    if len(found) > limit:
        raise TargetError(FailureReason.MALFORMED, f"answer is larger than {limit >> 10} KiB")
    if not inflater.eof:
        raise TargetError(FailureReason.MALFORMED, f"the compressed answer ({shown}) is cut short")
    return found
