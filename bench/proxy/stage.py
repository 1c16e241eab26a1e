# SPDX-License-Identifier: Apache-2.0
"""Runs the proxy alone, to be measured, on a given loop, with or without a recorder.

Arguments: port, port of the server, uvloop or asyncio, metrics or none.
"""

import asyncio
import gc
import sys

import uvloop
from msgspec.structs import replace

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.net import listen
from ollama_exporter.protocol.response_fields import ResponseFields
from ollama_exporter.shim.exchange import Exchange, Sink
from ollama_exporter.shim.httpx.recorders import StandaloneCollector
from ollama_exporter.shim.observation import Outcome, Phase
from ollama_exporter.shim.proxy.build import limits_of
from ollama_exporter.shim.proxy.server import Frontend, Proxy


class NoSink:
    """A sink that records nothing."""

    def on_request_start(self, exchange: Exchange) -> None:
        """Ignore it."""

    def on_request_read(self, exchange: Exchange) -> None:
        """Ignore it."""

    def on_response_start(self, exchange: Exchange) -> None:
        """Ignore it."""

    def is_waiting(self, exchange: Exchange) -> bool:  # noqa: ARG002 - the protocol's
        """Return False."""
        return False

    def on_request_end(
        self, exchange: Exchange, response: ResponseFields, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Ignore it."""

    def failed(self, message: str) -> None:
        """Ignore it."""


async def main(port: str, server: str, metrics: str) -> None:
    """Forward until the process is ended."""
    timeline = Timeline()
    sink: Sink = NoSink()
    if metrics == "metrics":
        sink = StandaloneCollector().recorder
    proxy = Proxy(
        f"http://127.0.0.1:{server}",
        sink,
        now=timeline.now,
        limits=replace(limits_of(Settings()), max_connections=10000),
        frontend=Frontend(),
    )
    gc.freeze()
    await proxy.start(listen([f"127.0.0.1:{port}"], field="port"))
    await asyncio.Event().wait()


factory = uvloop.new_event_loop if sys.argv[3] == "uvloop" else None
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main(sys.argv[1], sys.argv[2], sys.argv[4]))
