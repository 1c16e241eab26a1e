# SPDX-License-Identifier: Apache-2.0
"""The web server with a made-up story."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from ollama_exporter.net import listen
from ollama_exporter.web.app import Parts, application
from ollama_exporter.web.page.live_feed import LiveFeed
from ollama_exporter.web.uvicorn_server import WebConnection, server
from tests.support.patience import PATIENCE
from tests.support.storytelling import MadeUp


@asynccontextmanager
async def serving(
    made: MadeUp,
    *,
    port: int = 0,
    tick: float = 0.02,
    send_buffer: int | None = None,
    connection: type[WebConnection] = WebConnection,
) -> AsyncIterator[tuple[httpx.AsyncClient, LiveFeed]]:
    """Serve a made-up story; yield a client and the feed."""
    feed = made.feed(tick=tick)
    parts = Parts(feed=lambda _target: feed, telemetry_path="/metrics")
    web = server(application(parts), connection=connection)
    sockets = listen([f"127.0.0.1:{port}"], field="web.listen-address")
    if send_buffer is not None:  # accepted sockets inherit it
        sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = sockets[0].getsockname()[1]
    task = asyncio.create_task(web.serve(sockets=sockets))
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE
        ) as client:
            yield client, feed
    finally:
        feed.close()
        web.should_exit = True
        await task
