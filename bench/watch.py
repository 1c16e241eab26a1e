# SPDX-License-Identifier: Apache-2.0
"""What the watcher of processes costs on an idle machine: CPU of a core, beside a loop that idles.

500 other processes, a server of 16 threads with three runners. Both are measured in turn, in CPU
time of this process, so that what else runs on the machine disturbs little.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from ollama_exporter.clock import Timeline
from ollama_exporter.host.processes.find_server import ServerAddress, ServerSearch
from ollama_exporter.host.processes.procfs import ProcFs
from ollama_exporter.host.processes.watcher import SCAN, ProcessWatcher
from ollama_exporter.reporter import Reporter
from ollama_exporter.simulator import fake_process
from ollama_exporter.simulator.process_manager import runner_command
from tests.support.machine import NoWeights

OTHERS: Final = 500
THREADS: Final = 16
RUNNERS: Final = 3
GOAL: Final = 0.2  # per cent of a core
SERVER: Final = f"""
import sys, threading
sys.path.insert(0, {str(Path(fake_process.__file__).parent)!r})
import fake_process
for _ in range({THREADS - 1}):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
fake_process.FakeProcess().run()
"""


@contextmanager
def machine(sock: socket.socket) -> Iterator[None]:
    """Fill the machine with processes."""
    with ExitStack() as stack:
        for _ in range(OTHERS):
            process = subprocess.Popen(["sleep", "600"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, "x" * fake_process.PADDING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[sock.fileno()],
            text=True,
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdout.readline()
        for number in range(RUNNERS):
            command = runner_command("new", f"sha256-{number:064x}", number + 1)
            words = ", ".join(f'"{word}"' for word in command)
            server.stdin.write(f'{{"start": "{number}", "command": [{words}]}}\n')
        server.stdin.flush()
        time.sleep(1.0)
        yield


async def idling(seconds: float) -> float:
    """Return the CPU seconds of a loop that wakes as often and does nothing."""
    begun = time.process_time()
    end = time.monotonic() + seconds
    while time.monotonic() < end:  # noqa: ASYNC110 - the waking is what is measured
        await asyncio.sleep(SCAN)
    return time.process_time() - begun


async def watching(seconds: float, port: int) -> float:
    """Return the CPU seconds of the watcher, once it has found the server."""
    timeline, told = Timeline(), list[object]()
    watcher = ProcessWatcher(
        ProcFs(timeline.now),
        ServerAddress("127.0.0.1", port),
        NoWeights(),
        reporter=Reporter(fact=told.append, error=lambda: print("internal error")),
        timeline=timeline,
        up=lambda: True,
    )
    task = asyncio.create_task(watcher.run())
    while len(told) < 2 + RUNNERS:  # noqa: ASYNC110 - a moment
        await asyncio.sleep(0.05)
    begun = time.process_time()
    await asyncio.sleep(seconds)
    spent = time.process_time() - begun
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return spent


async def searching(port: int) -> float:
    """Return the CPU seconds of one search for the server."""
    search = ServerSearch(ProcFs(time.time), ServerAddress("127.0.0.1", port))
    begun = time.process_time()
    for _ in range(10):
        await search.find(0.0, frozenset())
    return (time.process_time() - begun) / 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with closing(socket.create_server(("127.0.0.1", 0))) as sock, machine(sock):
        port = sock.getsockname()[1]
        shares, idle = [], []
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
            idle.append(100 * asyncio.run(idling(arguments.seconds)) / arguments.seconds)
            spent = asyncio.run(watching(arguments.seconds, port))
            shares.append(100 * spent / arguments.seconds)
        search = asyncio.run(searching(port))
    print(f"| {OTHERS} processes, a server of {THREADS} threads | watcher | idle loop | to reach |")
    print("|---|---|---|---|")
    print(
        f"| CPU of a core, % | {statistics.median(shares):.3f} ({min(shares):.3f} to "
        f"{max(shares):.3f}) | {statistics.median(idle):.3f} | < {GOAL} |"
    )
    print(f"| one search for the server, ms (then none while it lives) | {1000 * search:.1f} | | |")


if __name__ == "__main__":
    main()
