# SPDX-License-Identifier: Apache-2.0
"""A proxy that may open few files: it says so, serves as many as it can, and recovers."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.patience import PATIENCE
from tests.support.process import LISTENING
from tests.support.rawserver import OK, answers, caller, rawserver

LIMIT: Final = 96  # open files
CLIENTS: Final = 150
START: Final = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
if {asyncio}:
    sys.modules["uvloop"] = None
runpy.run_module("ollama_exporter", run_name="__main__", alter_sys=True)
"""
ASK: Final = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Few:
    """An exporter with a proxy that may open few files."""

    def __init__(self, url: str, loop: str) -> None:
        script = START.format(asyncio=loop == "asyncio", soft=LIMIT // 2, hard=LIMIT)
        command = [
            *(sys.executable, "-c", script, f"--ollama.url={url}"),
            *("--web.listen-address=127.0.0.1:0", "--proxy.listen-address=127.0.0.1:0"),
        ]
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._log = ""

    def port(self) -> int:
        """Wait until it listens; return where."""
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self._log += line
            if LISTENING in line:
                return int(line.rpartition(":")[2])
        raise AssertionError(self._log)

    def stop(self) -> str:
        """End it; return its log."""
        self.popen.terminate()
        return self._log + self.popen.communicate(timeout=PATIENCE)[1]


@contextlib.contextmanager
def many(port: int) -> Iterator[list[socket.socket]]:
    """Connect as many clients, each with a request."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            with contextlib.suppress(OSError):
                client.sendall(ASK)
            clients.append(client)
        yield clients


async def _is_served(port: int) -> bool:
    """Return whether a request is answered; the proxy may still be closing older connections."""
    async with caller(port) as client:
        try:
            return (await client.ask(ASK)).status == 200
        except (AssertionError, OSError):  # the connection was closed or reset
            return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_more_clients_than_files_cost_some_lines_and_no_outage(loop: str) -> None:
    async def check() -> None:
        async with rawserver(answers(OK)) as server:
            few = Few(server.url, loop)
            try:
                port = await asyncio.to_thread(few.port)
                with many(port) as clients:
                    first = clients[0]
                    first.setblocking(False)  # noqa: FBT003 - the standard library's
                    answer = await asyncio.get_running_loop().sock_recv(first, 4096)
                    # served, unless all connections were accepted before its own was made
                    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
                    await asyncio.sleep(1.5)  # asyncio tries to accept again after a second
                async with asyncio.timeout(PATIENCE):
                    while True:  # the clients have left
                        if await _is_served(port):
                            break
                        await asyncio.sleep(0.05)
                log = await asyncio.to_thread(few.stop)
            finally:
                few.popen.kill()
            assert "raise LimitNOFILE" in log
            assert 1 <= log.count("Too many proxy connections") <= 3
            assert "Traceback" not in log, log
            assert len(log) < 6000, log

    asyncio.run(check())
