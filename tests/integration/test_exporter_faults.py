# SPDX-License-Identifier: Apache-2.0
"""A whole exporter against faults of the server, and against clients that misbehave."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, Final

import httpx
import pytest

from ollama_exporter.errors import FailureReason
from ollama_exporter.residency.events import Found, Loaded, Reason, Restarted, Unloaded
from tests.support.exporting import Running, Samples, exporting, until
from tests.support.faultserver import (
    Behaviour,
    FaultServer,
    answer,
    entry,
    expiring,
    faultserver,
    good,
    hang_up,
    huge,
    late,
    reset,
    silent,
    trickling,
)
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

MODEL: Final = "llama3.2:1b"
HOUR: Final = 3600.0
OUTAGES: Final[dict[str, tuple[Behaviour, FailureReason]]] = {
    "silent": (silent, FailureReason.TIMEOUT),
    "trickling": (trickling, FailureReason.TIMEOUT),
    "reset": (reset, FailureReason.RESET),
    "hung up": (hang_up, FailureReason.RESET),
    "404": (answer(b"{}", status="404 Not Found"), FailureReason.STATUS),
    "500": (answer(b"{}", status="500 Internal Server Error"), FailureReason.STATUS),
    "301": (answer(b"", status="301 Moved Permanently"), FailureReason.STATUS),
    "HTML": (answer(b"<html></html>"), FailureReason.MALFORMED),
    "cut JSON": (answer(b'{"models":['), FailureReason.MALFORMED),
    "huge": (huge, FailureReason.MALFORMED),
}
# of one model; `ollama_model_loaded` is apart, an expected model keeps it
RESIDENCY: Final = (
    "ollama_model_info",
    "ollama_model_memory_bytes",
    "ollama_model_vram_bytes",
    "ollama_model_context_tokens",
    "ollama_model_expires_timestamp_seconds",
    "ollama_model_loaded_timestamp_seconds",
)
ANSWERS, SILENT = "Server answers", "Server does not answer"
Use = Callable[[FaultServer, Running], Awaitable[None]]


def with_exporter(use: Use, *, offset: float = 0.0, **changes: Any) -> None:
    """Run `use` with an exporter of a server in which one model is resident for ever.

    `offset`: of the server's clock, in seconds, from the first poll on.
    """

    async def main() -> None:
        async with faultserver() as server:
            server.models = [entry(MODEL, None)]
            server.offset = offset
            async with exporting(server.url, **changes) as exporter:
                await exporter.until(up)
                await use(server, exporter)

    asyncio.run(main())


def up(samples: Samples) -> bool:
    return samples["ollama_up", ""] == 1


def down(samples: Samples) -> bool:
    return samples["ollama_up", ""] == 0


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def unloads(exporter: Running) -> list[Unloaded]:
    return [event for event in exporter.events if isinstance(event, Unloaded)]


def told_of(exporter: Running) -> list[logging.LogRecord]:
    """Return what was logged of outages and their ends."""
    return [r for r in exporter.log.records if r.getMessage() in (ANSWERS, SILENT)]


def assert_told_once(before: list[logging.LogRecord], last: logging.LogRecord) -> None:
    """Check that each beginning and each end was logged once: they take turns."""
    told = [record.getMessage() for record in (*before, last)]
    assert told == [ANSWERS, SILENT] * (len(told) // 2) + [ANSWERS] * (len(told) % 2)


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_told_counted_by_reason_logged_once_and_recovered_from(outage: str) -> None:
    behave, reason = OUTAGES[outage]

    async def use(server: FaultServer, exporter: Running) -> None:
        before = await exporter.samples()
        assert set(RESIDENCY) <= names(before)
        assert before["ollama_model_loaded", f"model={MODEL}"] == 1
        server.behave = behave
        counted = ("ollama_poll_failures_total", f"reason={reason}")
        samples = await exporter.until(lambda found: found[counted] >= 2)
        assert down(samples)
        assert not names(samples) & set(RESIDENCY)
        loaded = {key: value for key, value in samples.items() if key[0] == "ollama_model_loaded"}
        assert loaded == {("ollama_model_loaded", "model=expected:latest"): 0}
        *before_it, line = told_of(exporter)
        assert_told_once(before_it, line)
        assert (line.levelname, vars(line)["reason"]) == ("WARNING", reason.value)

        server.behave = good
        samples = await exporter.until(up)
        assert samples["ollama_model_loaded", f"model={MODEL}"] == 1
        assert set(RESIDENCY) <= names(samples)
        *before_it, line = told_of(exporter)
        assert line.getMessage() == ANSWERS
        assert_told_once(before_it, line)
        assert unloads(exporter) == []

    # Only where the outage is a silence may a busy machine run into the limit as well: before it.
    with_exporter(use, ollama_timeout=2.0 if reason is FailureReason.TIMEOUT else PATIENCE)


def test_a_server_that_starts_later_is_found() -> None:
    async def main() -> None:
        port = free_port()
        async with exporting(f"http://127.0.0.1:{port}") as exporter:
            refused = ("ollama_poll_failures_total", "reason=refused")
            samples = await exporter.until(lambda found: found[refused] >= 3)
            assert down(samples)
            assert ("ollama_model_loaded", "model=expected:latest") in samples
            assert exporter.log.count("Server does not answer") == 1
            async with faultserver(port=port) as server:
                server.version = "0.99.1"
                version = ("ollama_version_info", "version=0.99.1")
                await exporter.until(lambda found: up(found) and version in found)
            assert exporter.log.count("Server answers") == 1

    asyncio.run(main())


def test_another_version_after_an_outage_is_told() -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        server.behave = hang_up
        await exporter.until(down)
        server.behave, server.version = good, "0.34.0"
        await exporter.until(lambda found: ("ollama_version_info", "version=0.34.0") in found)
        assert "version=0.33.0" not in {labels for _, labels in await exporter.samples()}

    with_exporter(use)


def test_version_and_tags_that_fail_leave_the_polls_alone() -> None:
    async def ps_only(server: FaultServer, asked: Any, writer: asyncio.StreamWriter) -> None:
        behave = good if asked.path == "/api/ps" else hang_up
        await behave(server, asked, writer)

    async def main() -> None:
        async with faultserver(ps_only) as server, exporting(server.url) as exporter:
            samples = await exporter.until(up)
            await until(lambda: server.count("/api/version") >= 1)
            samples = await exporter.samples()
            assert up(samples)
            assert not names(samples) & {"ollama_version_info", "ollama_models_installed"}

    asyncio.run(main())


def test_one_slow_poll_is_no_outage_and_no_unload() -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        server.behave = late(0.6)
        asked = server.count("/api/ps")
        await until(lambda: server.count("/api/ps") > asked + 1)
        samples = await exporter.samples()
        assert up(samples)
        server.behave = good
        await until(lambda: server.count("/api/ps") > asked + 4)
        samples = await exporter.samples()
        assert sum(n for (name, _), n in samples.items() if name == FAILURES) == 0
        assert samples["ollama_model_loaded", f"model={MODEL}"] == 1
        assert exporter.log.count("Server does not answer") == 0
        assert [type(event) for event in exporter.events] == [Found]

    with_exporter(use)


FAILURES: Final = "ollama_poll_failures_total"


def test_a_scrape_waits_half_a_second_for_a_hung_server_and_no_longer() -> None:
    async def main() -> None:
        async with (
            faultserver(silent) as server,
            exporting(server.url, ollama_timeout=2 * PATIENCE) as exporter,
        ):
            begun = time.monotonic()
            samples = await exporter.samples()  # else it hangs for longer than a test waits
            assert time.monotonic() - begun > 0.4
            assert down(samples)
            assert samples["ollama_polls_total", ""] == 0

    asyncio.run(main())


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, HOUR, -HOUR])
def test_a_clock_that_is_off_by_an_hour_still_shows_an_expiry_as_one(offset: float) -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        server.behave = expiring("short:latest", 0.8, good)
        await until(lambda: unloads(exporter))
        [event] = unloads(exporter)
        assert (event.model.name, event.reason) == ("short:latest", Reason.EXPIRED)

    with_exporter(use, offset=offset)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_the_clock_unloads_nothing_and_gives_no_false_reason(jump: float) -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        kept = entry("kept:latest", time.time() + 300, digest="cd" * 32)
        server.models.append(kept)
        loaded = ("ollama_model_loaded", "model=kept:latest")
        await exporter.until(lambda found: found.get(loaded) == 1)
        server.offset = jump  # by its clock, the deadline has passed, or is an hour away
        asked = server.count("/api/ps")
        await until(lambda: server.count("/api/ps") > asked + 4)
        assert unloads(exporter) == []
        assert (await exporter.samples())[loaded] == 1
        server.models.remove(kept)
        asked = server.count("/api/ps")
        await until(lambda: server.count("/api/ps") > asked + 4)
        assert {event.reason for event in unloads(exporter)} <= {Reason.STOPPED, Reason.UNKNOWN}
        assert not [event for event in exporter.events if isinstance(event, Restarted)]

    with_exporter(use)


def test_a_restarted_server_is_a_restart() -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        server.models = []
        await server.drop()
        await until(lambda: unloads(exporter))
        [event] = unloads(exporter)
        assert event.reason is Reason.SERVER_RESTARTED
        kinds = [type(event) for event in exporter.events]
        assert kinds.count(Restarted) == 1
        assert Loaded not in kinds

    with_exporter(use)


# -- clients that misbehave ------------------------------------------------------------------------


def test_a_storm_of_scrapes_is_bounded_and_harms_no_poll() -> None:
    async def main() -> None:
        # before its first answer each scrape waits half a second: so they are all there at once
        async with (
            faultserver(silent) as server,
            exporting(server.url, max_requests=4, ollama_timeout=2 * PATIENCE) as exporter,
        ):
            limits = httpx.Limits(max_connections=64)
            async with httpx.AsyncClient(
                base_url=f"http://{exporter.address}",
                trust_env=False,
                timeout=PATIENCE,
                limits=limits,
            ) as crowd:
                answers = await asyncio.gather(*(crowd.get("/metrics") for _ in range(64)))
            codes = [answer.status_code for answer in answers]
            assert set(codes) == {200, 503}
            assert codes.count(200) >= 4  # more, where the last come after the first were answered
            assert server.count("/api/ps") == 1  # single flight
            assert up(await exporter.samples()) is False

    asyncio.run(main())


def test_a_storm_on_a_healthy_server_harms_no_poll() -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        asked = server.count("/api/ps")
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=f"http://{exporter.address}", trust_env=False, timeout=PATIENCE, limits=limits
        ) as crowd:
            answers = await asyncio.gather(*(crowd.get("/metrics") for _ in range(64)))
        assert {answer.status_code for answer in answers} <= {200, 503}
        await until(lambda: server.count("/api/ps") > asked + 2)
        assert up(await exporter.samples())
        assert exporter.log.count("Server does not answer") == 0

    with_exporter(use, max_requests=4)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 200,  # and never reads an answer
        b"GET /metrics HTTP/1.1\r\nHo",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"",
    ],
    ids=["never reads", "half a head", "TLS", "silent"],
)
def test_a_client_that_misbehaves_harms_nobody_and_does_not_delay_the_end(sent: bytes) -> None:
    async def use(server: FaultServer, exporter: Running) -> None:
        host, _, port = exporter.address.rpartition(":")
        with closing(socket.create_connection((host, int(port)))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.sendall(sent)
            asked = server.count("/api/ps")
            await until(lambda: server.count("/api/ps") > asked + 3)
            assert up(await exporter.samples())

    with_exporter(use)


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("Llama3.2", "llama3.2:latest"),
        ("MYMODEL:v1", "MyModel:v1"),
        (
            "HF.co/Bartowski/Llama-3.2-1B-Instruct-GGUF",
            "hf.co/bartowski/Llama-3.2-1B-instruct-GGUF:latest",
        ),
        ("Registry.Ollama.ai/library/llama3.2", "llama3.2:latest"),
    ],
)
def test_an_expected_model_is_found_in_any_case(written: str, listed: str) -> None:
    label = f"model={listed}"

    async def main() -> None:
        async with faultserver() as server:
            server.models = [entry(listed, None)]
            async with exporting(server.url, expected_models=(written,)) as running:
                # Its written name goes once a poll has brought the listed one.
                await running.until(
                    lambda s: (
                        s.get(("ollama_model_loaded", label)) == 1.0
                        and [key for key in s if key[0] == "ollama_model_expected"]
                        == [("ollama_model_expected", label)]
                    )
                )

    asyncio.run(main())
