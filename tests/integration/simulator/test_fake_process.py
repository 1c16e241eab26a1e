# SPDX-License-Identifier: Apache-2.0
"""The process that stands in for the server: it looks right, obeys, and leaves nobody behind."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.simulator.fake_process import PADDING, READY, padded_command_line
from ollama_exporter.simulator.process_manager import runner_command
from tests.support.patience import PATIENCE
from tests.support.process import children

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="it is for Linux only")
COMMAND: Final = [sys.executable, "-m", "ollama_exporter.simulator.fake_process", "x" * PADDING]
WEIGHTS: Final = f"sha256-{'a' * 64}"


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, condition
        time.sleep(0.01)
    return found


def looks_like(pid: int) -> list[str]:
    line = Path(f"/proc/{pid}/cmdline").read_bytes()
    return line.rstrip(b"\0").decode().split("\0")


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == READY
            yield process
        finally:
            process.terminate()


def order(server: subprocess.Popen[str], **what: object) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps(what) + "\n")
    server.stdin.flush()


@pytest.mark.parametrize("generation", ["new", "old"])
def test_it_and_its_runners_look_like_the_real_ones(
    server: subprocess.Popen[str], generation: Any
) -> None:
    assert looks_like(server.pid) == ["/usr/local/bin/ollama", "serve"]
    command = runner_command(generation, WEIGHTS, 40001)
    order(server, start="1", command=command)
    (child,) = until(lambda: children(server.pid))
    until(lambda: looks_like(child) == command)
    name = Path(command[0]).name
    until(lambda: Path(f"/proc/{child}/comm").read_text("ascii").strip() == name)
    assert os.listdir(f"/proc/{child}/fd") == []  # noqa: PTH208 - none of its server's
    order(server, end="1")
    until(lambda: not children(server.pid))


def test_one_that_dies_by_itself_is_taken_note_of_at_once(server: subprocess.Popen[str]) -> None:
    order(server, start="1", command=runner_command("new", WEIGHTS, 1))
    (child,) = until(lambda: children(server.pid))
    os.kill(child, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{child}").exists())  # no zombie
    order(server, end="1")
    order(server, start="2", command=runner_command("new", WEIGHTS, 2))
    until(lambda: children(server.pid))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "end of input"])
def test_its_runners_end_with_it(server: subprocess.Popen[str], how: str) -> None:
    for number in range(3):
        order(server, start=str(number), command=runner_command("new", WEIGHTS, number))
    until(lambda: len(children(server.pid)) == 3)
    runners = children(server.pid)
    until(lambda: all("llama-server" in looks_like(pid)[0] for pid in runners))
    if how == "end of input":
        assert server.stdin is not None
        server.stdin.close()
    else:
        server.send_signal(getattr(signal, how))
    assert server.wait(PATIENCE) == (-9 if how == "SIGKILL" else 0)
    until(lambda: not any(map(alive, runners)))


def alive(pid: int) -> bool:
    """Return whether it lives. In a container without init, orphans stay zombies."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_command_line_that_is_too_long_is_cut_and_ends_with_a_nul() -> None:
    assert padded_command_line(["abc", "d"], 10) == b"abc\0d\0\0\0\0\0"
    assert padded_command_line(["abcdefghijkl"], 6) == b"abcde\0"
