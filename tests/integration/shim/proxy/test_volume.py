# SPDX-License-Identifier: Apache-2.0
"""A gigabyte each way through a proxy that is a process of its own: what it keeps is bounded."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest

from tests.support.patience import PATIENCE
from tests.support.process import ProxyProcess, proxy_process

GIB: Final = 1 << 30
BLOCK: Final = bytes(1 << 20)
GROWTH: Final = 32 << 20  # bytes; the bound
PACE: Final = 0.02  # seconds between two chunks of the stream beside
CHUNKS: Final = 25  # of the stream beside, while the other client does not read


class Big:
    """A server of gigabytes, a thread for each connection: what the loop could not send in time."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads = ThreadPoolExecutor(16)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.sent = self.received = 0  # bytes of the big bodies
        self.stop = threading.Event()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        self.failures: list[Future[None]] = []

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.failures.append(self._threads.submit(self._serve, sock))

    def close(self) -> None:
        """End it."""
        self.stop.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        self._threads.shutdown()
        for each in self.failures:
            each.result()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                head, body = read_head(sock)
                while head:
                    self._answer(sock, head, body)
                    head, body = read_head(sock)
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                return  # the proxy was ended

    def _answer(self, sock: socket.socket, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /big"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(GIB // len(BLOCK)):
                sock.sendall(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
                self.sent += len(BLOCK)
            sock.sendall(b"0\r\n\r\n")
        elif head.startswith(b"POST /api/blobs"):
            self.received = len(body)
            room = bytearray(1 << 20)
            while self.received < GIB:
                self.received += sock.recv_into(room)
            sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        elif head.startswith(b"POST /stream"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not self.stop.is_set():
                sock.sendall(b"5\r\nline\n\r\n")
                time.sleep(PACE)
            sock.sendall(b"0\r\n\r\n")
        else:  # what the exporter polls
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Read a head and what came behind it; nothing: the other side left."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


@contextmanager
def calling(proxy: ProxyProcess, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as sock:
        sock.sendall(request)
        yield sock


@pytest.fixture
def big() -> Iterator[Big]:
    server = Big()
    try:
        yield server
    finally:
        server.close()


def read_stream(proxy: ProxyProcess, stop: threading.Event, found: list[bytes]) -> None:
    """Read the paced stream."""
    ask = b"POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with calling(proxy, ask) as sock:
        read_head(sock)
        while not stop.is_set():
            found.append(sock.recv(65536))


def test_a_client_that_does_not_read_costs_no_memory_and_delays_no_other(big: Big) -> None:
    stop, found = threading.Event(), list[bytes]()
    with proxy_process(big.url) as proxy, ThreadPoolExecutor(1) as threads:
        before = proxy.resident()
        beside = threads.submit(read_stream, proxy, stop, found)
        try:
            ask = b"POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            with calling(proxy, ask) as sock:
                while not big.sent:
                    time.sleep(PACE)
                seen = -1
                while seen != (seen := big.sent):  # until nothing on the way takes any more
                    time.sleep(0.3)
                assert big.sent < GROWTH
                come = len(found)
                while len(found) < come + CHUNKS:  # the stream beside goes on
                    assert not beside.done()
                    time.sleep(PACE)
                assert proxy.most_resident() - before < GROWTH
                assert taken(sock) > GIB  # and when it reads, all of it comes
                assert big.sent == GIB
            assert proxy.most_resident() - before < GROWTH
        finally:
            stop.set()
        beside.result(PATIENCE)


def taken(sock: socket.socket) -> int:
    """Read to the end of a chunked answer; return the bytes, framing and all."""
    room = bytearray(1 << 20)
    size, last = 0, b""
    while not last.endswith(b"\r\n0\r\n\r\n"):
        count = sock.recv_into(room)
        assert count, "cut short"
        size += count
        last = (last + bytes(room[max(0, count - 8) : count]))[-8:]
    return size


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_blob_of_a_gigabyte_costs_no_memory(big: Big, framing: str) -> None:
    field = f"Content-Length: {GIB}" if framing == "length" else "Transfer-Encoding: chunked"
    head = f"POST /api/blobs/sha256-0 HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"
    with proxy_process(big.url) as proxy:
        before = proxy.resident()
        with calling(proxy, head.encode()) as sock:
            for _ in range(GIB // len(BLOCK)):
                if framing == "chunked":
                    sock.sendall(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
                else:
                    sock.sendall(BLOCK)
            if framing == "chunked":
                sock.sendall(b"0\r\n\r\n")
            answer, _ = read_head(sock)
        assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
        assert big.received >= GIB
        assert proxy.most_resident() - before < GROWTH
