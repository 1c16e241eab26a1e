# SPDX-License-Identifier: Apache-2.0
"""Asks runners on 127.0.0.1. Whoever answers there may send anything: answers have a bound.

A port comes from the command line of a child of the watched server. A forged one can at worst spoil
the numbers of its own model.
"""

import asyncio
import ssl
from typing import Final, Self

import httpx
from msgspec import Struct

from ollama_exporter.host.runner.runner_command import LOOPBACK
from ollama_exporter.version import __version__

TIMEOUT: Final = 0.3  # seconds for an answer; a real runner took 3 to 40 ms, 190 ms at worst
LARGEST: Final = 256 << 10  # bytes of an answer
# llama-server closes an idle connection after 5 s; one that it may be closing is not used again.
IDLE_CONNECTION: Final = 4.0


class RunnerAnswer(Struct, frozen=True):
    """An answer in time. `body` is empty unless the status is 200."""

    status: int
    body: bytes


class RunnerClient:
    """One connection for each runner, as long as its questions are asked one after another."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        """`timeout`: of an answer, seconds."""
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # not used: load no authorities
            timeout=timeout,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=IDLE_CONNECTION),
            headers={"user-agent": f"ollama_exporter/{__version__}", "accept-encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, port: int, path: str) -> RunnerAnswer | None:
        """Return the answer; None: not in time, too long, or no HTTP."""
        url = f"http://{LOOPBACK}:{port}{path}"
        try:
            async with asyncio.timeout(self._timeout), self._http.stream("GET", url) as answer:
                if answer.status_code != httpx.codes.OK:
                    return RunnerAnswer(answer.status_code, b"")
                body = bytearray()
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > LARGEST:
                        return None
                return RunnerAnswer(answer.status_code, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None
