# SPDX-License-Identifier: Apache-2.0
"""Bytes that a server repeats are decoded once; what cannot be read is reported each time."""

import json

import pytest

from ollama_exporter.errors import TargetError
from ollama_exporter.protocol.last_listing import MOST_KEPT, LastListing
from ollama_exporter.protocol.wire import decode_ps

ENTRY = {"name": "a", "model": "a", "expires_at": "2026-11-22T10:38:31Z", "size": 1}


def listing(*entries: object) -> bytes:
    return json.dumps({"models": entries}).encode()


def test_repeated_bytes_are_the_same_models() -> None:
    last, first, other = LastListing(), listing(ENTRY), listing(ENTRY | {"size": 2})
    models = last.decode(first)
    assert models == decode_ps(first)
    assert last.decode(bytes(bytearray(first))) is models
    assert last.decode(other) == decode_ps(other)
    assert last.decode(first) == models
    assert last.decode(listing()) == ()


def test_what_cannot_be_read_counts_at_each_poll() -> None:
    reported: list[str] = []
    last = LastListing(lambda path, _fields: reported.append(path))
    odd = listing(ENTRY | {"size": "many"})
    for _ in range(3):
        assert last.decode(odd) == decode_ps(odd)
    assert reported == ["/api/ps"] * 3


def test_nothing_is_kept_of_an_error_or_of_a_huge_listing() -> None:
    last, good = LastListing(), listing(ENTRY)
    models = last.decode(good)
    for _ in range(2):
        with pytest.raises(TargetError):
            last.decode(b"{")
    assert last.decode(good) == models
    huge = listing(ENTRY) + b" " * MOST_KEPT
    assert last.decode(huge) is not last.decode(huge)
