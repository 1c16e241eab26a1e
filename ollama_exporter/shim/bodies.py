# SPDX-License-Identifier: Apache-2.0
"""Bodies on their way through a transport: each chunk is shown to the exchange and passed on."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.seam import Seam


class Sent:
    """A request's body."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange = inner, exchange

    def __iter__(self) -> Iterator[bytes]:
        for data in self._inner:
            yield data
            self._exchange.request_body(data)
        self._exchange.request_complete()


class AsyncSent:
    """A request's body."""

    def __init__(self, inner: Any, exchange: Exchange) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange = inner, exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            yield data
            self._exchange.request_body(data)
        self._exchange.request_complete()


class Received:
    """An answer's body."""

    def __init__(self, inner: Any, exchange: Exchange, seam: Seam) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self._seam = inner, exchange, seam

    def __iter__(self) -> Iterator[bytes]:
        feed = self._exchange.feed
        try:
            for data in self._inner:
                feed(data)
                yield data
        except BaseException as err:
            self._seam.failed(self._exchange, err)
            raise
        self._exchange.completed()

    def close(self) -> None:
        """Close it; what was not read by now is not wanted."""
        self._inner.close()
        self._exchange.left()

    def __del__(self) -> None:
        self._exchange.left()  # dropped without being closed


class AsyncReceived:
    """An answer's body."""

    def __init__(self, inner: Any, exchange: Exchange, seam: Seam) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self._seam = inner, exchange, seam

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._exchange.feed
        try:
            async for data in self._inner:
                feed(data)
                yield data
        except BaseException as err:
            self._seam.failed(self._exchange, err)
            raise
        self._exchange.completed()

    async def aclose(self) -> None:
        """Close it; what was not read by now is not wanted."""
        try:
            await self._inner.aclose()
        finally:
            self._exchange.left()

    def __del__(self) -> None:
        self._exchange.left()  # dropped without being closed
