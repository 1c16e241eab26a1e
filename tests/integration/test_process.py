# SPDX-License-Identifier: Apache-2.0
"""The exporter as a process: signals, what it refuses to start with, state file, reload."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from ollama_exporter.state_file import OURS
from tests.support.exporting import same_logger
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE

PROGRAM: Final = [sys.executable, "-m", "ollama_exporter"]
SMALL_FILES: Final = 8  # bytes: no state fits


@dataclass(slots=True)
class Process:
    """A running exporter and what it wrote to stderr so far."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    address: str = ""

    def read(self) -> None:
        """Collect its log until it ends."""
        assert self.popen.stderr is not None
        self.lines.extend(line.rstrip("\n") for line in self.popen.stderr)

    def await_line(self, text: str) -> str:
        """Wait for a log line with this text."""
        end = time.monotonic() + PATIENCE
        while True:
            for line in list(self.lines):
                if text in line:
                    return line
            assert time.monotonic() < end, (text, self.lines)
            assert self.popen.poll() is None, self.lines
            time.sleep(0.01)

    def ask(self, path: str, *, method: str = "GET") -> tuple[int, str]:
        """Return status and body."""
        request = urllib.request.Request(f"http://{self.address}{path}", method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as err:
            with err:
                return err.code, err.read().decode()

    def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)


@contextmanager
def exporter(
    *options: str, preexec: Callable[[], None] | None = None, **environment: str
) -> Iterator[Process]:
    """Run one that serves, on a free port; nobody answers where it polls."""
    command = [
        *PROGRAM,
        "--web.listen-address=127.0.0.1:0",
        f"--ollama.url=127.0.0.1:{closed_port()}",
        *options,
    ]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=preexec,  # noqa: PLW1509 - sets a limit and nothing else
    ) as popen:
        process = Process(popen)
        reader = threading.Thread(target=process.read)
        reader.start()
        try:
            process.address = process.await_line("Listening on").rpartition("address=")[2]
            yield process
            popen.terminate()  # in order, or what coverage saw of it is lost
            popen.wait(PATIENCE)
        finally:
            popen.kill()
            reader.join(PATIENCE)


def refused(*options: str, **environment: str) -> tuple[int, str]:
    """Return exit code and the line of one that cannot start, in this process."""
    with same_logger():
        result = CliRunner(env=environment).invoke(cli, list(options))
    lines = result.output.splitlines()
    assert "Traceback" not in result.output
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:]
    return result.exit_code, lines[-1]


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_the_state_written(
    number: signal.Signals, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    with exporter(f"--state.file={state}") as process:
        process.await_line("Server does not answer")
        assert process.end(number) == 0
    saved = json.loads(state.read_text())
    assert saved["version"] == 1
    assert saved["state"]["lives"] == []
    assert state.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert "Traceback" not in "\n".join(process.lines)


def test_the_first_lines_name_version_and_address() -> None:
    with exporter() as process:
        process.await_line("Server does not answer")
        first, second, third = process.lines[:3]
    assert 'msg="Starting ollama_exporter" version=' in first
    assert f'msg="Listening on" address={process.address}' in second
    assert "reason=refused" in third


def test_a_second_signal_ends_it_at_once() -> None:
    with exporter() as process:
        process.popen.send_signal(signal.SIGSTOP)  # both are pending when it goes on
        process.popen.send_signal(signal.SIGTERM)
        process.popen.send_signal(signal.SIGINT)
        process.popen.send_signal(signal.SIGCONT)
        assert process.popen.wait(PATIENCE) == 1  # an end in order is a 0
    assert "Traceback" not in "\n".join(process.lines)


# -- what it does not start with -------------------------------------------------------------------


def test_a_port_in_use_is_one_line_and_exit_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*PROGRAM, f"--web.listen-address={address}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    why = "Address already in use"
    assert done.stderr == f"Error: web.listen-address: cannot listen on '{address}': {why}\n"


@pytest.mark.parametrize(
    ("flag", "value", "accepted"),
    [
        ("ollama.url", "ftp://host", "must be HOST, HOST:PORT, http://HOST"),
        ("ollama.url", "host:99999", "a port is 1 to 65535"),
        ("ollama.url", "http://[::1", "must be HOST"),
        ("ollama.url", " ", "must be a text"),
        ("ollama.timeout", "soon", "must be a positive duration such as 15s"),
        ("ollama.timeout", "0", "must be a positive duration"),
        ("poll.interval", "-1s", "must be a positive duration"),
        ("poll.interval", "500ms", "must be 1s or more"),
        ("web.listen-address", "11487", "must be HOST:PORT, :PORT or [IPv6]:PORT"),
        ("web.listen-address", "::1:80", "must be HOST:PORT, :PORT or [IPv6]:PORT"),
        ("web.listen-address", ":99999", "must be HOST:PORT"),
        ("web.telemetry-path", "metrics", "must be a path that begins with a slash"),
        ("web.telemetry-path", "/", "must be a path that begins with a slash"),
        ("web.telemetry-path", "/-/ready", "must be a path that begins with a slash"),
        ("web.telemetry-path", "/events", "must be a path that begins with a slash"),
        ("web.telemetry-path", "/sd", "must be a path that begins with a slash, not one of"),
        ("web.max-requests", "0", "must be a whole number from 1"),
        ("web.max-requests", "many", "must be a whole number from 1"),
        ("metrics.max-models", "1.5", "must be a whole number from 1"),
        ("log.level", "loud", "must be debug, info, warn or error"),
        ("log.format", "xml", "must be logfmt or json"),
        ("ollama.ca-file", "/nowhere/ca.pem", "must be a readable file of PEM certificates"),
        ("ollama.token-file", "/nowhere/token", "must be a readable file with a token"),
        ("state.file", "/nowhere/state", "must be a file in a folder that exists"),
    ],
)
def test_a_bad_flag_is_one_line_that_names_field_value_and_form_and_exit_2(
    flag: str, value: str, accepted: str
) -> None:
    code, line = refused("--web.listen-address=127.0.0.1:0", f"--{flag}={value}")
    assert code == 2
    assert flag in line
    assert value in line
    assert accepted in line


def test_a_missing_configuration_file_is_named_and_exit_2() -> None:
    code, line = refused("--config.file=/nowhere/config.yml")
    assert (code, line) == (2, "Error: /nowhere/config.yml: no such file or directory")


def test_user_info_is_masked_and_exit_2() -> None:
    code, line = refused("--ollama.url=https://ops:hunter2@host")
    assert code == 2
    assert "hunter2" not in line
    assert "ollama.url: must be HOST" in line
    assert ", not ***@host; no user" in line


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("ollama.url", "https://ops:hunter2%40host"),
        ("ollama.url", "http://ops:hunter2%40host:11434"),
        ("ollama.url", "ops:hunter2@host"),
        ("ollama.url", "http://ops:hunter2/x@host"),
        ("ollama.url", "hunter2@host"),
        ("ollama.url", "ftp://ops:hunter2@host"),
        ("web.listen-address", "ops:hunter2@"),
        ("web.listen-address", "ops:hunter2@127.0.0.1:1"),
        ("web.listen-address", "hunter2@127.0.0.1:1"),
        ("proxy.listen-address", "hunter2%40127.0.0.1:1"),
        ("poll.interval", "http://ops:hunter2%40host"),
    ],
)
def test_no_spelling_of_user_info_is_shown(flag: str, value: str) -> None:
    code, line = refused("--web.listen-address=127.0.0.1:0", f"--{flag}={value}")
    assert code == 2
    assert "hunter2" not in line
    assert "***@" in line


@pytest.mark.parametrize("flag", ["--nonsense", "--poll.intervals=3s"])
def test_an_unknown_flag_is_named_and_exit_2(flag: str) -> None:
    code, line = refused(flag)
    assert code == 2
    assert flag.partition("=")[0] in line


def test_a_bad_variable_is_refused_like_a_flag() -> None:
    for variable, value in [("OLLAMA_EXPORTER_POLL_INTERVAL", "x"), ("OLLAMA_HOST", "ftp://x")]:
        code, line = refused("--web.listen-address=127.0.0.1:0", **{variable: value})
        assert code == 2
        assert f", not {value}" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("poll.intervals: 3s", "unknown key 'poll.intervals'; did you mean poll.interval?"),
        ("zzz: 1", "unknown key 'zzz'; docs/configuration.md"),
        ("poll.interval: soon", "poll.interval: must be a positive duration such as 15s"),
        ("poll.interval: [", "line 1: expected the node content"),
        ("- 1", "not a YAML mapping"),
        ("web.enable-lifecycle: 5", "web.enable-lifecycle: must be true or false, not 5"),
        ("expected-model: {a: 1}", "expected-model: must be a list of texts, not {a: 1}"),
        ("web.listen-address: []", "web.listen-address: must be at least one HOST:PORT, not []"),
        ("ollama.url: 5", "ollama.url: must be a text, not 5"),
    ],
)
def test_a_bad_key_of_the_configuration_file_is_refused(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yml"
    file.write_text(text)
    code, line = refused(f"--config.file={file}")
    assert code == 2
    assert said in line


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\xff\xfe"])
def test_a_bad_token_is_refused_and_not_shown(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    code, line = refused("--web.listen-address=127.0.0.1:0", f"--ollama.token-file={file}")
    assert code == 2
    assert str(file) in line


def test_a_state_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    code, line = refused("--web.listen-address=127.0.0.1:0", f"--state.file={tmp_path}")
    assert code == 2
    assert "state.file" in line


# -- state file ------------------------------------------------------------------------------------


def test_a_damaged_state_file_is_set_aside_with_a_warning(tmp_path: Path) -> None:
    content = OURS + b' "version": ' + b"[" * 100_000
    state = tmp_path / "state.json"
    state.write_bytes(content)
    with exporter(f"--state.file={state}", "--ollama.url=127.0.0.1:1") as process:
        line = process.await_line("State file set aside")
        assert "level=warn" in line
        assert str(state) in line
        process.await_line("Server does not answer")
        assert process.ask("/-/ready")[0] == 200
        assert process.end(signal.SIGTERM) == 0
    assert (tmp_path / "state.json.bad").read_bytes() == content
    assert json.loads(state.read_text())["version"] == 1


def test_a_file_of_another_program_is_refused_as_state_file(tmp_path: Path) -> None:
    file = tmp_path / "precious.db"
    file.write_bytes(b"SQLite format 3\0")
    code, line = refused(f"--state.file={file}", "--web.listen-address=127.0.0.1:0")
    assert (code, "no exporter wrote it" in line) == (2, True)
    assert [each.name for each in tmp_path.iterdir()] == ["precious.db"]


def small_files_only() -> None:
    """Let no file grow beyond a few bytes, as on a full disk; EFBIG instead of SIGXFSZ."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES))


def test_a_full_disk_is_logged_and_leaves_the_old_state_and_no_rubbish(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with exporter(f"--state.file={state}", preexec=small_files_only) as process:
        process.await_line("Server does not answer")
        assert process.end(signal.SIGTERM) == 0
    lines = [line for line in process.lines if "State file cannot be written" in line]
    assert len(lines) == 1
    assert "level=error" in lines[0]
    assert list(tmp_path.iterdir()) == []


# -- reload ----------------------------------------------------------------------------------------


def reload_successful(process: Process) -> float:
    _, text = process.ask("/metrics")
    found = re.search(r"^ollama_exporter_config_last_reload_successful (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_sighup_takes_a_good_file_and_keeps_the_old_one_for_a_bad_one(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("log.level: info\n")
    with exporter(f"--config.file={file}") as process:
        assert reload_successful(process) == 1
        for bad in ("log.level: loud\n", "state.file: /elsewhere\n", "{"):
            file.write_text(bad)
            process.lines.clear()
            process.popen.send_signal(signal.SIGHUP)
            assert "level=warn" in process.await_line("Reload failed")
            assert reload_successful(process) == 0
        file.write_text("log.level: info\nlog.format: json\n")
        process.popen.send_signal(signal.SIGHUP)
        line = process.await_line("Configuration reloaded")
        assert json.loads(line)["msg"] == "Configuration reloaded"
        assert reload_successful(process) == 1
        assert process.end(signal.SIGTERM) == 0


def test_reload_over_http_is_forbidden_unless_allowed() -> None:
    with exporter() as process:
        code, text = process.ask("/-/reload", method="POST")
        assert code == 403
        assert "--web.enable-lifecycle" in text
        assert process.ask("/-/reload")[0] == 405


def test_reload_over_http_says_what_is_wrong_and_keeps_the_old_configuration(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yml"
    file.write_text("web.enable-lifecycle: true\n")
    with exporter(f"--config.file={file}") as process:
        assert process.ask("/-/reload", method="POST") == (200, "Reloaded.\n")
        file.write_text("web.enable-lifecycle: true\npoll.interval: never\n")
        code, text = process.ask("/-/reload", method="POST")
        assert code == 500
        assert "poll.interval: must be a positive duration" in text
        assert reload_successful(process) == 0
        file.write_text("web.enable-lifecycle: false\n")
        assert process.ask("/-/reload", method="POST")[0] == 200
        assert process.ask("/-/reload", method="POST")[0] == 403
