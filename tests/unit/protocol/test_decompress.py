# SPDX-License-Identifier: Apache-2.0
"""What is no compressed answer, or one of an encoding that nobody asked for."""

import gzip

import pytest

from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.decompress import decompressed

WHOLE_OF_2_KIB = gzip.compress(b"x" * 2048, mtime=0)
WHOLE = gzip.compress(b"x" * 100, mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (WHOLE, "br", "(br), which nobody has asked for"),
        (b"\x1f\x8b\x08" + b"\xff" * 40, "gzip", "cannot be decompressed (gzip: "),
        (WHOLE[:20], "gzip", "(gzip) is cut short"),
        (WHOLE_OF_2_KIB, "x-gzip", "answer is larger than 1 KiB"),
        (b"x", "deflate", "(deflate) is cut short"),
    ],
    ids=["unasked", "damaged", "cut", "large", "cut deflate"],
)
def test_it_is_malformed_and_says_why(body: bytes, encoding: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        decompressed(body, encoding, limit=1024)
    assert caught.value.reason is FailureReason.MALFORMED
    assert said in caught.value.detail
