# SPDX-License-Identifier: Apache-2.0
"""What lies between exporter and server: proxies that close connections, balancers with servers."""

import asyncio
import json
from collections.abc import Iterator
from itertools import cycle
from time import time

from ollama_exporter.residency.events import Reason, Restarted, Unloaded
from tests.support.exporting import Running, Samples, exporting
from tests.support.faultserver import (
    Asked,
    Behaviour,
    FaultServer,
    entry,
    expiring,
    faultserver,
    listing,
    send,
)

POLLS = 12


async def closing(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer well, and end the connection."""
    body = json.dumps(listing(server, asked.path)).encode()
    await send(writer, body, headers="Connection: close\r\n")
    writer.close()


def balanced(servers: Iterator[list[dict[str, object]]], *, close: bool = False) -> Behaviour:
    """Answer each poll from the next server."""

    async def behave(server: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/api/ps":
            server.models = next(servers)
        end = "Connection: close\r\n" if close else ""
        await send(writer, json.dumps(listing(server, asked.path)).encode(), headers=end)
        if close:
            writer.close()

    return behave


def polled(samples: Samples) -> bool:
    return samples["ollama_polls_total", ""] >= POLLS


def ends(exporter: Running) -> list[Reason | type[Restarted]]:
    return [
        event.reason if isinstance(event, Unloaded) else type(event)
        for event in exporter.events
        if isinstance(event, Unloaded | Restarted)
    ]


def test_a_proxy_that_closes_every_connection_restarts_nothing() -> None:
    async def main() -> None:
        async with faultserver(closing) as server, exporting(server.url) as exporter:
            await exporter.until(polled)
            server.behave = expiring("mistral:7b", 1.0, closing)
            expired = ("ollama_model_unloads_total", "model=mistral:7b,reason=expired")
            samples = await exporter.until(lambda found: found.get(expired) == 1)
            assert samples["ollama_restarts_total", ""] == 0
            assert ends(exporter) == [Reason.EXPIRED]
            assert exporter.log.count("Server restarted") == 0
            assert server.count("/api/tags") < server.count("/api/ps") / 2

    asyncio.run(main())


def test_servers_that_answer_in_turn_unload_nothing() -> None:
    async def main(*, close: bool) -> None:
        first = [entry("a:latest", time() + 300.1234567, digest="aa" * 32)]
        second = [entry("b:latest", time() + 400.7654321, digest="bb" * 32)]
        servers = cycle([first, second])
        async with (
            faultserver(balanced(servers, close=close)) as server,
            exporting(server.url) as exporter,
        ):
            await exporter.until(lambda found: found["ollama_address_shared", ""] == 1)
            before = len(server.asked)
            samples = await exporter.until(lambda _: len(server.asked) > before + POLLS)
            assert ends(exporter) == []
            assert samples["ollama_model_loaded", "model=a:latest"] == 1
            assert samples["ollama_model_loaded", "model=b:latest"] == 1
            shared = "Several servers answer at this address; unloads are not counted"
            assert exporter.log.count(shared) == 1

    asyncio.run(main(close=False))
    asyncio.run(main(close=True))


def test_busy_servers_that_answer_in_turn_unload_nothing() -> None:
    def listings() -> Iterator[list[dict[str, object]]]:
        for name in cycle("ab"):
            yield [entry(f"{name}:latest", time() + 300, digest=name * 64)]

    async def main() -> None:
        async with (
            faultserver(balanced(listings())) as server,
            exporting(server.url) as exporter,
        ):
            await exporter.until(lambda found: found["ollama_address_shared", ""] == 1)
            before = len(server.asked)
            samples = await exporter.until(lambda _: len(server.asked) > before + POLLS)
            assert samples["ollama_address_shared", ""] == 1
            assert ends(exporter) == []
            assert server.count("/api/version") > 1  # they may differ

    asyncio.run(main())
