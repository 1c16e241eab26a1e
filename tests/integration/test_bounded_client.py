# SPDX-License-Identifier: Apache-2.0
"""An answer that comes byte by byte has an end, wherever in it that happens."""

import asyncio

import pytest

from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.errors import SourceError

DRIP = 0.02  # seconds; each byte comes well within any bound of a single read


@pytest.mark.parametrize(
    "begun",
    [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 103 E\r\n\r\n",
    ],
)
def test_an_answer_that_drips_is_bounded_in_all(begun: str) -> None:
    async def main() -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:

            async def drip(writer: asyncio.StreamWriter) -> None:
                writer.write(begun.encode())
                while not over.is_set():
                    await asyncio.sleep(DRIP)
                    writer.write(b"x")
                writer.close()

            server = await asyncio.start_server(
                lambda _, writer: (group.create_task(drip(writer)), None)[1], "127.0.0.1", 0
            )
            port = server.sockets[0].getsockname()[1]
            client = BoundedClient(timeout=0.3)
            with pytest.raises(SourceError, match="has not answered within"):
                await client.ask("GET", f"http://127.0.0.1:{port}/metrics")
            over.set()
        server.close()

    asyncio.run(main())
