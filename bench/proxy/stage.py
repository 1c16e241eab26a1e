# SPDX-License-Identifier: Apache-2.0
"""Runs the proxy alone, to be measured, on a given loop, with or without a recorder.

Arguments: port, port of the server, uvloop or asyncio, metrics or none.
"""

import asyncio
import gc
import sys

import uvloop
from msgspec.structs import replace

from bench.no_sink import NoSink
from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.net import listen
from ollama_exporter.shim.httpx.recorders import StandaloneCollector
from ollama_exporter.shim.proxy.build import limits_of
from ollama_exporter.shim.proxy.server import Frontend, Proxy


async def main(port: str, server: str, metrics: str) -> None:
    """Forward until the process is ended."""
    timeline = Timeline()
    sink = StandaloneCollector().recorder if metrics == "metrics" else NoSink()
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


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[3] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], sys.argv[4]))
