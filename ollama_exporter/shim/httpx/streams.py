# SPDX-License-Identifier: Apache-2.0
"""Bodies on their way through a transport: each chunk is shown to the exchange and passed on."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.httpx.hooks import HttpxHooks


class Sent:
    """A request's body. `recorder`: whose it is; a second transport leaves it alone."""

    def __init__(self, inner: Any, exchange: Exchange, seam: HttpxHooks) -> None:  # noqa: ANN401 - of whichever library
        self._inner, self._exchange, self.recorder = inner, exchange, seam.recorder

    def __iter__(self) -> Iterator[bytes]:
        try:
            for data in self._inner:
                yield data
                self._exchange.on_request_body(data)
        except Exception:  # the application's own: no fault of the server
            self._exchange.on_client_gone()
            raise
        self._exchange.on_request_complete()


class AsyncSent:
    """Like Sent, for asynchronous clients."""

    def __init__(self, inner: Any, exchange: Exchange, seam: HttpxHooks) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self.recorder = inner, exchange, seam.recorder

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._inner:
                yield data
                self._exchange.on_request_body(data)
        except Exception:  # as above
            self._exchange.on_client_gone()
            raise
        self._exchange.on_request_complete()


class Received:
    """An answer's body."""

    def __init__(self, inner: Any, exchange: Exchange, seam: HttpxHooks) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self._seam = inner, exchange, seam

    def __iter__(self) -> Iterator[bytes]:
        feed = self._exchange.on_response_body
        try:
            for data in self._inner:
                feed(data)
                yield data
        except BaseException as err:
            self._seam.failed(self._exchange, err)
            raise
        self._exchange.on_response_complete()

    def close(self) -> None:
        """Close it; what was not read by now is not wanted."""
        try:
            self._inner.close()
        finally:
            self._exchange.on_client_gone()

    def __del__(self) -> None:
        self._exchange.on_client_gone()  # dropped without being closed


class AsyncReceived:
    """An answer's body."""

    def __init__(self, inner: Any, exchange: Exchange, seam: HttpxHooks) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self._seam = inner, exchange, seam

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._exchange.on_response_body
        try:
            async for data in self._inner:
                feed(data)
                yield data
        except BaseException as err:
            self._seam.failed(self._exchange, err)
            raise
        self._exchange.on_response_complete()

    async def aclose(self) -> None:
        """Close it; what was not read by now is not wanted."""
        try:
            await self._inner.aclose()
        finally:
            self._exchange.on_client_gone()

    def __del__(self) -> None:
        self._exchange.on_client_gone()  # dropped without being closed
