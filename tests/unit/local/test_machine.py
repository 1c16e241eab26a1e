# SPDX-License-Identifier: Apache-2.0
"""What is looked at, by the settings."""

import platform

import pytest

from ollama_exporter.local.machine import place, reader, why_not
from ollama_exporter.local.search import Place
from ollama_exporter.settings import Settings


@pytest.mark.parametrize(
    ("url", "switch", "why"),
    [
        ("http://127.0.0.1:11434", "auto", ""),
        ("http://localhost:11434", "auto", ""),
        ("http://[::1]:11434", "auto", ""),
        ("http://gpu-box:11434", "auto", "not on loopback"),
        ("http://gpu-box:11434", "on", ""),
        ("http://127.0.0.1:11434", "off", "--collector.processes=off"),
    ],
)
def test_whether_processes_are_watched(url: str, switch: str, why: str) -> None:
    said = why_not(Settings(ollama_url=url, collector_processes=switch))
    assert why in said
    assert bool(said) == bool(why)


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("http://127.0.0.1:11434", Place("127.0.0.1", 11434)),
        ("http://[::1]:1", Place("::1", 1)),
        ("https://localhost", Place("localhost", 443)),
        ("http://localhost:5/path", Place("localhost", 5)),
    ],
)
def test_where_the_polls_go(url: str, there: Place) -> None:
    assert place(Settings(ollama_url=url)) == there


def test_who_says_on_insists() -> None:
    assert place(Settings(collector_processes="on")).insist


def test_linux_is_read_by_files() -> None:
    assert reader(lambda: 0.0, lambda at: at).slow == (platform.system() != "Linux")
