# SPDX-License-Identifier: Apache-2.0
"""Lists what a reader of /proc opens. `python -m tests.support.opened_files ROOT LOOK [PID]`.

A process of its own, because an audit hook cannot be removed. In the test process it would also
run at each `sys.settrace`, where a switch of threads makes the interpreter refuse the next one.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from ollama_exporter.host.processes.procfs import ProcFs
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE


def opened_files(root: Path, look: str, pid: int) -> tuple[list[int], list[str]]:
    """Return what was found (process IDs) and the paths that were opened or listed for it.

    `look`: `children`, or `everything` that the reader knows to ask.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(root), look, str(pid)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    found, paths = json.loads(done.stdout)
    return found, paths


def _look(reader: ProcFs, look: str, pid: int) -> list[int]:
    children = sorted(reader.children(pid) or ())
    if look == "everything":
        for server in reader.servers():
            reader.usage(server)
        reader.is_listening(pid, "127.0.0.1", 11434)
        for child in children:
            seen = reader.process(child)
            if seen is not None:
                reader.usage(seen)
        reader.why_hidden()
    return children


def _main(root: str, look: str, pid: str) -> None:
    paths: list[str] = []
    reader = ProcFs(time.time, root=root)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir"):
            paths.append(str(arguments[0]))

    sys.addaudithook(note)
    found = _look(reader, look, int(pid))
    below = [path for path in paths if path.startswith(root)]
    sys.stdout.write(json.dumps([found, below]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
