# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.host.log.lines import LineSplitter


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_lines_are_those_of_split_however_the_bytes_come(text: bytes, cuts: list[int]) -> None:
    lines, got, rest = LineSplitter(1000), list[bytes](), text
    for cut in cuts:
        got += lines.feed(rest[:cut])
        rest = rest[cut:]
    got += lines.feed(rest)
    assert got == text.split(b"\n")[:-1]


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_of_a_long_line_the_beginning_is_kept_and_never_more(text: bytes, cuts: list[int]) -> None:
    lines, got, rest = LineSplitter(7), list[bytes](), text
    for cut in cuts:
        got += lines.feed(rest[:cut])
        rest = rest[cut:]
    got += lines.feed(rest)
    assert got == [line[:7] for line in text.split(b"\n")[:-1]]


def test_what_is_not_complete_can_be_dropped() -> None:
    lines = LineSplitter(100)
    assert list(lines.feed(b"half")) == []
    lines.reset()
    assert list(lines.feed(b"whole\n")) == [b"whole"]
