# SPDX-License-Identifier: Apache-2.0
"""An exporter whose Ollama address leads back to itself ends with an error, not in a storm."""

import asyncio
import socket
from dataclasses import replace

import pytest

from ollama_exporter.errors import StartError
from ollama_exporter.runtime import run
from tests.support.exporting import FAST, exporting
from tests.support.loops import Run
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.proxying import proxied
from tests.support.rawserver import OK, answers, caller, rawserver
from tests.support.through import GET, error_of

LOOP = "Requests come back to the proxy: ollama.url leads to it"


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


def test_two_exporters_in_a_circle_say_so_and_stay_quiet() -> None:
    async def main() -> None:
        first, second = free_port(), free_port()
        patient = {"ollama_timeout": PATIENCE, "poll_interval": 5.0}
        urls = f"http://127.0.0.1:{second}", f"http://127.0.0.1:{first}"
        async with (
            exporting(urls[0], proxy_addresses=(f"127.0.0.1:{first}",), **patient) as one,
            exporting(urls[1], proxy_addresses=(f"127.0.0.1:{second}",), **patient) as two,
            caller(first) as client,
        ):
            asked = b"GET /api/tags HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            assert (await client.ask(asked)).status == 508  # of the proxy where it came back
            await two.until(lambda found: found["ollama_poll_failures_total", "reason=status"] > 0)
            said = [x for x in one.log.records if x.getMessage() == "Server does not answer"]
            assert "leads to this exporter's own proxy" in vars(said[-1])["err"]
            assert one.log.count(LOOP) in (1, 2)  # each says it once
            for exporter in (one, two):
                samples = await exporter.samples()
                assert samples["ollama_up", ""] == 0
                requests = (x for x in samples if x[0] == "ollama_requests_total")
                assert sum(samples[x] for x in requests) < 20

    asyncio.run(main())


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
