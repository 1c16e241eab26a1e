# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of workloads: one connection for each request."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import h11

PATIENCE: Final = 600.0  # seconds; loads take minutes
_KEPT: Final = 65536  # bytes of the end of an answer, which has the outcome


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a request."""

    status: int | None  # None: no answer
    error: str | None  # as the answer or the connection reports it
    tail: bytes  # the end of the body


async def ask(
    url: str, path: str, body: dict[str, Any] | None = None, *, patience: float = PATIENCE
) -> Reply:
    """POST `body`, or GET without one, and read the whole answer. Never raises."""
    try:
        async with asyncio.timeout(patience):
            return await _ask(url, path, body)
    except TimeoutError:
        return Reply(None, "client left", b"")
    except OSError as err:
        return Reply(None, f"no connection: {err.strerror or err}", b"")


async def _ask(url: str, path: str, body: dict[str, Any] | None) -> Reply:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        conn = h11.Connection(h11.CLIENT)
        data = b"" if body is None else json.dumps(body).encode()
        request = h11.Request(
            method="GET" if body is None else "POST",
            target=path,
            headers=[
                ("Host", parts.netloc),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(data))),
                ("Connection", "close"),
            ],
        )
        for event in (request, h11.Data(data=data), h11.EndOfMessage()):
            writer.write(conn.send(event) or b"")
        await writer.drain()
        return await _read(conn, reader)
    finally:
        writer.close()


async def _read(conn: h11.Connection, reader: asyncio.StreamReader) -> Reply:
    status: int | None = None
    tail = b""
    try:
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                conn.receive_data(await reader.read(_KEPT))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                tail = (tail + event.data)[-_KEPT:]
            else:
                return Reply(status, _error_in(status, tail), tail)
    except h11.RemoteProtocolError:
        return Reply(status, "the answer was cut", tail)


def _error_in(status: int | None, tail: bytes) -> str | None:
    """Return the error of an answer: by its status, or by its last line at status 200."""
    last = tail.strip().rsplit(b"\n", 1)[-1]
    try:
        value = json.loads(last)
    except ValueError:
        value = None
    if isinstance(value, dict) and "error" in value and value["error"] is not None:
        error = value["error"]
        return str(error.get("message") if isinstance(error, dict) else error)
    return None if status == 200 else f"status {status}"  # noqa: PLR2004 - OK
