# SPDX-License-Identifier: Apache-2.0
"""Streams that pass each chunk of a body on and report it to the exchange."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.httpx.hooks import HttpxHooks


class Sent:
    """A request's body. A second transport of the same `recorder` does not record it again."""

    def __init__(self, inner: Any, exchange: Exchange, hooks: HttpxHooks) -> None:  # noqa: ANN401 - of any library
        self._inner, self._exchange, self.recorder = inner, exchange, hooks.recorder

    def __iter__(self) -> Iterator[bytes]:
        try:
            for data in self._inner:
                yield data
                self._exchange.on_request_body(data)
        except Exception:  # raised by the application, not by the server
            self._exchange.on_client_gone()
            raise
        self._exchange.on_request_complete()


class AsyncSent:
    """Sent for asynchronous clients."""

    def __init__(self, inner: Any, exchange: Exchange, hooks: HttpxHooks) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self.recorder = inner, exchange, hooks.recorder

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

    def __init__(self, inner: Any, exchange: Exchange, hooks: HttpxHooks) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self._hooks = inner, exchange, hooks

    def __iter__(self) -> Iterator[bytes]:
        feed = self._exchange.on_response_body
        try:
            for data in self._inner:
                feed(data)
                yield data
        except BaseException as err:
            self._hooks.on_error(self._exchange, err)
            raise
        self._exchange.on_response_complete()

    def close(self) -> None:
        """Close the stream. What was not read is not wanted."""
        try:
            self._inner.close()
        finally:
            self._exchange.on_client_gone()

    def __del__(self) -> None:
        self._exchange.on_client_gone()  # dropped without a close


class AsyncReceived:
    """Received for asynchronous clients."""

    def __init__(self, inner: Any, exchange: Exchange, hooks: HttpxHooks) -> None:  # noqa: ANN401 - as above
        self._inner, self._exchange, self._hooks = inner, exchange, hooks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._exchange.on_response_body
        try:
            async for data in self._inner:
                feed(data)
                yield data
        except BaseException as err:
            self._hooks.on_error(self._exchange, err)
            raise
        self._exchange.on_response_complete()

    async def aclose(self) -> None:
        """Close the stream. What was not read is not wanted."""
        try:
            await self._inner.aclose()
        finally:
            self._exchange.on_client_gone()

    def __del__(self) -> None:
        self._exchange.on_client_gone()  # dropped without a close
