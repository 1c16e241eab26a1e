# SPDX-License-Identifier: Apache-2.0
"""The demonstration as a process, as a newcomer runs it."""

import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.patience import PATIENCE
from tests.support.programs import check_metrics

COMMAND: Final = [sys.executable, "-m", "ollama_exporter", "demo"]
URL: Final = re.compile(r"http://127\.0\.0\.1:\d+/metrics")
STARVED: Final = 10.0  # seconds: loads are drawn out until the next step comes
UNLOADED: Final = re.compile(r"unloaded +(\S+): (\w+)")


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a demonstration; whatever happens, it is gone afterwards."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def lines_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what it prints up to the line that matches."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(f"no line matches {pattern!r}:\n{read}")


def scrape(text: str) -> str:
    """Ask the URL that the demonstration told for its metrics."""
    found = URL.search(text)
    assert found is not None, text
    with urllib.request.urlopen(found[0], timeout=PATIENCE) as answer:  # noqa: S310 - http by the pattern
        return str(answer.read().decode())


def test_it_ends_by_itself_and_sums_up() -> None:
    with running("--duration", "10") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err == ""
    assert re.search(r"client +llama3\.2: cold", out)
    when = r"(between 0:0\d\.\d and|at) 0:0\d\.\d"
    assert re.search(rf"loaded +llama3\.2:latest, \d\.\d GiB, {when}", out)
    assert re.search(r"llama3\.2:latest +yes +\d+ s +\d\.\d GiB +(\d/1( +\d+%)?)? +1", out)
    assert "The reasons, compared with" in out
    assert "This was too short to advise a keep_alive." in out  # it rests on a handful of pauses
    assert out.endswith("http://127.0.0.1:11487/ in a browser.\n")  # what to do next
    assert "client_gone" not in out.rpartition("compared with")[2]  # its end is no failure
    assert max(map(len, out.splitlines())) <= 80


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    with running() as process:
        seen = lines_until(process, r"client +llama")
        assert "ollama_up 1" in scrape(seen)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert err == ""
    assert "nothing yet\n" in out


def test_in_a_terminal_the_table_is_drawn_below_the_lines() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        [*COMMAND, "--duration", "4"], stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    ) as process:
        try:
            os.close(theirs)
            shown = b""
            with suppress(OSError):  # how Linux says that the other side was closed
                while data := os.read(ours, 65536):
                    shown += data
            os.close(ours)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    text = shown.decode()
    assert text.count("waiting for a reason") >= 2  # drawn again
    assert not re.search(r"\x1b\[[\d;]*3\dm", text)  # no colour
    assert "Traceback" not in text


def waited_for_a_core(process: subprocess.Popen[str]) -> float:
    """Return how long it was ready to run and had no core, in seconds."""
    fields = Path(f"/proc/{process.pid}/schedstat").read_text(encoding="ascii").split()
    return int(fields[1]) / 1e9


@pytest.mark.slow(seconds=124)
def test_two_minutes_show_every_reason() -> None:
    with running("--duration", "124") as process:
        seen = lines_until(process, "the next answer of llama3.2 finds no memory")
        waited = waited_for_a_core(process)
        metrics = ""
        if waited < STARVED:
            seen += lines_until(process, "out_of_memory")
            metrics = scrape(seen)
        out, err = process.communicate(timeout=PATIENCE)
    told = UNLOADED.findall(seen + out)
    assert process.returncode == 0, err
    assert err == ""
    assert told
    if waited >= STARVED:
        pytest.skip(f"it waited {waited:.0f} s for a core, so its steps ran into each other")
    assert {reason for _, reason in told} == {
        "expired",
        "stopped",
        "evicted",
        "options_changed",
        "server_restarted",
        "crashed",
        "out_of_memory",
    }, seen + out
    # On a busy machine each takes longer, and something may be left over.
    assert re.search(r"\n  cold +\d+\.\d s \|L+P*A+·*\|  load \d+\.\d, answer \d+\.\d", out), out
    assert re.search(r"\n  warm +\d+\.\d s \|L*P*A+·*\| .*answer \d+\.\d", out), out
    assert "wrong:" not in out, seen + out
    for model, reason in set(UNLOADED.findall(seen)):
        counted = f'ollama_model_unloads_total{{model="{model}",reason="{reason}"}} 1.0'
        assert counted in metrics
    assert check_metrics(metrics) == []
