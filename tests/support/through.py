# SPDX-License-Identifier: Apache-2.0
"""A scripted server, a proxy in front of it and a client; the bytes that they often exchange."""

import json
from collections.abc import Awaitable, Callable
from typing import Final

from ollama_exporter.shim.proxy.interfaces import RewriteRules
from ollama_exporter.shim.proxy.limits import Limits
from tests.support.proxying import Clock, Proxied, limits_with, proxied
from tests.support.rawserver import Link, RawServer, Script, caller, rawserver
from tests.support.wire import Message

GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
ASK: Final = (
    b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n"
    b'{"model":"m","prompt":"p"}'
)
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST: Final = b"0\r\n\r\n"
HASTY: Final = limits_with(
    head_timeout=0.3,
    silence_timeout=0.3,
    idle_timeout=0.3,
    connect_timeout=0.3,
    shutdown_timeout=0.5,
)
Check = Callable[[RawServer, Proxied, Link], Awaitable[None]]


async def through(
    script: Script,
    check: Check,
    limits: Limits | None = None,
    *,
    rules: RewriteRules | None = None,
    clock: Clock | None = None,
) -> None:
    """Run them."""
    async with (
        rawserver(script) as server,
        proxied(server.url, limits=limits, rules=rules, clock=clock) as proxy,
        caller(proxy.port) as client,
    ):
        await check(server, proxy, client)


async def passing(proxy: Proxied, *, until_ended: Link) -> None:
    """Let time pass until the proxy ends that connection."""
    while until_ended.end is None:
        await proxy.advance(0.05)


def head(length: int, fields: bytes = b"") -> bytes:
    """Return the head of an answer with a length."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (length, fields)


def chunk(data: bytes) -> bytes:
    """Frame a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_of(answer: Message, status: int) -> str:
    """Check that the proxy itself answered; return its error."""
    assert answer.status == status, answer
    assert answer.all(b"content-type") == [b"application/json"]
    assert answer.all(b"connection") == [b"close"]
    error = json.loads(answer.body)
    assert list(error) == ["error"]
    return str(error["error"])
