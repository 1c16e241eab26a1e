# SPDX-License-Identifier: Apache-2.0
"""The least that polls and serves on the same libraries: what the exporter is compared with.

A loop that polls every 15 s, a few gauges, prometheus_client's ASGI application on uvicorn. It
knows no reason, no outage, no deadline: the difference in cost is what those cost.
"""

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn
from prometheus_client import Gauge, make_asgi_app
from starlette.applications import Starlette
from starlette.routing import Mount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UP = Gauge("bare_up", "1 if the last poll was answered")
LOADED = Gauge("bare_model_loaded", "1 resident", ["model"])
MEMORY = Gauge("bare_model_memory_bytes", "size", ["model"])


async def poll(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
        while True:
            answer = await client.get("/api/ps")
            UP.set(answer.status_code == httpx.codes.OK)
            for model in answer.json()["models"]:
                LOADED.labels(model["name"]).set(1)
                MEMORY.labels(model["name"]).set(model["size"])
            await asyncio.sleep(15)


def main(url: str, port: int) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> "AsyncIterator[None]":
        task = asyncio.create_task(poll(url))
        yield
        task.cancel()

    app = Starlette(routes=[Mount("/metrics", make_asgi_app())], lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
