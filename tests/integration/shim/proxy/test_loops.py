# SPDX-License-Identifier: Apache-2.0
"""An exporter whose Ollama address leads back to itself ends with an error, not in a storm."""

import asyncio
import socket
from dataclasses import replace

import pytest

from ollama_exporter.errors import StartError
from ollama_exporter.runtime import run
from tests.support.exporting import FAST
from tests.support.loops import Run
from tests.support.ports import free_port
from tests.support.proxying import proxied
from tests.support.rawserver import OK, answers, caller, rawserver
from tests.support.through import GET, error_of


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.1"])  # noqa: S104 - compared
@pytest.mark.parametrize("field", ["proxy.listen-address", "web.listen-address"])
def test_its_own_address_is_an_error_at_the_start(host: str, field: str) -> None:
    port = free_port()
    own, other = (f"127.0.0.1:{port}",), ("127.0.0.1:0",)
    is_proxy = field.startswith("proxy")
    settings = replace(
        FAST,
        ollama_url=f"http://{host}:{port}",
        listen_addresses=other if is_proxy else own,
        proxy_addresses=own if is_proxy else other,
    )
    with pytest.raises(StartError, match=f"own {field}.*set --ollama.url or OLLAMA_HOST"):
        asyncio.run(run(settings, stop=asyncio.Event()))
    with socket.create_server(("127.0.0.1", port)):  # it listens no longer
        pass


def test_a_request_that_comes_back_is_a_508(run: Run) -> None:
    """Two proxies in front of each other: no single one can know at its start."""

    async def check() -> None:
        port = free_port()
        async with (
            proxied(f"http://127.0.0.1:{port}", name=b"one") as first,
            proxied(first.url, name=b"two", port=port) as second,
        ):
            for proxy in (first, second):
                async with caller(proxy.port) as client:
                    answer = await client.ask(GET)
                    assert (answer.status, b"came back" in answer.body) == (508, True)
            assert len(first.observations) + len(second.observations) == 6

    run(check())


def test_the_server_gets_the_names_of_the_proxies_in_order(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, name=b"one") as first,
            proxied(first.url, name=b"two") as second,
            caller(second.port) as client,
        ):
            assert (await client.ask(GET)).status == 200
            (request,) = server.requests()
            assert request.all(b"x-ollama-exporter-via") == [b"two, one"]

    run(check())


def test_too_many_proxies_are_a_loop(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, name=b"one") as proxy,
            caller(proxy.port) as client,
        ):
            via = b"X-Ollama-Exporter-Via: " + b", ".join([b"other"] * 8) + b"\r\n\r\n"
            error_of(await client.ask(GET[:-2] + via), 508)
            assert server.requests() == []

    run(check())
