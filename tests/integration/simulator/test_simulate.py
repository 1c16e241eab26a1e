# SPDX-License-Identifier: Apache-2.0
"""`simulate` as a process."""

import json
import platform
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from ollama_exporter.cli.simulate import keep_alive_seconds, listen_address, memory_size
from ollama_exporter.errors import ConfigError
from ollama_exporter.simulator.state import NEVER
from tests.support.patience import PATIENCE
from tests.support.programs import ending

COMMAND = [sys.executable, "-m", "ollama_exporter", "simulate", "--listen", "127.0.0.1:0"]


@contextmanager
def simulate(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            told = "".join(iter(process.stdout.readline, "Press Ctrl-C to stop.\n"))
            assert ("/_simulator/fault" in told) == ("--faults" in options)
            yield process, first.split()[-1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_word_on_stderr(number: signal.Signals) -> None:
    with simulate("--workload", "demo", "--faults") as (process, url):
        answer = urllib.request.urlopen(f"{url}/api/version", timeout=PATIENCE).read()  # noqa: S310 - ours
        assert json.loads(answer) == {"version": "0.33.0"}
        assert process.stdout is not None
        assert re.match(r" +\d+\.\ds  \S", process.stdout.readline())  # a step of the workload
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert err == ""


@pytest.mark.parametrize("path", ["/api/%76ersion", "/%61pi/version?x=%2F", "/api%2Fversion"])
def test_a_percent_encoded_path_is_the_path_that_it_stands_for(path: str) -> None:
    with simulate() as (_, url):
        answer = urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE).read()  # noqa: S310 - ours
        assert json.loads(answer) == {"version": "0.33.0"}


def test_a_port_in_use_is_one_line_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(cli, ["simulate", "--listen", f"127.0.0.1:{port}"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--listen", "host:port"],
        ["--listen", "not-an-address:1"],
        ["--listen", "127.0.0.1:1/path"],
        ["--memory", "much"],
        ["--memory", "0"],
        ["--keep-alive", "5 minutes"],
    ],
)
def test_a_bad_option_is_a_usage_error(options: list[str]) -> None:
    result = CliRunner().invoke(cli, ["simulate", *options])
    assert result.exit_code == 2
    assert f"{options[0]}: must be " in result.output


def test_options_are_read() -> None:
    assert listen_address("localhost") == ("127.0.0.1", 11434)
    assert listen_address(":8080") == ("127.0.0.1", 8080)
    assert listen_address("[::1]:0") == ("::1", 0)
    assert memory_size("8") == memory_size("8GiB") == memory_size("8192 MiB") == 8 << 30
    assert keep_alive_seconds("5m") == keep_alive_seconds("300") == 300
    assert keep_alive_seconds("-1") == NEVER
    with pytest.raises(ConfigError):
        keep_alive_seconds("soon")


@pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
@pytest.mark.parametrize("generation", ["new", "old"])
def test_an_exporter_sees_the_processes_of_a_simulator(generation: str) -> None:
    exporter = [
        *(sys.executable, "-m", "ollama_exporter", "serve"),
        "--web.listen-address=127.0.0.1:0",
    ]
    with (
        simulate("--processes", "--generation", generation) as (simulator, url),
        ending(
            subprocess.Popen([*exporter, f"--ollama.url={url}"], stderr=subprocess.PIPE, text=True)
        ) as process,
    ):
        assert process.stderr is not None
        said = next(line for line in process.stderr if "atching processes" in line)
        process.terminate()
        process.communicate(timeout=PATIENCE)
        simulator.terminate()
        assert simulator.wait(PATIENCE) == 0
    assert 'msg="Watching processes"' in said
    pid = int(said.rpartition("pid=")[2])
    assert pid != simulator.pid
    assert not Path(f"/proc/{pid}").exists()
