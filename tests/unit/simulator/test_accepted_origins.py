# SPDX-License-Identifier: Apache-2.0
"""Which pages and which Host headers the simulated server answers."""

import pytest

from ollama_exporter.simulator.cors import is_allowed
from ollama_exporter.simulator.host_check import is_accepted


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("", True),
        ("http://localhost:3000", True),
        ("https://127.0.0.1", True),
        ("http://box.local:11434", True),  # a page of the server itself
        ("http://box.local", False),
        ("app://obsidian.md", True),
        ("ftp://localhost", False),
        ("http://elsewhere.example", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_a_page_s_origin(origin: str, *, allowed: bool) -> None:
    assert is_allowed(origin, host="box.local:11434") is allowed


@pytest.mark.parametrize(
    ("authority", "accepted"),
    [
        ("", True),
        ("localhost:11434", True),
        ("[::1]", True),
        ("[::1]:11434", True),
        ("10.1.2.3", True),
        ("0.0.0.0:1", True),
        ("box.internal", True),
        ("8.8.8.8", False),
        ("elsewhere.example:80", False),
    ],
)
def test_a_host_header_on_loopback(authority: str, *, accepted: bool) -> None:
    assert is_accepted("127.0.0.1", authority) is accepted
    assert is_accepted("0.0.0.0", authority)  # noqa: S104 - the address under test
