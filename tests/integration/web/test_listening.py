# SPDX-License-Identifier: Apache-2.0
"""Where the exporter listens: Unix sockets, and sockets that systemd hands over."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from ollama_exporter.errors import StartError
from ollama_exporter.net import inherited, listen
from tests.support.exporting import exporting
from tests.support.patience import PATIENCE

FIELD: Final = "web.listen-address"
NOBODY: Final = "http://127.0.0.1:9"
HAND_OVER: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_metrics_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"

    async def story() -> None:
        addresses = ("127.0.0.1:0", f"unix:{path}")
        async with exporting(NOBODY, listen_addresses=addresses) as exporter:
            said = [str(vars(x).get("address")) for x in exporter.log.records]
            assert f"unix:{path}" in said
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as client:
                answer = await client.get("http://localhost/metrics")
                assert "ollama_up 0.0" in answer.text
            arguments = ["healthcheck", f"--web.listen-address=unix:{path}"]
            checked = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
            assert (checked.exit_code, checked.output) == (0, "healthy\n")

    asyncio.run(story())


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "exporter.sock"
    for _ in range(2):
        (listening,) = listen([f"unix:{path}"], field=FIELD)
        listening.close()


def test_a_socket_in_use_and_a_file_are_left_alone(tmp_path: Path) -> None:
    path, file = tmp_path / "exporter.sock", tmp_path / "file"
    file.write_text("mine", "utf-8")
    (listening,) = listen([f"unix:{path}"], field=FIELD)
    with listening:
        for taken in (path, file):
            with pytest.raises(StartError, match="Address already in use"):
                listen([f"unix:{taken}"], field=FIELD)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert file.read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "one"},
    ],
)
def test_without_a_socket_of_systemd_it_does_not_start(environ: dict[str, str]) -> None:
    with pytest.raises(StartError, match=r"start the \.socket unit"):
        inherited(environ, os.getpid())


@pytest.mark.parametrize("watched", ["one server", "several"])
def test_metrics_on_the_socket_that_systemd_hands_over(watched: str, tmp_path: Path) -> None:
    what = f"--ollama.url={NOBODY}" if watched == "one server" else f"--targets-dir={tmp_path}"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        serve = ["-m", "ollama_exporter", "serve", what, "--web.systemd-socket"]
        hand_over = [sys.executable, "-c", HAND_OVER, str(number), sys.executable, *serve]
        with subprocess.Popen(hand_over, pass_fds=(number,), stderr=subprocess.DEVNULL) as process:
            try:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
                text = httpx.get(url, timeout=PATIENCE, trust_env=False).text
                assert "ollama_exporter_build_info" in text
                process.terminate()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
