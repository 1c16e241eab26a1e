# SPDX-License-Identifier: Apache-2.0
"""A raw TCP server that plays an Ollama server with faults: what it does is one function."""

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cache
from time import time
from typing import Any, Final

from ollama_exporter.simulator.open_connections import close_listener

TRICKLE: Final = 0.02  # seconds between two bytes
CHUNK: Final = 1 << 20
NEVER: Final = "2318-01-01T00:00:00Z"


@dataclass(slots=True)
class Asked:
    """One request: its path and its headers, names in lower case."""

    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class FaultServer:
    """The state that behaviours answer from; tests change it while the server runs."""

    port: int = 0
    behave: "Behaviour" = field(default_factory=lambda: good)
    models: list[dict[str, Any]] = field(default_factory=list)
    installed: dict[str, int] = field(default_factory=dict)  # all that were ever listed; sizes
    version: str = "0.33.0"
    offset: float = 0.0  # of its clock, seconds: in the Date header
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(asked.path == path for asked in self.asked)

    async def drop(self) -> None:
        """Close all connections at once, as a server that restarts: none answers any more."""
        dropped = list(self.open)
        for writer in dropped:
            writer.close()
        for writer in dropped:
            with suppress(OSError):
                await writer.wait_closed()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        self.connections += 1
        self.open.add(writer)
        try:
            while True:
                first_byte = await reader.readexactly(1)
                if not first_byte.isalpha():  # a handshake of TLS, say: what Go's server answers
                    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                    break
                head = (first_byte + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                pairs = [line.partition(": ") for line in lines if line]
                headers = {name.lower(): value for name, _, value in pairs}
                self.asked.append(Asked(first.split()[1], headers))
                await self.behave(self, self.asked[-1], writer)
                if writer.is_closing():
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()


Behaviour = Callable[[FaultServer, Asked, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def faultserver(
    behave: Behaviour | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[FaultServer]:
    """Run one on a free port of this machine, or on `port`."""
    faulty = FaultServer()
    if behave is not None:
        faulty.behave = behave
    faulty.scheme = "http" if tls is None else "https"
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(faulty.connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also if it was cancelled before it began

    listening = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    faulty.port = listening.sockets[0].getsockname()[1]
    try:
        yield faulty
    finally:
        await close_listener(listening)
        running = list(tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@cache
def closed_port() -> int:
    """Return a port of this machine at which nobody listens, nor will.

    This process has it until its end, so that no other test is given it.
    """
    kept = socket.socket()
    kept.bind(("127.0.0.1", 0))
    port = int(kept.getsockname()[1])
    kept.detach()
    return port


def entry(
    name: str, expires_at: float | None, *, digest: str = "ab" * 32, size: int = 4 << 30
) -> dict[str, Any]:
    """Return an entry of `/api/ps`. `expires_at`: Unix seconds; None: never."""
    moment = NEVER
    if expires_at is not None:
        moment = datetime.fromtimestamp(expires_at, UTC).isoformat().replace("+00:00", "Z")
    return {
        "name": name,
        "model": name,
        "size": size,
        "digest": digest,
        "details": {"format": "gguf", "family": "llama", "families": None},
        "expires_at": moment,
        "size_vram": size,
        "context_length": 4096,
    }


# -- what it does ----------------------------------------------------------------------------------


async def good(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer as Ollama does."""
    await send(writer, json.dumps(listing(server, asked.path)).encode(), offset=server.offset)


def listing(server: FaultServer, path: str) -> dict[str, Any]:
    """Return the right answer of a path. What was unloaded stays installed."""
    server.installed |= {m["name"]: m["size"] for m in server.models}
    if path == "/api/version":
        return {"version": server.version}
    if path == "/api/tags":
        return {"models": [{"name": n, "size": size} for n, size in server.installed.items()]}
    return {"models": server.models}


async def send(
    writer: asyncio.StreamWriter,
    body: bytes,
    *,
    status: str = "200 OK",
    headers: str = "",
    length: int | None = None,
    offset: float = 0.0,
) -> None:
    """Write one answer; `length` is what its head claims if it lies."""
    date = formatdate(int(time() + offset), usegmt=True)
    claimed = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {claimed}\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> Behaviour:
    """Answer everything alike."""

    async def behave(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
        await send(writer, body, status=status, headers=headers)

    return behave


def late(seconds: float) -> Behaviour:
    """Answer well, after a while."""

    async def behave(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await good(server, asked, writer)

    return behave


def expiring(name: str, keep_alive: float, behave: Behaviour) -> Behaviour:
    """List one more model from the next poll on, and no more once its keep-alive is over."""
    ends: list[float] = []

    async def answer_until(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/api/ps":
            if not ends:
                ends.append(time() + keep_alive)
                listed = entry(name, ends[0] + server.offset, digest="cd" * 32)
                server.models = [*server.models, listed]
            elif time() >= ends[0]:
                server.models = [each for each in server.models if each["name"] != name]
        await behave(server, asked, writer)

    return answer_until


async def silent(_: FaultServer, __: Asked, ___: asyncio.StreamWriter) -> None:
    """Accept, read, and never say a word."""
    await asyncio.Event().wait()


async def reset(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Send half an answer, then RST: lingering for zero seconds makes the kernel send it."""
    await send(writer, b'{"models":[', length=1000)
    await asyncio.sleep(TRICKLE)  # or the RST overtakes the bytes before it
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def cut_short(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Promise more than comes before the connection is closed in order."""
    await send(writer, b'{"models":[', length=1000)
    writer.close()


async def hang_up(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Close the connection instead of answering."""
    writer.close()


async def huge(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Send a body of 100 MiB, as far as it is read."""
    await send(writer, b'{"models":[]', length=100 * CHUNK)
    for _number in range(100):
        writer.write(b" " * CHUNK)
        await writer.drain()


async def trickling(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Send a body byte by byte, each in time, for ever."""
    await send(writer, b'{"models":[]', length=CHUNK)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(TRICKLE)


async def not_http(_: FaultServer, __: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer as an SSH server does."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await writer.drain()
    writer.close()


async def zipped(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer well, compressed although that was not asked for."""
    body = gzip.compress(json.dumps(listing(server, asked.path)).encode())
    await send(writer, body, headers="Content-Encoding: gzip\r\n")
