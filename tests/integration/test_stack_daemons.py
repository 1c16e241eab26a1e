# SPDX-License-Identifier: Apache-2.0
"""The programs of `make stack` end with it, however it ends."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.exporting import until
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.programs import ending

DAEMON: Final = """
import http.server, os, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
host, port = sys.argv[-1].rpartition("=")[2].split(":")
open(sys.argv[1], "w").write(str(os.getpid()))
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""
STACK: Final = """
import asyncio, signal, sys
from pathlib import Path
from deploy.stack.daemons import running
async def main():
    command = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
    async with running(command, address=sys.argv[3], log=Path(sys.argv[2] + ".log")):
        print("ready", flush=True)
        await asyncio.sleep(3600)
# Whoever runs the tests in the background of a script has SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the children of the killed")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_daemon_ends_with_the_stack(tmp_path: Path, number: signal.Signals) -> None:
    written = tmp_path / "pid"
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", STACK, DAEMON, str(written), address]
    popen = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    with ending(popen) as stack:
        assert stack.stdout is not None
        assert stack.stdout.readline() == "ready\n"
        pid = int(written.read_text("ascii"))
        stack.send_signal(number)
        stack.wait(PATIENCE)
    asyncio.run(until(lambda: not _is_running(pid)))


def _is_running(pid: int) -> bool:
    """Return whether a process runs; one that nothing reaps has ended as well."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
