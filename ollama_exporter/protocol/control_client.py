# SPDX-License-Identifier: Apache-2.0
"""A client that also loads, renews, unloads and runs models."""

import math
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import httpx
import msgspec
from msgspec import Struct

from ollama_exporter.config.target import DEFAULT_TIMEOUT, Target
from ollama_exporter.errors import RequestError
from ollama_exporter.foreign_text import clean
from ollama_exporter.protocol.client import (
    HTML,
    OllamaClient,
    TransportSlot,
    is_web_page,
    status_advice,
)
from ollama_exporter.protocol.response_fields import ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import Body
from ollama_exporter.protocol.stream_parsers import StreamParser, parser_for
from ollama_exporter.watched_file import not_counted

LONGEST_TEXT: Final = 300
REFUSED_EMBEDDING: Final = "does not support generate"
Options = Mapping[str, Any]
Announce = Callable[[Mapping[str, Any], float], AbstractAsyncContextManager[None]]


class Generated(Struct, frozen=True):
    """One generation, timed by our clock in seconds since the request."""

    response: ResponseFields
    first_content: float | None
    total: float


class _Error(msgspec.Struct):
    error: str = ""


_ERROR: Final = msgspec.json.Decoder(_Error)


def _unannounced(_body: Mapping[str, Any], _patience: float) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class ControlClient(OllamaClient):
    """Every method raises TargetError or RequestError and ends within `patience` seconds."""

    def __init__(
        self,
        target: Target,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        on_file_error: Callable[[str], None] = not_counted,
        announced: Announce = _unannounced,
    ) -> None:
        """Raise ConfigError if a file cannot be used.

        `announced`: stands around each request that needs a runner; gets its body and patience.
        """
        self._announced = announced
        super().__init__(
            target, timeout=timeout, ssl_context=ssl_context, on_file_error=on_file_error
        )

    async def preload(
        self,
        model: str,
        *,
        patience: float,
        keep_alive: float | None = None,
        options: Options | None = None,
    ) -> None:
        """Load a model, or renew its deadline if it is resident. `keep_alive`: seconds, or inf."""
        body: dict[str, Any] = {"model": model, "stream": False}
        if keep_alive is not None:
            body["keep_alive"] = _json_keep_alive(keep_alive)
        if options:
            body["options"] = dict(options)
        try:
            await self._tell("/api/generate", body, patience)
        except RequestError as err:
            if err.status != HTTPStatus.BAD_REQUEST or REFUSED_EMBEDDING not in err.text:
                raise
            await self._tell("/api/embed", {**body, "input": []}, patience)

    async def stop(self, model: str, *, patience: float) -> None:
        """Unload a model as soon as its requests have ended."""
        body = {"model": model, "keep_alive": 0, "stream": False}
        await self._tell("/api/generate", body, patience)

    async def generate(
        self, body: Mapping[str, Any], *, patience: float, now: Callable[[], float]
    ) -> Generated:
        """Stream a generation and time it by `now`."""
        async with self._announced(body, patience):
            return await self._generate(body, patience=patience, now=now)

    async def _generate(
        self, body: Mapping[str, Any], *, patience: float, now: Callable[[], float]
    ) -> Generated:
        began, first = now(), math.nan
        parser: StreamParser = parser_for(
            Body.NATIVE, content_type="application/x-ndjson", content_encoding=""
        )
        beginning = bytearray()  # of the answer: an error text, if its status is one

        def on_chunk(data: bytes) -> None:
            nonlocal first
            if len(beginning) < LONGEST_TEXT:
                beginning.extend(data[:LONGEST_TEXT])
            parser.feed(data)
            if parser.content and math.isnan(first):
                first = now() - began

        response = await self._call("/api/generate", {**body, "stream": True}, on_chunk, patience)
        total = now() - began
        self._check(response, bytes(beginning))
        fields = parser.end()
        if fields.ending not in (ResponseEnd.COMPLETE, ResponseEnd.TRAILING):
            text = clean(fields.error or "the answer broke off", limit=LONGEST_TEXT)
            raise RequestError(response.status_code, text)
        return Generated(fields, None if math.isnan(first) else first, total)

    async def _tell(self, path: str, body: Mapping[str, Any], patience: float) -> None:
        answer = bytearray()
        async with self._announced(body, patience):
            response = await self._call(path, body, answer.extend, patience)
            self._check(response, bytes(answer))

    async def _call(
        self, path: str, body: Mapping[str, Any], on_chunk: Callable[[bytes], None], patience: float
    ) -> httpx.Response:
        """Send a request on its own connection: loads take minutes and may overlap."""
        slot = TransportSlot(self._new_transport)
        try:
            build = partial(self._post, path, body)
            return await self._send(slot, build, on_chunk, timeout=patience)
        finally:
            await slot.aclose()

    def _check(self, response: httpx.Response, body: bytes) -> None:
        """Raise RequestError unless the server did what it was asked."""
        if response.status_code == HTTPStatus.OK:
            if is_web_page(response.headers.get("content-type", ""), body):
                raise RequestError(response.status_code, HTML)
            return
        text = ""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = _ERROR.decode(body).error
        said = clean(text, limit=LONGEST_TEXT)
        advice = status_advice(response.status_code, response.headers, body, self._target)
        raise RequestError(response.status_code, said or advice or response.reason_phrase)


def _json_keep_alive(seconds: float) -> int | float:
    """Return the JSON number of a keep_alive: -1 forever, otherwise seconds."""
    if math.isinf(seconds):
        return -1
    return int(seconds) if seconds == int(seconds) else seconds
