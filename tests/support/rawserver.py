# SPDX-License-Identifier: Apache-2.0
"""A scripted server and a client of raw bytes: nothing between a test and the wire.

A script is a coroutine for each connection that is accepted. What is received is kept verbatim
whatever the script does, and so is the moment at which the other side ended the connection.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Literal, cast

from tests.support.patience import PATIENCE
from tests.support.wire import Message, read_answer, read_request

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
End = Literal["fin", "reset"]


class Link(asyncio.Protocol):
    """One end of a connection."""

    transport: asyncio.Transport
    end: End | None = None  # how the other side ended it, or this one
    ended_at: float = 0.0

    def __init__(self, on_made: "Callable[[Link], None] | None" = None) -> None:
        self.received = bytearray()
        self._read = 0  # bytes that were taken out
        self._on_made = on_made
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_INET:  # asyncio leaves it out on accepted ones
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the moment and how."""
        self.end, self.ended_at = "fin" if exc is None else "reset", monotonic()
        self._changed.set()

    @property
    def rest(self) -> bytes:
        """What was received and not yet taken."""
        return bytes(self.received[self._read :])

    def take(self, count: int) -> bytes:
        """Take bytes out."""
        taken = bytes(self.received[self._read : self._read + count])
        self._read += count
        return taken

    def send(self, data: bytes) -> None:
        """Write, unless the connection has ended."""
        if self.end is None:
            self.transport.write(data)

    def close(self) -> None:
        """End in order, when what was written has gone."""
        self.transport.close()

    def reset(self) -> None:
        """End by RST: lingering for zero seconds makes the kernel send it."""
        if self.end is not None or self.transport.is_closing():
            return
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.transport.abort()

    async def until(self, holds: "Callable[[], object]") -> None:
        """Wait until something holds that can only change with what is received."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def got(self, text: bytes) -> None:
        """Wait until these bytes are among what was not yet taken."""
        await self.until(lambda: text in self.rest)

    async def gone(self) -> End:
        """Wait until the other side has ended the connection; return how."""
        await self.until(lambda: self.end)
        assert self.end is not None
        return self.end

    async def request(self) -> Message | None:
        """Take the next request, read strictly; None: the other side left."""
        while True:
            found = read_request(self.rest)
            if found is not None:
                self.take(len(found.raw))
                return found
            if self.end is not None:
                return None
            seen = len(self.received)
            await self.until(lambda: len(self.received) > seen or self.end)  # noqa: B023 - awaited here

    async def answer(self, method: bytes = b"GET") -> Message:
        """Take the next answer, read strictly. Raises AssertionError if it breaks off."""
        while True:
            closed = self.end == "fin"
            found = read_answer(self.rest, method=method, closed=closed)
            if found is not None:
                self.take(len(found.raw))
                return found
            assert self.end is None, (self.end, bytes(self.received))
            seen = len(self.received)
            await self.until(lambda: len(self.received) > seen or self.end)  # noqa: B023 - awaited here

    async def ask(self, request: bytes) -> Message:
        """Send a request and take its answer."""
        self.send(request)
        return await self.answer(request.partition(b" ")[0])


Script = Callable[[Link], Awaitable[None]]


@dataclass(slots=True)
class RawServer:
    """A server that does what its script says."""

    script: Script
    port: int = 0
    links: list[Link] = field(default_factory=list)  # in the order they were accepted
    failures: list[Exception] = field(default_factory=list)  # of scripts
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _accepted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def authority(self) -> bytes:
        """What requests to it must have as their Host."""
        return b"127.0.0.1:%d" % self.port

    @property
    def received(self) -> bytes:
        """All that was received, connection by connection."""
        return b"".join(bytes(link.received) for link in self.links)

    def requests(self) -> list[Message]:
        """Read all that was received; it must be complete requests and nothing else."""
        found: list[Message] = []
        for link in self.links:
            rest = bytes(link.received)
            while rest:
                request = read_request(rest)
                assert request is not None, rest
                found.append(request)
                rest = rest[len(request.raw) :]
        return found

    def accept(self, link: Link) -> None:
        """Run the script on a new connection."""
        self.links.append(link)
        self._accepted.set()
        task = asyncio.get_running_loop().create_task(self._play(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def link(self, number: int = 0) -> Link:
        """Wait for a connection, by its number."""
        async with asyncio.timeout(PATIENCE):
            while len(self.links) <= number:
                self._accepted.clear()
                await self._accepted.wait()
        return self.links[number]

    async def _play(self, link: Link) -> None:
        try:
            await self.script(link)
        except Exception as err:  # noqa: BLE001 - raised at the end, in the test
            self.failures.append(err)

    async def stop(self) -> None:
        """End the scripts and all connections; what a script raised is raised."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self.links:
            link.transport.abort()
        for failure in self.failures:
            raise failure


@asynccontextmanager
async def rawserver(script: Script, *, receive_buffer: int = 0) -> AsyncIterator[RawServer]:
    """Run one on a free port of the loopback interface. `receive_buffer`: bytes of the kernel's."""
    running = RawServer(script)
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    if receive_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Link(running.accept), sock=listening)
    running.port = int(listening.getsockname()[1])
    try:
        yield running
    finally:
        server.close()
        await running.stop()


@asynccontextmanager
async def caller(port: int, *, receive_buffer: int = 0) -> AsyncIterator[Link]:
    """Connect to a port of this machine; at the end the connection is dropped."""
    sock = socket.socket()
    sock.setblocking(False)  # noqa: FBT003 - the standard library's
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    _, link = await loop.create_connection(Link, sock=sock)
    try:
        yield link
    finally:
        link.transport.abort()


# -- scripts ---------------------------------------------------------------------------------------


def answers(*pieces: bytes) -> Script:
    """Answer each request alike; each piece is a write of its own, a moment after the last one."""

    async def script(link: Link) -> None:
        while await link.request() is not None:
            await write(link, pieces)

    return script


def once(*pieces: bytes, end: End | None = None) -> Script:
    """Answer one request, then end the connection as told; None: say nothing any more."""

    async def script(link: Link) -> None:
        await link.request()
        await write(link, pieces)
        if end == "fin":
            link.close()
        elif end == "reset":
            await asyncio.sleep(TRICKLE)  # or the RST overtakes the bytes before it
            link.reset()

    return script


TRICKLE: Final = 0.01  # seconds


async def write(link: Link, pieces: Sequence[bytes]) -> None:
    """Write each piece by itself."""
    for number, piece in enumerate(pieces):
        if number:
            await asyncio.sleep(TRICKLE)
        link.send(piece)
