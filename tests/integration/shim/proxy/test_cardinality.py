# SPDX-License-Identifier: Apache-2.0
"""Names and paths that clients invent add no series but `other`."""

import asyncio
import json
from typing import Final

from tests.support.loops import Run
from tests.support.proxying import Proxied, proxied
from tests.support.rawserver import Link, caller, rawserver

COUNT: Final = 3_000
MISSING: Final = b'{"error":"model not found"}'
NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (
    len(MISSING),
    MISSING,
)
ROUTES: Final = ("/api/generate", "/api/chat", "/api/embed", "/v1/chat/completions", "/v1/messages")


async def says_no(link: Link) -> None:
    """Answer 404 for each end of a body: no body of this test holds another."""
    while link.end is None:
        await link.until(lambda: link.rest or link.end)
        new = link.take(len(link.rest)).count(b"}")
        link.send(NOT_FOUND * new)


async def send(proxy: Proxied, requests: list[bytes]) -> None:
    """Send requests over some connections, pipelined; await the answers."""
    share = max(1, len(requests) // 10)

    async def some(part: list[bytes]) -> None:
        async with caller(proxy.port) as client:
            client.send(b"".join(part))
            whole = len(part) * len(NOT_FOUND)
            await client.until(lambda: client.end or len(client.received) >= whole)
            assert bytes(client.received) == NOT_FOUND * len(part)

    await asyncio.gather(
        *(some(requests[at : at + share]) for at in range(0, len(requests), share))
    )


def request(number: int, model: str, method: str, path: str) -> bytes:
    body = json.dumps({"model": model, "prompt": str(number)}).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_invented_names_add_one_series_each_family(run: Run) -> None:
    async def check() -> None:
        async with rawserver(says_no) as server, proxied(server.url) as proxy:
            few = [request(n, f"first-{n}", "POST", ROUTES[n % 5]) for n in range(5)]
            await send(proxy, few)
            before = set(proxy.samples())
            many = [request(n, f"bogus-{n}:v{n}", "POST", ROUTES[n % 5]) for n in range(COUNT)]
            await send(proxy, many)
            assert set(proxy.samples()) == before
            assert not any("bogus" in labels or "first" in labels for _, labels in before)
            key = "ollama_requests_total", "code=404,model=other,route=/api/chat"
            assert proxy.samples()[key] == COUNT / 5 + 1

    run(check())


def test_invented_paths_and_methods_add_no_series_but_other(run: Run) -> None:
    async def check() -> None:
        async with rawserver(says_no) as server, proxied(server.url) as proxy:
            methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND")
            many = [
                request(n, "m", methods[n % 6], f"/{('api/generate', 'v1', 'x')[n % 3]}/{n}?a={n}")
                for n in range(COUNT)
            ]
            await send(proxy, many)
            routes = {
                label
                for _, labels in proxy.samples()
                for label in labels.split(",")
                if label.startswith("route=")
            }
            assert routes == {"route=other"}
            key = "ollama_requests_total", "code=404,model=,route=other"
            assert proxy.samples()[key] == COUNT
            assert len(proxy.samples()) < 300

    run(check())
