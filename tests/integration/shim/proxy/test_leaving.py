# SPDX-License-Identifier: Apache-2.0
"""The client leaves: the server is told within a tenth of a second, and the phase is counted."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final, Literal

import pytest

from ollama_exporter.shim.observation import CLIENT_GONE, Outcome, Phase
from ollama_exporter.simulator.model_files import GIB, ModelFiles, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Proxied, limits_with, proxied
from tests.support.rawserver import Link, Script, caller, once, rawserver

LIMITS: Final = limits_with(shutdown_timeout=0.3)
CHUNKED: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
RECORD: Final = b'{"model":"m:latest","response":"a","done":false}\n'
How = Literal["closes", "resets", "half closes"]


def asked(model: str = "m", path: str = "/api/generate", **more: Any) -> bytes:
    body = json.dumps({"model": model, "prompt": "p"} | more).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def leave(client: Link, how: How) -> None:
    """End a client's connection."""
    if how == "resets":
        client.reset()
    elif how == "closes":
        client.close()
    else:
        client.transport.write_eof()


class Listing:
    """What polls say: one model is known, and loaded or not."""

    def __init__(self, *, loaded: bool) -> None:
        self.loaded = loaded

    def canonical_name(self, name: str) -> str | None:
        return name

    def is_remote(self, _: str) -> bool:
        return False

    def is_resident(self, _: str) -> bool | None:
        return self.loaded

    def loaded_at(self, _: str) -> float | None:
        return None

    def polled_at(self) -> float:
        return 0.0


async def leaving(
    script: Script, request: bytes, seen: bytes, how: How, *, loaded: bool = True
) -> Proxied:
    """Leave when the server has the request and the client has `seen`.

    That the server's connection ends at all shows that it ends at once: the proxy's timeouts are
    longer than any test waits.
    """
    async with (
        rawserver(script) as server,
        proxied(server.url, limits=LIMITS, residence=Listing(loaded=loaded)) as proxy,
        caller(proxy.port) as client,
    ):
        client.send(request)
        link = await server.link()
        await link.got(request[-4:])
        await client.until(lambda: seen in client.rest)
        leave(client, how)
        await link.gone()
        await until(lambda: proxy.observations)
        return proxy


def aborted(proxy: Proxied) -> dict[str, float]:
    """Return the phases counted, those at 0 left out."""
    return {
        labels: value
        for (name, labels), value in proxy.samples().items()
        if name == "ollama_requests_aborted_total" and value
    }


STREAM: Final = once(CHUNKED + b"%x\r\n%b\r\n" % (len(RECORD), RECORD))
WHOLE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"


@pytest.mark.parametrize("how", ["closes", "resets", "half closes"])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/v1/chat/completions"])
def test_in_prefill(run: Run, how: How, path: str) -> None:
    async def check() -> None:
        proxy = await leaving(once(), asked(path=path, stream=True), b"", how)
        assert aborted(proxy) == {"model=m:latest,phase=prefill": 1}
        [seen] = proxy.observations
        assert (seen.outcome, seen.phase) == (Outcome.CLIENT_GONE, Phase.PREFILL)
        assert seen.code == CLIENT_GONE

    run(check())


@pytest.mark.parametrize("how", ["closes", "resets", "half closes"])
def test_in_decode(run: Run, how: How) -> None:
    async def check() -> None:
        proxy = await leaving(STREAM, asked(), RECORD, how)
        assert aborted(proxy) == {"model=m:latest,phase=decode": 1}
        assert proxy.observations[0].code == 200

    run(check())


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_while_the_model_is_not_loaded(run: Run, how: How) -> None:
    async def check() -> None:
        proxy = await leaving(once(), asked(), b"", how, loaded=False)
        assert aborted(proxy) == {"model=m:latest,phase=waiting": 1}

    run(check())


@pytest.mark.parametrize("so_far", [b"", WHOLE + b'{"model"'], ids=["no head", "half a body"])
def test_in_a_call_that_is_not_streamed(run: Run, so_far: bytes) -> None:
    async def check() -> None:
        proxy = await leaving(once(so_far), asked(stream=False), so_far[-5:], "closes")
        phase = "decode" if so_far else "prefill"
        assert aborted(proxy) == {f"model=m:latest,phase={phase}": 1}

    run(check())


def test_in_the_middle_of_an_upload(run: Run) -> None:
    async def check() -> None:
        head = b"POST /api/blobs/sha256-0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
        proxy = await leaving(once(), head + bytes(499_996) + b"last", b"", "resets")
        assert proxy.observations[0].outcome is Outcome.CLIENT_GONE
        assert proxy.observations[0].request_bytes == 500_000

    run(check())


def test_of_a_route_that_is_not_measured(run: Run) -> None:
    async def check() -> None:
        proxy = await leaving(once(), b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n", b"", "closes")
        assert aborted(proxy) == {}
        name, labels = "ollama_request_failures_total", "model=,outcome=client_gone,route=/api/tags"
        assert proxy.samples()[name, labels] == 1

    run(check())


def test_while_the_connection_to_the_server_is_being_made(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(once()) as server,
            proxied(server.url, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(asked())
            client.reset()
            await until(lambda: not proxy.proxy.connection_count)
            assert all(seen.outcome is Outcome.CLIENT_GONE for seen in proxy.observations)
            async with caller(proxy.port) as second:  # connections are accepted in order
                second.send(asked("second"))
                await until(lambda: any(b"second" in link.received for link in server.links))
                for link in server.links:
                    if b"second" not in link.received:
                        await link.gone()

    run(check())


def test_with_requests_waiting_behind_the_one_in_hand(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(once()) as server,
            proxied(server.url, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            client.send(asked() + asked() + asked())
            link = await server.link()
            await link.got(b'"p"}')
            leave(client, "closes")
            await link.gone()
            await until(lambda: not proxy.proxy.connection_count)
            assert len(server.requests()) == 1  # the others are not sent

    run(check())


def test_while_it_does_not_read(run: Run) -> None:
    """Its end is seen when the next write fails, not when it happens: nothing is read from it."""

    async def floods(link: Link) -> None:
        await link.request()
        link.send(CHUNKED)
        while link.end is None:
            link.send(b"8000\r\n" + bytes(0x8000) + b"\r\n")
            await asyncio.sleep(0.001)

    async def check() -> None:
        async with (
            rawserver(floods) as server,
            proxied(server.url, limits=LIMITS) as proxy,
            caller(proxy.port) as client,
        ):
            client.transport.pause_reading()
            client.send(asked())
            link = await server.link()
            await until(link.transport.get_write_buffer_size)  # the proxy reads no more
            leave(client, "resets")
            await link.gone()

    run(check())


def test_others_are_not_disturbed(run: Run) -> None:
    async def check() -> None:
        async with (
            rawserver(STREAM) as server,
            proxied(server.url, limits=LIMITS) as proxy,
            caller(proxy.port) as stays,
        ):
            stays.send(asked())
            await stays.got(RECORD)
            for _ in range(5):
                async with caller(proxy.port) as leaves:
                    leaves.send(asked())
                    await leaves.got(RECORD)
            await until(lambda: len(proxy.observations) == 5)
            first = await server.link(0)
            first.send(b"1\r\nz\r\n0\r\n\r\n")
            assert (await stays.answer()).body == RECORD + b"z"

    run(check())


# -- as a server behaves ---------------------------------------------------------------------------


def loading_in(seconds: float) -> Config:
    """The usual models, which load in that many seconds; one request at a time for each."""
    manifests = {
        name: replace(manifest, file=replace(manifest.file, load_seconds=seconds))
        for name, manifest in default_catalogue().manifests.items()
    }
    host = Host(memory=64 * GIB, recovery=0.05, convergence=0.02, parallel=1)
    return Config(host=host, catalogue=ModelFiles(manifests))


ENDLESS: Final = "[[n=1000 tps=20 ttft=0]]"
CASES: Final[dict[str, tuple[float, list[str], str, dict[str, Any], bytes, str]]] = {
    "while the model loads": (60.0, [], "[[n=1]]", {}, b"", "waiting"),
    "while another model loads": (60.0, ["mistral"], "[[n=1]]", {}, b"", "waiting"),
    "while queued for a slot": (0.01, ["llama3.2"], "[[n=1 ttft=0]]", {}, b"", "prefill"),
    "in prefill": (0.01, [], "[[n=1 ttft=60]]", {}, b"", "prefill"),
    "in decode": (0.01, [], ENDLESS, {}, b'"done":false', "decode"),
    "in decode, not streamed": (0.01, [], ENDLESS, {"stream": False}, b"", "prefill"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_server_sees_the_client_leave(run: Run, name: str) -> None:
    load, others, prompt, more, seen, phase = CASES[name]

    async def check() -> None:
        async with (
            Simulator(loading_in(load)) as sim,
            proxied(sim.url, limits=LIMITS, residence=Listing(loaded=load < 1)) as proxy,
            AsyncExitStack() as stack,
        ):
            connections = sim._connections  # noqa: SLF001 - what it has under way
            for other in others:
                client = await stack.enter_async_context(caller(proxy.port))
                client.send(asked(other, prompt=ENDLESS))
                await until(lambda: connections)
                if load < 1:  # it has the slot
                    await client.got(b'"done":false')
            before = len(connections)
            client = await stack.enter_async_context(caller(proxy.port))
            client.send(asked("llama3.2", prompt=prompt, **more))
            await client.until(lambda: seen in client.rest)
            await until(lambda: len(connections) > before)
            await asyncio.sleep(0.1)  # it is where the case says
            client.close()
            await until(lambda: len(connections) == before)
            await until(lambda: proxy.observations)
            assert proxy.observations[0].phase == phase
            assert list(aborted(proxy).values()) == [1]

    run(check())
