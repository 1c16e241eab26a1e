# SPDX-License-Identifier: Apache-2.0
"""An exporter with a proxy as a process of its own, the memory it takes, and children of others."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMAND: Final = [sys.executable, "-m", "ollama_exporter"]
LISTENING: Final = 'msg="Proxy listening on" address='


def children(pid: int) -> list[int]:
    """Return the children of a process of one thread."""
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A running one."""

    port: int
    popen: subprocess.Popen[str]

    def resident(self) -> int:
        """Return the memory it has now, bytes."""
        return self._status("VmRSS")

    def most_resident(self) -> int:
        """Return the most memory it ever had, bytes."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.popen.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, status
        return int(found[1]) << 10


@contextmanager
def proxy_process(url: str, *options: str) -> Iterator[ProxyProcess]:
    """Run one in front of `url`."""
    command = [
        *COMMAND,
        "--web.listen-address=127.0.0.1:0",
        "--proxy.listen-address=127.0.0.1:0",
        f"--ollama.url={url}",
        *options,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as popen:
        try:
            assert popen.stderr is not None
            lines = []
            for line in popen.stderr:
                lines.append(line)
                if LISTENING in line:
                    yield ProxyProcess(int(line.rpartition(":")[2]), popen)
                    return
            raise AssertionError(lines)
        finally:
            popen.terminate()
            popen.communicate()
