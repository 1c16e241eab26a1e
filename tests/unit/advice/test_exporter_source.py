# SPDX-License-Identifier: Apache-2.0
"""Expositions are read in linear time, whatever their bytes."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from ollama_exporter.advice.exporter_source import from_text
from ollama_exporter.errors import HistoryError
from tests.support.growth import assert_linear

NAME = b"ollama_model_memory_bytes"


@pytest.mark.parametrize(
    "make",
    [
        lambda size: NAME + b"{" + b'a="b",' * (size // 6) + b"} 1\n",
        lambda size: NAME + b'{model="' + b'\\"' * (size // 2) + b'"} 1\n',
        lambda size: (NAME + b'{model="m:latest"} 1\n') * (size // 48),
        lambda size: NAME + b"{" * size,
        lambda size: b"a" * size,
        lambda size: b"\n" * size,
        lambda size: NAME + b" " + b"9" * size,
    ],
)
def test_an_exposition_is_read_in_linear_time(make: Callable[[int], bytes]) -> None:
    def work(body: bytes) -> None:
        with suppress(HistoryError):
            from_text("ollama_up 1\n" + body.decode(), source="here", now=0.0)

    assert_linear(work, make)
