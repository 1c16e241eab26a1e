# SPDX-License-Identifier: Apache-2.0
"""A proxy in this process, in front of any server, and what it recorded."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest

from ollama_exporter.clock import Timeline
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.residency.facts import RequestFact
from ollama_exporter.shim.exchange import call_now
from ollama_exporter.shim.in_flight import Residence, Unpolled
from ollama_exporter.shim.observation import Observation
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.server import Front, Proxy
from ollama_exporter.shim.recorder import Recorder
from tests.support.exporting import Samples, parsed


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

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def samples(self) -> Samples:
        """Return all samples of its registry."""
        return parsed(generate_latest(self.registry).decode())


@asynccontextmanager
async def proxied(
    url: str,
    *,
    limits: Limits | None = None,
    front: Front | None = None,
    residence: Residence | None = None,
    tls: ssl.SSLContext | None = None,
    token: str = "",
    max_models: int = 100,
) -> AsyncIterator[Proxied]:
    """Run a proxy in front of `url` on a free port of the loopback interface."""
    timeline, registry = Timeline(), CollectorRegistry()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    running: Proxied
    recorder = Recorder(
        ModelLabels(max_models),
        residence or Unpolled(),
        wall=timeline.wall,
        errors=lambda: running.errors.append("raised"),
        tell=lambda fact: running.facts.append(fact),  # noqa: PLW0108 - running is made below
        on_request=lambda seen: running.observations.append(seen),  # noqa: PLW0108 - likewise
    )
    registry.register(recorder)
    front = front or Front(any_host=True)  # tests ask for `x`
    proxy = Proxy(
        url,
        recorder,
        now=timeline.now,
        limits=limits or Limits(shutdown_time=0.5),
        front=front,
        tls=tls,
        token=(lambda: token) if token else None,
        defer=call_now,  # what a test asks for has been recorded
    )
    port = int(listening.getsockname()[1])
    running = Proxied(port, proxy, registry, "https" if front.tls else "http")
    await proxy.start([listening])
    try:
        yield running
    finally:
        await proxy.stop()
