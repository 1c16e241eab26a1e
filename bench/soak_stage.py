# SPDX-License-Identifier: Apache-2.0
"""The server of the soak: streams for every request, and another model in memory each second.

Prints its port, and ends when its standard input does.
"""

import asyncio
import json
import random
import re
import sys
import time
from email.utils import formatdate
from hashlib import sha256
from typing import Any, Final, cast

import uvloop

NAMES: Final = tuple(f"model-{number}:7b" for number in range(30))
CHURNING: Final = tuple(f"passing-{number}:7b" for number in range(200))  # nobody asks for these
RESIDENT: Final = 5  # of them
CHURN: Final = 1.0  # seconds until the next model takes the place of another
RATE: Final = 50.0  # records a second
KEEP_ALIVE: Final = 300.0
LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
FINAL: Final = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 1_200_000_000,
    "load_duration": 40_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 90_000_000,
    "eval_count": 40,
    "eval_duration": 800_000_000,
}


class Residents:
    """The models in memory: all that clients ask for, and some that come and go.

    A deadline moves only with a request. Where it moved with each poll, or a model answered that is
    not listed, the exporter would see several servers at one address, and count no unload.
    """

    def __init__(self) -> None:
        end = time.time() + KEEP_ALIVE
        self.deadlines = dict.fromkeys((*NAMES, *CHURNING[:RESIDENT]), end)
        self.next = RESIDENT

    def on_request(self, name: str) -> None:
        """Move the deadline of a model."""
        if name in self.deadlines:
            self.deadlines[name] = time.time() + KEEP_ALIVE

    async def churn(self) -> None:
        """Replace one of them, again and again."""
        while True:
            await asyncio.sleep(CHURN)
            del self.deadlines[CHURNING[(self.next - RESIDENT) % len(CHURNING)]]
            self.deadlines[CHURNING[self.next % len(CHURNING)]] = time.time() + KEEP_ALIVE
            self.next += 1

    def listing(self) -> bytes:
        """Return the answer of `/api/ps`."""
        models = [
            {
                "name": name,
                "model": name,
                "size": 4 << 30,
                "digest": sha256(name.encode()).hexdigest(),
                "details": {"format": "gguf", "family": "llama", "parameter_size": "7.2B"},
                "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(deadline)),
                "size_vram": 4 << 30,
                "context_length": 4096,
            }
            for name, deadline in self.deadlines.items()
        ]
        return json.dumps({"models": models}, separators=(",", ":")).encode()


class Server(asyncio.Protocol):
    """Answers requests of one connection, one after the other."""

    def __init__(self, residents: Residents) -> None:
        self.residents = residents
        self.buffer = b""
        self.streaming: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End the stream."""
        if self.streaming is not None:
            self.streaming.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if not mark or (found is not None and len(body) < int(found[1])):
            return
        self.buffer = b""
        if head.startswith(b"POST /api/generate"):
            self.streaming = asyncio.create_task(self.stream(json.loads(body)))
        else:
            path = head.split(b" ", 2)[1]
            answers = {b"/api/ps": self.residents.listing, b"/api/tags": self.residents.listing}
            answer = answers.get(path, lambda: b'{"version":"0.33.0"}')()
            self.transport.write(_head(b"Content-Length: %d" % len(answer)) + answer)

    async def stream(self, asked: dict[str, Any]) -> None:
        """Send some records, and the last one."""
        self.residents.on_request(asked["model"])
        common = {"model": asked["model"], "created_at": "2026-11-22T10:00:00.123456789Z"}
        self.transport.write(_head(b"Transfer-Encoding: chunked"))
        for _ in range(random.randint(5, 80)):
            self._record({**common, "response": " token", "done": False})
            await asyncio.sleep(1 / RATE)
        self._record({**common, "response": "", **FINAL})
        self.transport.write(b"0\r\n\r\n")

    def _record(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self.transport.write(b"%x\r\n%b\r\n" % (len(line), line))


def _head(field: bytes) -> bytes:
    date = formatdate(usegmt=True).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %b\r\n%b\r\n\r\n" % (
        date,
        field,
    )


async def main() -> None:
    """Serve until the end of standard input."""
    residents = Residents()
    loop = asyncio.get_running_loop()
    churning = asyncio.create_task(residents.churn())
    server = await loop.create_server(lambda: Server(residents), "127.0.0.1", 0, backlog=4096)
    print(cast("Any", server.sockets[0]).getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    churning.cancel()


if __name__ == "__main__":
    uvloop.run(main())
