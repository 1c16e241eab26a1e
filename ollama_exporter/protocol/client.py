# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of one server. httpx's errors become ours here and nowhere else."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from ollama_exporter.config.target import Target
from ollama_exporter.errors import ConfigError, FailureReason, TargetError
from ollama_exporter.protocol.wire import (
    InstalledModel,
    RunningModel,
    decode_ps,
    decode_show,
    decode_tags,
    decode_version,
)
from ollama_exporter.version import __version__

LARGEST_BODY: Final = 16 * 2**20
OPENED: Final = "connection.connect_tcp.complete"
# httpx's exceptions by our reason, most specific first. ConnectError is told apart by its cause.
REASONS: Final = (
    (httpx.TimeoutException, FailureReason.TIMEOUT),
    (httpx.NetworkError, FailureReason.RESET),
    (httpx.LocalProtocolError, FailureReason.MALFORMED),
    (httpx.RemoteProtocolError, FailureReason.RESET),
)


@dataclass(frozen=True, slots=True)
class PsAnswer:
    """An answer of `/api/ps`. `date`: its Date header, Unix seconds on the server's clock."""

    models: tuple[RunningModel, ...]
    status: int
    date: float | None
    date_header: str | None
    new_connection: bool
    body: bytes


class ClientSlot:
    """One client of httpx, replaced when a request on it was given up.

    A request that is cancelled at the wrong moment never gives its place in httpx's pool back, and
    with one place that pool is dead for good (seen with httpcore 1.0.9).
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self.http = make()

    async def replace(self) -> None:
        """Go on with a new one."""
        old, self.http = self.http, self._make()
        await old.aclose()


class OllamaClient:
    """Asks one server. Every method raises TargetError and ends within `timeout` seconds.

    Polls have a connection of their own: that it is lost is the best sign of a restart.
    """

    def __init__(
        self, target: Target, *, timeout: float = 10.0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._target = target
        self._timeout = timeout
        context = ssl_context or tls_context(target)
        self._polls = ClientSlot(lambda: http_client(target, timeout, context))
        self._others = ClientSlot(lambda: http_client(target, timeout, context))
        self._token = read_token(target.token_file)

    async def ps(self) -> PsAnswer:
        """Ask for the resident models."""
        opened: list[str] = []

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            if event == OPENED:
                opened.append(event)

        response, body = await self._ask(self._polls, "/api/ps", extensions={"trace": trace})
        header = response.headers.get("date")
        date = None
        with suppress(
            ValueError, TypeError, OverflowError
        ):  # no header, or none that is a date: no evidence
            date = parsedate_to_datetime(header).timestamp()
        return PsAnswer(decode_ps(body), response.status_code, date, header, bool(opened), body)

    async def version(self) -> str:
        """Ask for the server's version."""
        return decode_version((await self._ask(self._others, "/api/version"))[1])

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Ask for the installed models."""
        return decode_tags((await self._ask(self._others, "/api/tags"))[1])

    async def show(self, name: str) -> str | None:
        """Ask for the weights that a name stands for; None: it has no blob of its own."""
        return decode_show((await self._ask(self._others, "/api/show", json={"model": name}))[1])

    async def aclose(self) -> None:
        """Close all connections."""
        await self._polls.http.aclose()
        await self._others.http.aclose()

    async def _ask(
        self,
        line: ClientSlot,
        path: str,
        *,
        json: Mapping[str, str] | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> tuple[httpx.Response, bytes]:
        """Send a GET, or with `json` a POST."""
        method, body = "GET" if json is None else "POST", bytearray()

        def make(http: httpx.AsyncClient) -> httpx.Request:
            headers = self._headers()
            return http.build_request(
                method, path, json=json, headers=headers, extensions=extensions
            )

        response = await self._send(line, make, body.extend, timeout=self._timeout)
        if response.status_code != HTTPStatus.OK:
            raise TargetError(FailureReason.STATUS, f"HTTP status {response.status_code}")
        return response, bytes(body)

    async def _send(
        self,
        line: ClientSlot,
        make: Callable[[httpx.AsyncClient], httpx.Request],
        take: Callable[[bytes], None],
        *,
        timeout: float,  # noqa: ASYNC109 - it is an argument of each request
    ) -> httpx.Response:
        """Send a request, hand the answer's body on as it comes."""
        try:
            # httpx bounds each read, not the answer: a body that trickles would last for ever.
            async with asyncio.timeout(timeout):
                response = await line.http.send(make(line.http), stream=True)
                try:
                    await _read(response, take)
                finally:
                    await response.aclose()
        except TimeoutError as err:
            await line.replace()
            raise TargetError(FailureReason.TIMEOUT, f"no answer in {timeout:g} s") from err
        except httpx.HTTPError as err:
            raise _translate(err) from err
        except (ssl.SSLError, OSError) as err:
            raise TargetError(FailureReason.RESET, str(err)) from err
        except UnicodeError as err:  # likewise
            raise TargetError(FailureReason.REFUSED, str(err)) from err
        return response

    def _headers(self) -> dict[str, str]:
        """Read the token each time, it may be rotated; unreadable for a moment, the last serves."""
        if self._target.token_file is None:
            return {}
        with suppress(ConfigError):
            self._token = read_token(self._target.token_file)
        return {"authorization": f"Bearer {self._token}"}


def tls_context(target: Target) -> ssl.SSLContext:
    """Make the TLS context of a target. Share it between clients: each costs 0.9 MB.

    Raises ConfigError.
    """
    if target.ca_file is None:
        if not target.url.startswith("https:"):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; no authorities to load
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(target.ca_file))
    except (OSError, ssl.SSLError) as err:
        accepted = f"a readable file of PEM certificates ({err})"
        raise ConfigError("ollama.ca-file", str(target.ca_file), accepted) from err


def read_token(file: Path | None, *, field: str = "ollama.token-file") -> str:
    """Read a bearer token; empty: none is set. Raises ConfigError."""
    if file is None:
        return ""
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as err:
        accepted = f"a readable file with a token in ASCII ({type(err).__name__})"
        raise ConfigError(field, str(file), accepted) from err
    if not token or not token.isprintable():
        raise ConfigError(field, str(file), "a file with one token")
    return token


def http_client(
    target: Target, timeout: float | None, context: ssl.SSLContext
) -> httpx.AsyncClient:
    """Return a client of httpx for a target: it goes there and nowhere else."""
    return httpx.AsyncClient(
        base_url=target.url,
        verify=context,
        timeout=timeout,
        trust_env=False,  # HTTP_PROXY would hijack even loopback
        follow_redirects=False,
        limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
        headers={
            "accept-encoding": "identity",
            "user-agent": f"ollama_exporter/{__version__}",
        },
    )


async def _read(response: httpx.Response, take: Callable[[bytes], None]) -> None:
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > LARGEST_BODY:
            limit = LARGEST_BODY // 2**20
            raise TargetError(FailureReason.MALFORMED, f"an answer of more than {limit} MiB")
        take(chunk)


def _translate(err: httpx.HTTPError) -> TargetError:
    detail = str(err) or type(err).__name__
    if isinstance(err, httpx.ConnectError):
        tls = _is_tls(err)
        return TargetError(FailureReason.RESET if tls else FailureReason.REFUSED, detail)
    for kind, reason in REASONS:
        if isinstance(err, kind):
            return TargetError(reason, detail)
    return TargetError(FailureReason.MALFORMED, detail)


def _is_tls(err: BaseException | None) -> bool:
    """Tell whether a failed handshake is behind it; httpx wraps httpcore's, which wraps ssl's."""
    if err is None or isinstance(err, ssl.SSLError):
        return err is not None
    return _is_tls(err.__cause__ or err.__context__)
