# SPDX-License-Identifier: Apache-2.0
"""The least that could watch a fleet on the same libraries.

`poll PORT COUNT`: an httpx client for each server, with one TLS context for all, polled every 15 s
and decoded by the standard library. `render FILE`: prometheus_client's ASGI application, which
renders the families of an exposition. Each prints a line when it is ready.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from prometheus_client import CollectorRegistry, make_asgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bench.fleet_stage import address_of

INTERVAL = 15.0


async def poll(port: int, count: int) -> None:
    context, answered = ssl.create_default_context(), 0

    async def one(number: int) -> None:
        nonlocal answered
        await asyncio.sleep(min(INTERVAL, 0.01 * count) * number / count)
        async with httpx.AsyncClient(
            base_url=f"http://{address_of(number)}:{port}",
            verify=context,
            trust_env=False,
            timeout=10,
        ) as client:
            due = asyncio.get_running_loop().time()
            while True:
                json.loads((await client.get("/api/ps")).content)
                answered += 1
                if answered == count:
                    print("polled", flush=True)
                due += INTERVAL
                await asyncio.sleep(due - asyncio.get_running_loop().time())

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def render(file: str) -> None:
    families = list(text_string_to_metric_families(Path(file).read_text(encoding="utf-8")))

    class Same:
        """Returns the same families each time."""

        def collect(self) -> Iterable[Metric]:
            """Return them."""
            return families

    registry = CollectorRegistry()
    registry.register(Same())
    config = uvicorn.Config(
        make_asgi_app(registry),
        port=0,
        host="127.0.0.1",
        log_level="warning",
        access_log=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        listening: Any = server.servers[0].sockets[0]
        print(listening.getsockname()[1], flush=True)
        await serving

    asyncio.run(main())


if __name__ == "__main__":
    if sys.argv[1] == "poll":
        asyncio.run(poll(int(sys.argv[2]), int(sys.argv[3])))
    else:
        render(sys.argv[2])
