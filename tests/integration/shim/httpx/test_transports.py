# SPDX-License-Identifier: Apache-2.0
"""The shim inside an application, over real sockets."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

import ollama_exporter
from ollama_exporter import AsyncTransport, Observation, Transport, instrument, uninstrument
from ollama_exporter.errors import ConfigError
from ollama_exporter.shim.observation import Outcome, Phase, Start
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.exporting import Samples, parsed
from tests.support.faultserver import FaultServer, faultserver
from tests.support.patience import PATIENCE

QUICK = Config(catalogue=default_catalogue().compressed(60.0))
SLOW = Config(catalogue=default_catalogue().compressed(20.0))  # loads of over half a second
ASK = {"model": "llama3.2", "prompt": "hi [[n=3 ttft=0.01 tps=100]]"}
LONG = {"model": "llama3.2", "prompt": "hi [[n=500 ttft=0.01 tps=100]]"}


@dataclass(slots=True)
class App:
    """An application with a registry of its own."""

    url: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    seen: list[Observation] = field(default_factory=list)

    def sync(self, inner: httpx.BaseTransport | None = None) -> httpx.Client:
        transport = Transport(
            inner, base_url=self.url, registry=self.registry, on_request=self.seen.append
        )
        return httpx.Client(transport=transport, base_url=self.url, timeout=PATIENCE)

    def aio(self, inner: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
        transport = AsyncTransport(
            inner, base_url=self.url, registry=self.registry, on_request=self.seen.append
        )
        return httpx.AsyncClient(transport=transport, base_url=self.url, timeout=PATIENCE)

    def samples(self) -> Samples:
        return parsed(generate_latest(self.registry).decode())


@asynccontextmanager
async def app(config: Config = QUICK) -> AsyncIterator[App]:
    async with Simulator(config) as sim:
        yield App(sim.url)


def with_app(check: Callable[[App], None], config: Config = QUICK) -> None:
    async def run() -> None:
        async with app(config) as running:
            await asyncio.to_thread(check, running)

    asyncio.run(run())


def with_async_app(check: Callable[[App], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with app() as running:
            await check(running)

    asyncio.run(run())


# -- what is recorded ------------------------------------------------------------------------------


def test_a_streamed_answer_is_the_same_and_taken_apart() -> None:
    def check(app: App) -> None:
        with httpx.Client(base_url=app.url, timeout=PATIENCE) as bare, app.sync() as client:
            plain = bare.post("/api/generate", json=ASK)
            with client.stream("POST", "/api/generate", json=ASK) as answer:
                lines = list(answer.iter_lines())
        assert len(lines) == len(plain.text.splitlines()) == 4
        assert answer.headers.keys() == plain.headers.keys()
        (seen,) = app.seen
        assert (seen.outcome, seen.code, seen.model) == (Outcome.ANSWERED, 200, "llama3.2:latest")
        assert (seen.response.output_tokens, seen.response.finish) == (3, "stop")
        assert seen.time_to_first_token is not None
        assert 0 < seen.time_to_first_token < seen.duration
        assert seen.request_bytes == len(plain.request.content)
        assert seen.response_bytes == len("".join(lines)) + 4

    with_app(check)


def test_a_first_call_is_cold_and_the_next_one_warm() -> None:
    def check(app: App) -> None:
        with app.sync() as client:
            for _ in range(2):
                client.post("/api/generate", json=ASK)
        assert [seen.start for seen in app.seen] == [Start.COLD, Start.WARM]
        samples = app.samples()
        assert samples["ollama_cold_starts_total", "model=llama3.2:latest"] == 1
        assert samples["ollama_model_load_seconds_count", "model=llama3.2:latest"] == 1
        assert samples["ollama_exporter_recorder_errors_total", ""] == 0

    with_app(check, SLOW)


def test_another_host_is_passed_through_untouched() -> None:
    def check(app: App) -> None:
        elsewhere = App("http://127.0.0.1:9")
        with elsewhere.sync() as client:
            answer = client.post(f"{app.url}/api/generate", json=ASK)
        assert answer.status_code == 200
        assert elsewhere.seen == []

    with_app(check)


def test_a_base_url_below_a_path_is_the_same_api() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"model": "m", "done": True, "eval_count": 2})

    app = App("http://gateway/ollama")
    with app.sync(httpx.MockTransport(answer)) as client:
        assert client.post("/api/chat", json={"model": "m"}).json()["eval_count"] == 2
        client.get("/api/elsewhere")
        client.get("http://gateway/")
    labels = [seen.route.label for seen in app.seen]
    assert labels == ["/api/chat", "other", "/"]
    assert app.seen[0].response.output_tokens == 2


def test_a_body_that_is_made_on_the_way_is_passed_on_piece_by_piece() -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model":"llama3.2",'
        yield b'"prompt":"hi [[n=1]]","stream":false}'

    def check(app: App) -> None:
        with app.sync() as client:
            assert client.post("/api/generate", content=pieces()).status_code == 200
        (seen,) = app.seen
        assert (seen.model, seen.request_fields.stream) == ("llama3.2:latest", False)

    with_app(check)


def test_an_asynchronous_client_is_recorded_alike() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"model":"llama3.2","prompt":"hi [[n=2]]"}'

    async def check(app: App) -> None:
        async with app.aio() as client:
            await client.post("/api/generate", json=ASK)
            await client.post("/api/generate", content=pieces())
            async with client.stream("POST", "/api/generate", json=ASK) as answer:
                assert len([line async for line in answer.aiter_lines()]) == 4
        assert [seen.response.output_tokens for seen in app.seen] == [3, 2, 3]

    with_async_app(check)


# -- ends before the end ---------------------------------------------------------------------------


def test_a_stream_that_is_closed_early_is_a_client_that_left() -> None:
    def check(app: App) -> None:
        with app.sync() as client:
            with client.stream("POST", "/api/generate", json=LONG) as answer:
                next(answer.iter_lines())
            lines = client.stream("POST", "/api/generate", json=LONG)
            answer = lines.__enter__()
            iterator: Any = answer.iter_raw()
            next(iterator)
            iterator.close()  # the generator, not the answer
            lines.__exit__(None, None, None)
        assert [seen.outcome for seen in app.seen] == [Outcome.CLIENT_GONE] * 2
        assert [seen.phase for seen in app.seen] == [Phase.DECODE] * 2
        labels = "model=llama3.2:latest,phase=decode"  # what answered is a model, if not to the end
        assert app.samples()["ollama_requests_aborted_total", labels] == 2

    with_app(check)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the point of it
def test_an_answer_that_is_dropped_unread_is_ended_by_the_collector() -> None:
    def check(app: App) -> None:
        client = app.sync()
        request = client.build_request("POST", "/api/generate", json=LONG)
        answer: Any = client.send(request, stream=True)
        del answer, request
        gc.collect()
        assert [seen.phase for seen in app.seen] == [Phase.PREFILL]
        client.close()

    with_app(check)


def test_a_task_that_is_cancelled_leaves() -> None:
    async def check(app: App) -> None:
        async with app.aio() as client:

            async def read() -> None:
                async with client.stream("POST", "/api/generate", json=LONG) as answer:
                    async for _ in answer.aiter_raw():
                        started.set()

            started = asyncio.Event()
            task = asyncio.create_task(read())
            await started.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            waiting = asyncio.create_task(
                client.post("/api/generate", json={**LONG, "stream": False})
            )
            await asyncio.sleep(0.05)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
        assert [seen.outcome for seen in app.seen] == [Outcome.CLIENT_GONE] * 2
        assert [seen.phase for seen in app.seen] == [Phase.DECODE, Phase.PREFILL]
        assert app.samples()["ollama_requests_in_flight", "route=/api/generate"] == 0

    with_async_app(check)


def test_an_asynchronous_answer_that_is_not_read_is_ended_as_it_is_closed() -> None:
    async def check(app: App) -> None:
        async with app.aio() as client, client.stream("POST", "/api/generate", json=LONG):
            pass
        assert [seen.phase for seen in app.seen] == [Phase.PREFILL]

    with_async_app(check)


# -- what goes wrong -------------------------------------------------------------------------------


def test_errors_of_the_network_go_through_and_are_told_apart() -> None:
    async def check() -> None:
        async def stall(_: FaultServer, __: Any, ___: Any) -> None:
            await asyncio.sleep(5)

        async def cut(_: FaultServer, __: Any, writer: asyncio.StreamWriter) -> None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
            writer.write(head + b"Content-Length: 99\r\n\r\n{}\n")
            writer.close()

        refused = App("http://127.0.0.1:9")
        with refused.sync() as client, pytest.raises(httpx.ConnectError):
            client.post("/api/generate", json=ASK)
        assert [(s.outcome, s.code) for s in refused.seen] == [(Outcome.UPSTREAM_ERROR, 0)]
        async with faultserver(stall) as server:
            slow = App(server.url)
            async with slow.aio() as aio:
                brief = httpx.Timeout(PATIENCE, read=0.05)
                with pytest.raises(httpx.ReadTimeout):
                    await aio.post("/api/generate", content=b"", timeout=brief)
            assert [s.outcome for s in slow.seen] == [Outcome.TIMEOUT]
        async with faultserver(cut) as server:
            broken = App(server.url)

            def read() -> None:
                with broken.sync() as client, pytest.raises(httpx.RemoteProtocolError):
                    client.post("/api/generate", content=b"")

            await asyncio.to_thread(read)
            async with broken.aio() as aio:
                with pytest.raises(httpx.RemoteProtocolError):
                    await aio.post("/api/generate", content=b"")
            assert [(s.outcome, s.code) for s in broken.seen] == [(Outcome.TRUNCATED, 200)] * 2

    asyncio.run(check())


def test_an_application_s_own_error_costs_nothing_and_is_counted() -> None:
    def check(app: App) -> None:
        def raising(_: Observation) -> None:
            raise ZeroDivisionError

        transport = Transport(base_url=app.url, registry=app.registry, on_request=raising)
        with httpx.Client(transport=transport, base_url=app.url, timeout=PATIENCE) as client:
            for _ in range(2):
                assert client.get("/api/version").status_code == 200
        assert app.samples()["ollama_exporter_recorder_errors_total", ""] == 2

    with_app(check)


# -- instrument ------------------------------------------------------------------------------------


def test_what_a_client_was_built_with_stays() -> None:
    async def check(app: App) -> None:
        inner, mounted = httpx.HTTPTransport(), httpx.HTTPTransport()
        client = httpx.Client(
            transport=inner,
            base_url=app.url,
            mounts={"http://other": mounted, "https://": None},
            timeout=PATIENCE,
        )
        before = (client._transport, dict(client._mounts))  # noqa: SLF001 - what is promised
        for _ in range(2):  # twice is once
            instrument(client, registry=app.registry, on_request=app.seen.append)
        await asyncio.to_thread(client.get, "/api/version")
        assert len(app.seen) == 1
        for _ in range(2):
            uninstrument(client)
        assert (client._transport, dict(client._mounts)) == before  # noqa: SLF001 - as above
        await asyncio.to_thread(client.get, "/api/version")
        assert len(app.seen) == 1
        await asyncio.to_thread(client.close)

    with_async_app(check)


def test_a_transport_that_the_application_put_there_is_not_taken_away() -> None:
    app = App("http://127.0.0.1:9")
    client = app.sync()
    uninstrument(client)
    assert isinstance(client._transport, Transport)  # noqa: SLF001 - what is promised
    client.close()


def test_what_has_no_client_in_it_is_refused() -> None:
    with pytest.raises(TypeError, match="client: a int cannot be instrumented"):
        instrument(7)
    with pytest.raises(ConfigError, match="base_url"):
        Transport(base_url="ftp://x")


def test_clients_of_one_registry_share_its_families() -> None:
    first, second = httpx.Client(), httpx.AsyncClient()
    registry = CollectorRegistry()
    instrument(first, registry=registry)
    instrument(second, registry=registry)
    text = generate_latest(registry).decode()
    assert text.count("# TYPE ollama_requests_total counter") == 1
    first.close()
    asyncio.run(second.aclose())


def test_importing_the_package_brings_no_server_along() -> None:
    code = (
        "import sys\n"
        "for absent in ('click', 'starlette', 'uvicorn', 'rich', 'yaml'):\n"
        "    sys.modules[absent] = None\n"  # an import of it fails; httpx lives without its own
        "import ollama_exporter\n"
        "assert 'httpx' not in sys.modules\n"
        "import httpx\n"
        "ollama_exporter.instrument(httpx.Client())\n"
        "ollama_exporter.Transport(); ollama_exporter.AsyncTransport()\n"
        "print('imported')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout == "imported\n"
    assert set(ollama_exporter.__all__) <= {*dir(ollama_exporter), *ollama_exporter.__all__}
    with pytest.raises(AttributeError, match="nothing"):
        ollama_exporter.nothing  # noqa: B018 - raising is the point


def test_the_default_registry_is_the_library_s_own() -> None:
    client = httpx.Client()
    instrument(client)
    assert REGISTRY.get_sample_value("ollama_exporter_recorder_errors_total") == 0
    client.close()


def test_without_the_ollama_package_both_ways_to_go_on_are_named() -> None:
    code = (
        "import sys; sys.modules['ollama'] = None\n"
        "import ollama_exporter\n"
        "try: ollama_exporter.instrument()\n"
        "except ImportError as err: print(type(err).__name__, err)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingPackageError ")
    assert "pip install ollama" in done.stdout
    assert "instrument(client)" in done.stdout
