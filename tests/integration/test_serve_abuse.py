# SPDX-License-Identifier: Apache-2.0
"""What must not bring the exporter down or make it lie: abuse from outside, defects inside."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ollama_exporter.config.load import load
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError, FailureReason, StartError
from ollama_exporter.net import listen, spelled
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.poller.poller import Poller, Sinks
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.runtime import run
from ollama_exporter.web.uvicorn_server import FIRST_ANSWER, WebConnection, server
from tests.support.ahead import put_forward, run_ahead
from tests.support.exporting import until
from tests.support.patience import PATIENCE
from tests.support.timelines import GivenTimeline
from tests.support.virtual import run_virtually

NOBODY: Final = "http://127.0.0.1:9"


class Hasty(WebConnection):
    first_answer = 0.1


# -- connections -----------------------------------------------------------------------------------


async def serving(
    check: Callable[[str, int], Awaitable[None]], connection: type[WebConnection] = Hasty
) -> None:
    """Serve a big answer at / with hasty connections; run the check with host and port."""

    async def big(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("x" * 20_000_000)

    async def patient(request: Request) -> PlainTextResponse:
        with suppress(ClientDisconnect):
            await request.body()
        return PlainTextResponse("read")

    routes = [Route("/", big), Route("/patient", patient, methods=["POST"])]
    web = server(Starlette(routes=routes), connection=connection)
    [socket] = sockets = listen(["127.0.0.1:0"], field="web.listen-address")
    task = asyncio.create_task(web.serve(sockets=sockets))
    host, _, port = spelled(socket).rpartition(":")
    try:
        await check(host, int(port))
    finally:
        web.should_exit = True
        await task


def test_half_a_head_does_not_hold_a_connection_for_ever() -> None:
    async def check(host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTT")
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()

    asyncio.run(serving(check))


def test_a_complete_request_outlives_the_time_of_the_first_answer() -> None:
    async def check(host: str, port: int) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            addresses = set()
            for _ in range(2):
                answer = await client.get(f"http://{host}:{port}/")
                assert answer.status_code == 200
                stream = answer.extensions["network_stream"]
                addresses.add(stream.get_extra_info("client_addr"))
                put_forward(2 * FIRST_ANSWER)
            assert len(addresses) == 1

    run_ahead(serving(check, WebConnection))


class Few(WebConnection):
    most_open = 5


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_idle_connections_make_room_for_new_ones(first: bytes) -> None:
    async def check(host: str, port: int) -> None:
        idle = []
        for _ in range(3 * Few.most_open):
            reader, writer = await asyncio.open_connection(host, port)
            if first:
                writer.write(first.replace(b"GET", b"HEAD"))
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            idle.append((reader, writer))
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            assert (await client.get(f"http://{host}:{port}/")).status_code == 200
        for reader, _ in idle[: Few.most_open]:  # those that had been idle for longest are gone
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        for _, writer in idle:
            writer.close()

    asyncio.run(serving(check, Few))


@pytest.mark.parametrize("route", ["/", "/patient"])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("broken", [b"zz\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_what_is_no_http_behind_a_head_costs_no_traceback(
    caplog: pytest.LogCaptureFixture, route: str, broken: bytes, *, waits: bool
) -> None:
    async def check(host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST {route} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        writer.write(head if waits else head + broken)
        answer = b""
        if waits:
            if route == "/":  # answered before the body is there
                answer = await asyncio.wait_for(reader.readuntil(b"Allowed"), PATIENCE)
            writer.write(broken)
        answer += await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer.count(b"HTTP/1.1 4") == 1
        writer.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(serving(check, WebConnection))
    assert not caplog.records


@pytest.mark.parametrize("host", ["a..b", "nosuch.invalid"])
def test_a_host_that_cannot_be_is_told_in_one_line(host: str) -> None:
    with pytest.raises(StartError) as told:
        listen([f"{host}:0"], field="web.listen-address")
    assert host in str(told.value)
    assert "Unknown error" not in str(told.value)
    assert "\n" not in str(told.value)


# -- polls -----------------------------------------------------------------------------------------


class Server:
    """Answers as told: `listing` or `failure`, and counts."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.listing: tuple[RunningModel, ...] = ()
        self.asked: list[float] = []
        self.versions = 0

    async def ps(self) -> PsAnswer:
        self.asked.append(asyncio.get_running_loop().time())
        if self.failure is not None:
            raise self.failure
        return PsAnswer(self.listing, 200, None, None, len(self.asked) == 1, b"{}")

    async def version(self) -> str:
        self.versions += 1
        return "1"

    async def tags(self) -> tuple[InstalledModel, ...]:
        return ()


class Clock:
    """The loop's time, and what was added to it."""

    ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


async def polling(
    fake: Server, sinks: Sinks, check: Callable[[Poller, Clock], Awaitable[None]], interval: float
) -> None:
    clock = Clock()
    poller = Poller(
        fake,
        Tracker(window=60.0),
        lambda: Cadence(interval),
        sinks,
        timeline=GivenTimeline(clock),
        jitter=lambda: 0.0,
    )
    task = asyncio.create_task(poller.run())
    try:
        await check(poller, clock)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_an_unforeseen_error_of_a_poll_is_an_outage_and_the_polls_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake, errors = Server(), list[int]()
    fake.failure = ZeroDivisionError()

    async def check(poller: Poller, _clock: Clock) -> None:
        await until(lambda: len(fake.asked) == 2)
        assert not poller.is_up()
        assert poller.published().server.failures[FailureReason.MALFORMED] >= 1
        fake.failure = None
        await until(poller.is_up)

    run_virtually(polling(fake, Sinks(errors=lambda: errors.append(1)), check, 0.05))
    assert errors
    assert "Unexpected error while polling" in caplog.text


def test_a_raising_sink_of_polls_does_not_end_them() -> None:
    fake, errors = Server(), list[int]()

    def full(_poll: object, _answer: object) -> None:
        raise OSError(28, "disk full")

    async def check(_poller: Poller, _clock: Clock) -> None:
        await until(lambda: len(fake.asked) == 3)

    sinks = Sinks(on_poll=[full], errors=lambda: errors.append(1))
    run_virtually(polling(fake, sinks, check, 0.05))
    assert len(errors) >= 2


def test_a_deadline_that_a_scrape_shows_is_polled_around() -> None:
    fake = Server()

    async def check(poller: Poller, clock: Clock) -> None:
        await until(poller.is_up)
        clock.ahead += 6  # the poll of the start is stale now, the next is 3594 s away
        deadline = clock() + 1.1
        fake.listing = (RunningModel("a:latest", "d" * 64, deadline),)
        await poller.refresh()
        assert len(fake.asked) == 2
        await until(lambda: len(fake.asked) == 4)

    run_virtually(polling(fake, Sinks(), check, 3600))


def test_a_changed_cadence_holds_at_once() -> None:
    fake, cadence = Server(), [3600.0]

    async def main() -> None:
        clock = Clock()
        poller = Poller(
            fake,
            Tracker(window=60.0),
            lambda: Cadence(cadence[0]),
            Sinks(),
            timeline=GivenTimeline(clock),
            jitter=lambda: 0.0,
        )
        task = asyncio.create_task(poller.run())
        await until(poller.is_up)
        cadence[0] = 0.02
        poller.reschedule()
        await until(lambda: len(fake.asked) > 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


# -- settings, state, start ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["log.level: 2020-13-99\n", "log.level: 0000-01-01\n"])
def test_an_impossible_date_in_the_file_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        load({}, environment={}, file=file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("web.telemetry-path", "//evil.example/x"), ("ollama.url", "http://ü..x")],
)
def test_a_value_that_would_break_later_is_refused_at_once(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as told:
        load({name: value}, environment={})
    assert told.value.field == f"--{name}"


def test_what_cannot_be_read_ends_the_start_before_anything_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        ollama_url=NOBODY,
        ollama_token_file=tmp_path / "missing",
        listen_addresses=("127.0.0.1:0",),
    )
    with caplog.at_level(logging.INFO), pytest.raises(ConfigError):
        asyncio.run(run(settings, stop=asyncio.Event()))
    assert "Listening on" not in caplog.text


def saved_state(file: Path, *, at: float) -> None:
    life = {
        "model": {"name": "a:latest", "digest": "d" * 64, "expires_at": at + 300},
        "since": None,
        "first_seen": at,
        "seen": at,
        "expires": at + 300,
        "epoch": 0,
    }
    last = {"started": at, "ended": at, "models": []}
    state = {"last": last, "lives": [life], "known": ["a:latest"]}
    file.write_text(json.dumps({"version": 1, "url": NOBODY, "state": state}), encoding="utf-8")


async def scrape_with_state(file: Path, caplog: pytest.LogCaptureFixture) -> str:
    settings = Settings(ollama_url=NOBODY, listen_addresses=("127.0.0.1:0",), state_file=file)
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop=stop))

    def addresses() -> list[str]:
        return [str(vars(r)["address"]) for r in caplog.records if r.message == "Listening on"]

    await until(lambda: bool(addresses()))
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        text = (await client.get(f"http://{addresses()[0]}/metrics")).text
    stop.set()
    await task
    return text


def test_counters_of_a_model_taken_up_stand_at_0_before_it_unloads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state"
    saved_state(file, at=1_700_000_000.0)
    with caplog.at_level(logging.INFO):
        text = asyncio.run(scrape_with_state(file, caplog))
    assert 'ollama_model_unloads_total{model="a:latest",reason="expired"} 0.0' in text


def test_a_state_of_a_later_time_is_taken_up_as_of_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine without a battery for its clock starts before its clock is set."""
    file = tmp_path / "state"
    saved_state(file, at=32_000_000_000.0)
    with caplog.at_level(logging.INFO):
        text = asyncio.run(scrape_with_state(file, caplog))
    assert "dated in the future" in caplog.text
    assert 'ollama_model_unloads_total{model="a:latest",reason="expired"} 0.0' in text
