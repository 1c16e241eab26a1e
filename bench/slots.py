# SPDX-License-Identifier: Apache-2.0
"""What looks at the slots of five runners cost: CPU of a core, beside a loop that idles.

The runners answer from another process, as large as real ones do: `params` of 1 KB in each slot.
Everything is measured in CPU time of this process, so that what else runs on the machine disturbs
little. `python -m bench.slots`
"""

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Final

from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.runner.look_schedule import LOOK_TIMES
from ollama_exporter.host.runner.slot_watcher import SlotWatcher
from ollama_exporter.simulator.process_manager import runner_command
from tests.support.paths import DATA

RUNNERS: Final = 5
GOAL: Final = 0.5  # per cent of a core
RAW: Final = DATA / "runner"
STATES: Final = {
    "idle": ("slots-idle-after.json", "metrics-idle-after.txt"),
    "all busy": ("slots-one-busy.json", "metrics-one-busy.txt"),
}


def answers(state: str) -> Mapping[bytes, bytes]:
    """Return the answer to each question, head included."""
    slots, metrics = STATES[state]
    files = {b"/slots": slots, b"/metrics": metrics, b"/props": "props.json"}
    found = {}
    for path, name in files.items():
        body = (RAW / name).read_bytes()
        head = f"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Length: {len(body)}\r\n\r\n"
        found[path] = head.encode() + body
    return found


def serve(state: str, ports: Connection) -> None:
    """Answer on as many ports as there are runners, until killed."""
    given = answers(state)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(given[head.split(b" ", 2)[1]])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        servers = [await asyncio.start_server(connected, "127.0.0.1", 0) for _ in range(RUNNERS)]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    asyncio.run(main())


async def idling(seconds: float) -> float:
    """Return the CPU seconds of a loop that wakes as often and does nothing."""
    begun, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:  # noqa: ASYNC110 - the waking is what is measured
        await asyncio.sleep(LOOK_TIMES.tick)
    return time.process_time() - begun


async def watching(seconds: float, ports: list[int]) -> tuple[float, int]:
    """Return the CPU seconds of the watcher once it knows all runners, and its number of looks."""
    processes = {
        number: Process(
            number, 1.0, 1.0, 1, tuple(runner_command("new", "sha256-0", port, slots=2))
        )
        for number, port in enumerate(ports, 1)
    }
    looks: list[object] = []
    watcher = SlotWatcher(
        now=time.monotonic,
        listed=lambda: [(f"m{pid}", pid) for pid in processes],
        runners=lambda: processes,
        on_look=looks.append,
    )
    task = asyncio.create_task(watcher.run())
    while len(looks) < RUNNERS:  # noqa: ASYNC110 - a moment
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    begun, before = time.process_time(), len(looks)
    await asyncio.sleep(seconds)
    spent, seen = time.process_time() - begun, len(looks) - before
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return spent, seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds = arguments.seconds
    print(f"| {RUNNERS} runners | CPU of a core, % | looks a second | to reach |")
    print("|---|---|---|---|")
    idle = [100 * asyncio.run(idling(seconds)) / seconds for _ in range(arguments.rounds)]
    for state in STATES:
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(state, theirs), daemon=True
        )
        server.start()
        ports = ours.recv()
        shares, looks = [], 0
        for number in range(arguments.rounds):
            print(f"{state}: round {number + 1} of {arguments.rounds}", file=sys.stderr)
            spent, seen = asyncio.run(watching(seconds, ports))
            shares.append(100 * spent / seconds)
            looks += seen
        server.kill()
        rate = looks / seconds / arguments.rounds
        print(
            f"| {state} | {statistics.median(shares):.2f} ({min(shares):.2f} to "
            f"{max(shares):.2f}) | {rate:.1f} | < {GOAL} |"
        )
    print(f"| a loop that wakes as often | {statistics.median(idle):.2f} | 0 | |")


if __name__ == "__main__":
    main()
