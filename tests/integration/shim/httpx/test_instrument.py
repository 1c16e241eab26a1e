# SPDX-License-Identifier: Apache-2.0
"""`instrument()` on clients of every build, and transports of every manner inside ours."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, Self

import httpx
import ollama
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ollama_exporter import AsyncTransport, Observation, Transport, instrument, uninstrument
from ollama_exporter.errors import ConfigError
from ollama_exporter.shim.observation import Outcome
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.exporting import Samples, parsed

URL = "http://127.0.0.1:11434"
QUICK = Config(catalogue=default_catalogue().compressed(60.0))
DONE = {"model": "m", "done": True, "eval_count": 2}


class Memory(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport for both kinds of clients; reads the body as most do, or past its stream."""

    def __init__(self, *, past_the_stream: bool = False) -> None:
        self._past = past_the_stream
        self.entered = self.left = self.closed = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self._past:
            assert isinstance(request.stream, httpx.SyncByteStream)
            b"".join(request.stream)
        return httpx.Response(200, json=DONE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._past:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            [data async for data in request.stream]
        return httpx.Response(200, json=DONE)

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.left += 1

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left += 1

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class App:
    """Where one application's records go."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seen: list[Observation] = []

    def instrument(self, client: object) -> None:
        instrument(client, registry=self.registry, on_request=self.seen.append)

    def samples(self) -> Samples:
        return parsed(generate_latest(self.registry).decode())


# -- transports inside ours ------------------------------------------------------------------------


@pytest.mark.parametrize("past_the_stream", [False, True])
def test_a_transport_for_both_kinds_serves_the_client_s_kind(past_the_stream: bool) -> None:  # noqa: FBT001 - a case
    app, inner = App(), Memory(past_the_stream=past_the_stream)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=inner, base_url=URL) as aio:
            app.instrument(aio)
            assert (await aio.post("/api/chat", json={"model": "asked"})).json() == DONE

    with httpx.Client(transport=inner, base_url=URL) as client:
        app.instrument(client)
        assert client.post("/api/chat", json={"model": "asked"}).json() == DONE
    asyncio.run(ask())
    assert [seen.model for seen in app.seen] == ["asked:latest"] * 2
    assert [seen.request_bytes for seen in app.seen] == [len(b'{"model":"asked"}')] * 2


def test_a_body_that_is_neither_in_memory_nor_read_is_not_known() -> None:
    app = App()
    with httpx.Client(transport=Memory(past_the_stream=True), base_url=URL) as client:
        app.instrument(client)
        client.post("/api/chat", content=iter([b'{"model":"asked"}']))
    assert [(seen.model, seen.request_bytes) for seen in app.seen] == [("m:latest", 0)]


def test_a_transport_inside_is_entered_and_left_as_without_us() -> None:
    bare, inside = Memory(), Memory()

    async def visit(client: httpx.AsyncClient) -> None:
        async with client:
            await client.get("/api/version")

    with httpx.Client(transport=bare, base_url=URL), httpx.Client(base_url=URL):
        pass
    with httpx.Client(transport=Transport(inside, base_url=URL, registry=CollectorRegistry())):
        pass
    assert (bare.entered, bare.left) == (inside.entered, inside.left) == (1, 1)
    inner, registry = Memory(), CollectorRegistry()
    transport = AsyncTransport(inner, base_url=URL, registry=registry)
    asyncio.run(visit(httpx.AsyncClient(transport=transport, base_url=URL)))
    assert (inner.entered, inner.left) == (1, 1)


def test_an_unfinished_body_of_the_application_s_is_not_the_server_s_failure() -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model":"m",'
        raise ZeroDivisionError

    async def aio_pieces() -> AsyncIterator[bytes]:
        yield b'{"model":"m",'
        raise ZeroDivisionError

    app = App()

    async def ask() -> None:
        async with httpx.AsyncClient(transport=Memory(), base_url=URL) as aio:
            app.instrument(aio)
            with pytest.raises(ZeroDivisionError):
                await aio.post("/api/chat", content=aio_pieces())

    with httpx.Client(transport=Memory(), base_url=URL) as client:
        app.instrument(client)
        with pytest.raises(ZeroDivisionError):
            client.post("/api/chat", content=pieces())
    asyncio.run(ask())
    assert [seen.outcome for seen in app.seen] == [Outcome.CLIENT_GONE] * 2


class Failing(httpx.SyncByteStream):
    """An answer that cannot be closed."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"{}\n"

    def close(self) -> None:
        raise OSError


class Unclosable(httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return httpx.Response(200, stream=Failing())


def test_an_answer_that_cannot_be_closed_is_over_all_the_same() -> None:
    app = App()
    client = httpx.Client(transport=Unclosable(), base_url=URL)
    app.instrument(client)
    with pytest.raises(OSError), client.stream("POST", "/api/chat", json={"model": "m"}):  # noqa: PT011 - no message
        pass
    assert [seen.outcome for seen in app.seen] == [Outcome.CLIENT_GONE]


class Raising(httpx.BaseTransport):
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def handle_request(self, _: httpx.Request) -> httpx.Response:
        raise self._error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("x"), Outcome.UPSTREAM_ERROR),
        (httpx.RemoteProtocolError("x"), Outcome.UPSTREAM_ERROR),
        (httpx.ReadError("x"), Outcome.UPSTREAM_ERROR),
        (httpx.ProxyError("x"), Outcome.UPSTREAM_ERROR),
        (ConnectionResetError(), Outcome.UPSTREAM_ERROR),
        (httpx.ConnectTimeout("x"), Outcome.TIMEOUT),
        (httpx.ReadTimeout("x"), Outcome.TIMEOUT),
        (httpx.WriteTimeout("x"), Outcome.TIMEOUT),
        (httpx.PoolTimeout("x"), Outcome.TIMEOUT),
        (asyncio.CancelledError(), Outcome.CLIENT_GONE),
        (KeyboardInterrupt(), Outcome.CLIENT_GONE),
        (GeneratorExit(), Outcome.CLIENT_GONE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_failure_goes_through_unchanged_and_has_its_outcome(
    error: BaseException, outcome: Outcome
) -> None:
    app = App()
    with httpx.Client(transport=Raising(error), base_url=URL) as client:
        app.instrument(client)
        with pytest.raises(type(error)) as raised:
            client.post("/api/chat", json={"model": "m"})
    assert raised.value is error
    assert [seen.outcome for seen in app.seen] == [outcome]
    assert app.samples()["ollama_requests_in_flight", "route=/api/chat"] == 0


# -- which requests, and how often -----------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",  # noqa: S104 - asked for, not bound
        "0.0.0.0:4000",
        "[::]:4000",
        "localhost",
        "https://x.example:8443/base",
    ],
)
def test_each_form_of_a_client_s_host_is_recorded(host: str) -> None:
    app, client = App(), ollama.Client(host, transport=Memory())
    app.instrument(client)
    client.generate("m")
    assert [seen.route.label for seen in app.seen] == ["/api/generate"]


def test_a_base_url_with_a_password_is_accepted_and_never_told() -> None:
    app = App()
    with httpx.Client(transport=Memory(), base_url="http://me:hidden@h:1/") as client:
        app.instrument(client)
        client.post("/api/chat", json={"model": "m"})
    assert len(app.seen) == 1
    assert "hidden" not in f"{app.seen}{generate_latest(app.registry).decode()}"


def test_what_ollama_host_names_is_recorded_where_the_client_names_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()
    monkeypatch.setenv("OLLAMA_HOST", "there:4000/base")
    with httpx.Client(transport=Memory()) as client:
        app.instrument(client)
        for url in ("http://there:4000/base/api/ps", "http://there:4001/api/ps"):
            client.get(url)
    assert [seen.route.label for seen in app.seen] == ["/api/ps"]
    monkeypatch.setenv("OLLAMA_HOST", "ftp://x")
    with pytest.raises(ConfigError, match="OLLAMA_HOST"):
        Transport(registry=app.registry)


def test_another_host_is_not_recorded_for_asynchronous_clients_either() -> None:
    app = App()

    async def ask() -> None:
        async with httpx.AsyncClient(transport=Memory(), base_url=URL) as aio:
            app.instrument(aio)
            for url in ("http://elsewhere/api/chat", "/api/chat"):
                assert (await aio.post(url, json={"model": "m"})).json() == DONE

    asyncio.run(ask())
    assert len(app.seen) == 1


def test_a_client_around_a_transport_of_ours_is_counted_once() -> None:
    app = App()
    ours = Transport(
        Memory(), base_url=URL, registry=app.registry, on_request=lambda _: pytest.fail("twice")
    )
    with httpx.Client(transport=ours, base_url=URL) as client:
        app.instrument(client)
        client.post("/api/chat", json={"model": "m"})
        assert len(app.seen) == 1
        uninstrument(client)
        assert client._transport is ours  # noqa: SLF001 - what is promised
    labels = "code=200,model=m:latest,route=/api/chat"
    assert app.samples()["ollama_requests_total", labels] == 1


def test_registries_of_two_owners_both_count() -> None:
    outer, inner = App(), App()
    ours = Transport(Memory(), base_url=URL, registry=inner.registry, on_request=inner.seen.append)
    with httpx.Client(transport=ours, base_url=URL) as client:
        outer.instrument(client)
        client.post("/api/chat", json={"model": "m"})
    assert [seen.model for seen in outer.seen] == [seen.model for seen in inner.seen]
    assert len(outer.seen) == 1


def test_threads_that_instrument_one_client_wrap_it_once() -> None:
    app, inner = App(), Memory()
    client = httpx.Client(transport=inner, base_url=URL, mounts={"http://x": Memory()})
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        app.instrument(client)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    uninstrument(client)
    assert client._transport is inner  # noqa: SLF001 - what is promised
    client.close()


def test_threads_that_ask_at_once_are_all_counted() -> None:
    app = App()
    with httpx.Client(transport=Memory(), base_url=URL) as client:
        app.instrument(client)

        def work() -> None:
            for _ in range(50):
                client.post("/api/chat", json={"model": "m"})

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    samples = app.samples()
    assert samples["ollama_requests_total", "code=200,model=m:latest,route=/api/chat"] == 400
    assert samples["ollama_requests_in_flight", "route=/api/chat"] == 0
    assert samples["ollama_exporter_recorder_errors_total", ""] == 0
    assert len({seen.id for seen in app.seen}) == 400


def test_a_client_inside_another_library_s_object_is_found() -> None:
    app = App()
    model = SimpleNamespace(_client=ollama.Client(URL, transport=Memory()))  # as langchain's
    app.instrument(model)
    model._client.generate("m")  # noqa: SLF001 - as langchain does
    uninstrument(model)
    model._client.generate("m")  # noqa: SLF001 - as above
    assert len(app.seen) == 1


# -- over real sockets -----------------------------------------------------------------------------


def test_redirects_and_retries_are_exchanges_of_their_own() -> None:
    answers: Iterator[Any] = iter(
        [
            httpx.Response(307, headers={"location": "/api/chat"}),
            httpx.Response(503, json={"error": "server busy"}),
            httpx.Response(200, json=DONE),
        ]
    )
    app = App()
    transport = httpx.MockTransport(lambda _: next(answers))
    with httpx.Client(transport=transport, base_url=URL, follow_redirects=True) as client:
        app.instrument(client)
        assert client.post("/api/chat", json={"model": "m"}).status_code == 503
        assert client.post("/api/chat", json={"model": "m"}).status_code == 200
    assert [seen.code for seen in app.seen] == [307, 503, 200]
    assert app.seen[1].outcome is Outcome.QUEUE_FULL
    assert all(seen.request_bytes == len(b'{"model":"m"}') for seen in app.seen)


def test_bytes_that_are_sent_are_the_same_as_without_us() -> None:
    sent: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []

    def keep(request: httpx.Request) -> httpx.Response:
        fields = [f for f in request.headers.raw if f[0].lower() != b"content-type"]
        sent.append((request.read(), fields))
        return httpx.Response(200, json=DONE)

    app = App()
    with httpx.Client(transport=httpx.MockTransport(keep), base_url=URL) as client:
        for instrumented in (False, True):
            if instrumented:
                app.instrument(client)
            client.post("/api/chat", json={"model": "m"})
            client.post("/api/chat", content=iter([b'{"model":', b'"m"}']))
            client.post(
                "/v1/audio/transcriptions",
                data={"model": "whisper"},
                files={"file": ("a.wav", b"RIFF" * 9)},
                headers={"content-type": "multipart/form-data; boundary=abc"},
            )
    assert sent[:3] == sent[3:]
    assert [seen.request_fields.model for seen in app.seen] == ["m", "m", "whisper"]


def test_an_ollama_client_s_dropped_generator_is_a_client_that_left() -> None:
    async def run() -> None:
        async with Simulator(QUICK) as sim:
            await asyncio.to_thread(check, sim.url)

    def check(url: str) -> None:
        app, client = App(), ollama.Client(url)
        app.instrument(client)
        stream = client.generate("llama3.2", "hi [[n=500 ttft=0.01 tps=100]]", stream=True)
        next(iter(stream))
        del stream
        assert [seen.outcome for seen in app.seen] == [Outcome.CLIENT_GONE]
        assert app.samples()["ollama_requests_in_flight", "route=/api/generate"] == 0
        client._client.close()  # noqa: SLF001 - older ones have no close of their own

    asyncio.run(run())
