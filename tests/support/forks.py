# SPDX-License-Identifier: Apache-2.0
"""A program whose threads send instrumented requests while it forks: python -m tests.support.forks.

Each child sends one request. Prints how many children hung, and which in-flight gauges they saw.
Argument: the number of forks.
"""

import os
import select
import sys
import threading
from collections import Counter
from typing import Final

import httpx
from prometheus_client import REGISTRY, CollectorRegistry

from ollama_exporter import instrument
from tests.support.patience import PATIENCE

URL: Final = "http://127.0.0.1:11434"
THREADS: Final = 4
IN_FLIGHT: Final = "ollama_requests_in_flight"
ROUTE: Final = {"route": "/api/generate"}
ASKED: Final = {"model": "m", "prompt": "p"}


class Memory(httpx.BaseTransport):
    """Answers without a network, so that threads are nearly always inside the recorder."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        request.read()
        return httpx.Response(200, json={"model": "m", "done": True, "eval_count": 2})


def client() -> httpx.Client:
    """Return an instrumented client."""
    made = httpx.Client(transport=Memory(), base_url=URL)
    instrument(made)
    return made


def in_child(used: httpx.Client, out: int) -> None:
    """Send a request through a client of the parent and one through a new one; report."""
    used.post("/api/generate", json=ASKED)
    client().post("/api/generate", json=ASKED)
    instrument(httpx.Client(transport=Memory(), base_url=URL), registry=CollectorRegistry())
    os.write(out, b"%d" % int(REGISTRY.get_sample_value(IN_FLIGHT, ROUTE) or 0))


def fork(used: httpx.Client) -> bytes:
    """Fork; return what the child reported, or `hung`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        in_child(used, write)
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], PATIENCE)
    said = os.read(read, 20) if ready else b"hung"
    if not ready:
        os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(read)
    return said


def main(times: int) -> None:
    """Fork so many times while threads send requests, and print what the children reported."""
    shared = client()
    done = threading.Event()

    def send() -> None:
        mine = client()
        while not done.is_set():
            mine.post("/api/generate", json=ASKED)

    threads = [threading.Thread(target=send) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    reports: Counter[bytes] = Counter()
    for _ in range(times):
        reports[fork(shared)] += 1
        if reports[b"hung"]:
            break
    done.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{dict(reports)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
