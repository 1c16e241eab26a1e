# SPDX-License-Identifier: Apache-2.0
"""Asks one server of a fleet. What all targets share is shared: TLS contexts, resolver, budget."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct, field

from ollama_exporter.config.target import SCHEME_PORTS, Target
from ollama_exporter.errors import ConfigError, FailureReason, TargetError
from ollama_exporter.files import Signature, signature_of
from ollama_exporter.fleet.checked_address import Addresses, NameResolver
from ollama_exporter.protocol.client import PsAnswer, check_answer, tls_context
from ollama_exporter.protocol.connect_failures import connect_failure, why_no_connection
from ollama_exporter.protocol.decompress import decompressed
from ollama_exporter.protocol.kept_connection import Answer, BodyBudget, KeptConnection
from ollama_exporter.protocol.server_credentials import ServerCredentials
from ollama_exporter.protocol.wire import (
    PS,
    TAGS,
    InstalledModel,
    OnMalformed,
    decode_ps,
    decode_tags,
    decode_version,
    server_date,
)
from ollama_exporter.version import __version__

# A listing of a thousand models has 400 KB; the tracker's work grows with it.
LARGEST_LISTING: Final = 512 << 10
LARGEST_INVENTORY: Final = 4 << 20
SHARED_BYTES: Final = 64 << 20
CONNECT_SHARE: Final = 0.5  # of the time of a request: a dead address leaves some for the next one


class TlsContexts:
    """TLS contexts, one for all targets with the same files: each takes 0.9 MB.

    Files are looked at before each connection, so a certificate can be replaced at any time.
    """

    def __init__(self) -> None:
        # By the files, and whether to verify: the files' signatures, and the context.
        self._contexts: dict[tuple[object, ...], tuple[list[Signature | None], ssl.SSLContext]] = {}

    def of(self, target: Target) -> ssl.SSLContext | None:
        """Return the context of a target; None: it speaks plain HTTP. Raises ConfigError."""
        if not target.url.startswith("https:"):
            return None
        files = (target.ca_file, target.cert_file, target.key_file)
        key = (*files, target.insecure_skip_verify)
        now = [_signature(file) for file in files]
        kept = self._contexts.get(key)
        if kept is None or kept[0] != now:
            kept = self._contexts[key] = now, tls_context(target)
        return kept[1]


def _signature(file: Path | None) -> Signature | None:
    if file is not None:
        with suppress(OSError, ValueError):  # ValueError: a NUL in the path
            return signature_of(file)
    return None


class SharedByTargets(Struct, frozen=True):
    """What the clients of all targets share."""

    timeout: float  # seconds of a request
    tls: TlsContexts = field(default_factory=TlsContexts)
    resolver: NameResolver = field(default_factory=NameResolver)
    budget: BodyBudget = field(default_factory=lambda: BodyBudget(SHARED_BYTES))


class TargetClient:
    """Every method raises TargetError and ends within the time of a request.

    Polls keep their connection, because its loss is a sign of a restart. The inventory closes its
    own: a fleet has a thousand of them.
    """

    def __init__(
        self,
        target: Target,
        shared: SharedByTargets,
        *,
        malformed: OnMalformed | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        """`addresses`: where to connect to (default: what the host's name resolves to).

        Raises ConfigError if a file of the target cannot be used.
        """
        self._target, self._shared, self._malformed = target, shared, malformed
        parts = urlsplit(target.url)
        self._host = parts.hostname or ""
        self._port = parts.port or SCHEME_PORTS[parts.scheme]
        self._prefix = parts.path
        self._credentials = ServerCredentials(target)
        self._addresses = addresses or partial(shared.resolver.resolve, self._host, self._port)
        self._connection: KeptConnection | None = None
        # A port that the scheme implies is not written, as browsers and httpx do.
        implied = SCHEME_PORTS[parts.scheme] == self._port
        authority = parts.netloc.rpartition(":")[0] if implied else parts.netloc
        self._common = (
            f" HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
            f"User-Agent: ollama_exporter/{__version__}\r\n"
        )
        shared.tls.of(target)

    async def ps(self) -> PsAnswer:
        """Get the resident models."""
        before = self._connection
        answer = await self._within_time(self._ask_kept, PS, LARGEST_LISTING)
        new = self._connection is not before
        header = answer.fields.get("date")
        models = decode_ps(answer.body, self._malformed)
        return PsAnswer(
            models, answer.status, server_date(header), header, new_connection=new, body=answer.body
        )

    async def version(self) -> str:
        """Get the server's version."""
        answer = await self._within_time(self._ask_once, "/api/version", LARGEST_LISTING)
        return decode_version(answer.body)

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Get the installed models."""
        answer = await self._within_time(self._ask_once, TAGS, LARGEST_INVENTORY)
        return decode_tags(answer.body, self._malformed)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _within_time(
        self, ask: Callable[[str, int], Awaitable[Answer]], path: str, limit: int
    ) -> Answer:
        timeout = self._shared.timeout
        try:
            async with asyncio.timeout(timeout):
                answer = await ask(path, limit)
        except TimeoutError as err:
            raise TargetError(FailureReason.TIMEOUT, f"no answer in {timeout:g} s") from err
        encoding = answer.fields.get("content-encoding", "")
        answer.body = decompressed(answer.body, encoding, limit=limit)
        check_answer(answer.status, answer.fields, answer.body, self._target)
        return answer

    async def _ask_kept(self, path: str, limit: int) -> Answer:
        connection = self._connection
        if connection is not None and connection.is_open:
            try:
                return await connection.request(self._head(path), limit=limit)
            except TargetError:
                if not connection.was_left_unanswered:
                    raise  # else: closed by the server just before, as an idle one
        connection = self._connection = await self._connect()
        return await connection.request(self._head(path), limit=limit)

    async def _ask_once(self, path: str, limit: int) -> Answer:
        connection = await self._connect()
        try:
            return await connection.request(self._head(path, "Connection: close\r\n"), limit=limit)
        finally:
            connection.close()

    def _head(self, path: str, more: str = "") -> bytes:
        fields = "".join(f"{k}: {v}\r\n" for k, v in self._credentials.fields().items())
        return f"GET {self._prefix}{path}{self._common}{fields}{more}\r\n".encode("latin-1")

    async def _connect(self) -> KeptConnection:
        try:
            context = self._shared.tls.of(self._target)
        except ConfigError as err:  # a file was damaged after the start
            raise TargetError(FailureReason.UNREACHABLE, str(err)) from err
        addresses = await self._addresses()
        problem = TargetError(FailureReason.UNREACHABLE, "the host has no address")
        for number, address in enumerate(addresses, 1):
            try:
                # The last address may take what is left of the request's time.
                limit = None if number == len(addresses) else self._share(len(addresses))
                async with asyncio.timeout(limit):
                    return await self._open(address, context)
            except TargetError as err:
                problem = err
            except TimeoutError:
                problem = TargetError(FailureReason.TIMEOUT, f"no connection to {address}")
        raise problem

    def _share(self, addresses: int) -> float:
        return self._shared.timeout * CONNECT_SHARE / max(1, addresses - 1)

    async def _open(self, address: str, context: ssl.SSLContext | None) -> KeptConnection:
        name = (self._target.server_name or self._host) if context is not None else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                partial(KeptConnection, self._shared.budget),
                address,
                self._port,
                ssl=context,
                server_hostname=name,
            )
        except ssl.SSLError as err:
            raise TargetError(FailureReason.RESET, str(err)) from err
        except TimeoutError:
            raise  # an OSError as well; ours, or the kernel's own
        except OSError as err:
            raise TargetError(connect_failure(err), why_no_connection(err)) from err
        return connection
