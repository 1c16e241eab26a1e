# SPDX-License-Identifier: Apache-2.0
"""What other programs write is read in linear time: log lines, command lines, socket tables."""

from pathlib import Path

import pytest

from ollama_exporter.host.log.lines import LineSplitter
from ollama_exporter.host.log.patterns import read
from ollama_exporter.host.processes.command_lines import is_server, weights_in
from ollama_exporter.host.processes.listening_sockets import listeners
from ollama_exporter.host.processes.procfs import LONGEST_COMMAND, ProcFs
from tests.support.growth import assert_linear

SLOG = "time=2026-11-23T20:04:20.331Z level=ERROR source=x.go:1 msg="


@pytest.mark.parametrize("piece", [1000, 65536])
@pytest.mark.parametrize("unit", [b"x", b"\n", b"ab\n", b"\0"])
def test_lines_are_split_in_linear_time(unit: bytes, piece: int) -> None:
    def work(data: bytes) -> None:
        lines = LineSplitter(128 * 1024)
        for start in range(0, len(data), piece):
            for _ in lines.feed(data[start : start + piece]):
                pass

    assert_linear(work, lambda size: (unit * size)[:size])


@pytest.mark.parametrize("unit", ['"', '\\"', ' a="', "Listening on ", " pid=1", "EOF", "sha256-a"])
def test_log_lines_are_read_in_linear_time(unit: str) -> None:
    assert_linear(lambda data: read(data.decode()), lambda size: (SLOG + unit * size).encode())


@pytest.mark.parametrize("word", ["--model", "/", "\\", "sha256-" + "a" * 64, ""])
def test_command_lines_are_read_in_linear_time(word: str) -> None:
    def work(data: bytes) -> None:
        command = data.decode().split("\0")
        is_server(command)
        weights_in(command)

    assert_linear(work, lambda size: f"{word}\0".encode() * (size // (len(word) + 1)))


@pytest.mark.parametrize(
    "line", [b"\n", b"   0: 0100007F:2CAA 00000000:0000 0A 0:0 0:0 0 0 0 7 1\n", b" x"]
)
def test_tables_of_sockets_are_read_in_linear_time(line: bytes) -> None:
    assert_linear(lambda data: list(listeners(data)), lambda size: line * (size // len(line)))


def test_of_a_long_command_line_only_the_beginning_is_read(tmp_path: Path) -> None:
    process = tmp_path / "7"
    process.mkdir()
    (process / "cmdline").write_bytes(b"ollama\0serve\0" + b"x" * 2**22)
    stat = "7 (ollama) S 1 " + " ".join(["0"] * 49)
    (process / "stat").write_text(stat, encoding="ascii")
    seen = ProcFs(lambda: 0.0, root=str(tmp_path), since_boot=lambda: 0.0).process(7)
    assert seen is not None
    assert sum(map(len, seen.command)) <= LONGEST_COMMAND
