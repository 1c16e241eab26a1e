# SPDX-License-Identifier: Apache-2.0
"""A proxy in this process, in front of any server, and what it recorded."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest

from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.protocol.server_credentials import AUTHORIZATION, Field
from ollama_exporter.reporter import Reporter, ignore
from ollama_exporter.residency.facts import RequestFact
from ollama_exporter.shim.exchange import call_now
from ollama_exporter.shim.in_flight import InFlight, Residence, Unpolled
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.proxy.build import limits_of
from ollama_exporter.shim.proxy.interfaces import RewriteRules
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.server import Backend, Frontend, Proxy
from ollama_exporter.shim.recorder import Recorder, RequestInstruments
from ollama_exporter.watched_file import WatchedFile
from tests.support.exporting import Samples, parsed, until
from tests.support.patience import PATIENCE

T = TypeVar("T")


class Clock:
    """A timeline that stands still until the test moves it on: no timeout runs out by itself."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        """Return the current moment."""
        return self.at


@dataclass(slots=True)
class Proxied:
    """A running proxy."""

    port: int
    proxy: Proxy
    registry: CollectorRegistry
    scheme: str = "http"
    observations: list[Observation] = field(default_factory=list)
    facts: list[RequestFact] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    clock: Clock | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def advance(self, seconds: float) -> None:
        """Move the clock on. Returns when the proxy has checked its timeouts."""
        clock = self.clock
        assert clock is not None, "this proxy runs on real time"
        clock.at += seconds
        await until(lambda: self.proxy.coarse_now == clock.at)
        await asyncio.sleep(0)  # what ended is reported in the next turn

    def samples(self) -> Samples:
        """Return all samples of its registry."""
        return parsed(generate_latest(self.registry).decode())


def unchanged(value: T) -> WatchedFile[T]:
    """Return what never changes, as the content of a file."""
    return WatchedFile("none", lambda: value, now=Clock(), on_error=ignore)


def limits_with(**changes: Any) -> Limits:
    """Return the default limits with some changes; a busy machine runs into none of their times."""
    times = dict.fromkeys(("head_timeout", "idle_timeout", "connect_timeout"), PATIENCE)
    return replace(limits_of(Settings()), **times | changes)


def bearer(token: str | WatchedFile[Field]) -> WatchedFile[Field]:
    """Return the field of a token."""
    return unchanged((AUTHORIZATION, f"Bearer {token}")) if isinstance(token, str) else token


@asynccontextmanager
async def proxied(  # noqa: PLR0913 - each test sets one or two of them
    url: str,
    *,
    limits: Limits | None = None,
    frontend: Frontend | None = None,
    residence: Residence | None = None,
    tls: ssl.SSLContext | None = None,
    token: str | WatchedFile[Field] = "",
    fields: Sequence[WatchedFile[Field]] = (),
    static_fields: Sequence[Field] = (),
    rules: RewriteRules | None = None,
    asks_usage: bool = False,
    max_models: int = 100,
    clock: Clock | None = None,
    name: bytes = b"",
    port: int = 0,
) -> AsyncIterator[Proxied]:
    """Run a proxy in front of `url` on a free port of the loopback interface."""
    timeline, registry = Timeline(), CollectorRegistry()
    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    facts, observations, errors = list[Any](), list[Observation](), list[str]()
    recorder = Recorder(
        RequestInstruments(ModelLabels(max_models)),
        InFlight(residence or Unpolled(), IdleGapDetector()),
        Reporter(fact=facts.append, error=lambda: errors.append("raised")),
        timeline,
        on_request=observations.append,
    )
    registry.register(recorder)
    frontend = frontend or Frontend(any_host=True)  # tests ask for `x`
    proxy = Proxy(
        url,
        recorder,
        now=clock or timeline.now,
        limits=limits or limits_with(shutdown_timeout=0.5),
        frontend=frontend,
        backend=Backend(
            tls=tls,
            static_fields=static_fields,
            fields=[bearer(token)] if token else fields,
        ),
        rules=rules,
        asks_usage=asks_usage,
        name=name,
        defer=call_now,  # what a test asks for has been recorded
    )
    port = int(listening.getsockname()[1])
    scheme = "https" if frontend.certificate else "http"
    running = Proxied(port, proxy, registry, scheme, observations, facts, errors, clock)
    await proxy.start([listening])
    try:
        yield running
    finally:
        await proxy.stop()
