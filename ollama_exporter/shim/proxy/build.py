# SPDX-License-Identifier: Apache-2.0
"""The proxy of an exporter, built from its settings, and what it knows of residency."""

import gc
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ollama_exporter.clock import Timeline
from ollama_exporter.config.load import Settings
from ollama_exporter.config.target import is_loopback
from ollama_exporter.errors import ConfigError, StartError
from ollama_exporter.metrics.collectors.server_collector import ServerState
from ollama_exporter.net import listen
from ollama_exporter.protocol.client import read_token, tls_context
from ollama_exporter.residency.events import ModelState, View
from ollama_exporter.shim.exchange import Sink
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.rewriting import RewriteRules
from ollama_exporter.shim.proxy.server import Front, Proxy

# A scrape is rendered in a thread, and the loop needs the interpreter for each chunk: with Python's
# 5 ms a chunk could wait that long.
SWITCH: Final = 0.0001


class PolledResidence:
    """What the last poll says of models, for the recorder."""

    def __init__(self, view: Callable[[], View], server: Callable[[], ServerState]) -> None:
        self._view, self._server = view, server
        self._installed: tuple[tuple[str, int], ...] = ()
        self._names: dict[str, str] = {}  # in lower case -> as installed

    def canonical_name(self, name: str) -> str | None:
        """Return a model's own spelling: the server finds it whatever the case."""
        installed = self._server().installed or ()
        if installed is not self._installed:
            self._installed = installed
            self._names = {each.lower(): each for each, _ in installed}
        lower = name.lower()
        if lower in self._names:
            return self._names[lower]
        return next((m.name for m in self._view().models if m.name.lower() == lower), None)

    def is_resident(self, name: str) -> bool | None:
        """Tell whether it was listed; None while the server does not answer."""
        if not self._server().up or self._view().last_seen is None:
            return None
        state = self._state(name)
        return state is not None and bool(state.resident)

    def loaded_at(self, name: str) -> float | None:
        """Return the first poll that listed the incarnation that is resident."""
        state = self._state(name)
        return None if state is None else state.since

    def polled_at(self) -> float:
        """Return the moment of the last answered poll."""
        return self._view().last_seen or 0.0

    def _state(self, name: str) -> ModelState | None:
        return next((m for m in self._view().models if m.name == name), None)


def build_proxy(
    settings: Settings, sink: Sink, timeline: Timeline, *, amend: RewriteRules | None = None
) -> Proxy:
    """Build the proxy. Raises ConfigError for files that cannot be used."""
    return Proxy(
        settings.ollama_url,
        sink,
        now=timeline.now,
        limits=Limits(
            connections=settings.proxy_max_connections,
            head_bytes=settings.proxy_max_head_bytes,
            head_fields=settings.proxy_max_head_fields,
            url_bytes=settings.proxy_max_url_bytes,
            head_time=settings.proxy_head_timeout,
            idle_time=settings.proxy_idle_timeout,
            connect_time=settings.proxy_connect_timeout,
            silence=settings.proxy_silence_timeout,
            shutdown_time=settings.proxy_shutdown_timeout,
        ),
        front=front_of(settings),
        tls=tls_context(settings.target),
        token=_token(settings.ollama_token_file, "ollama.token-file"),
        amend=amend,
    )


@asynccontextmanager
async def relaying(proxy: Proxy | None, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Relay requests meanwhile; in the end let answers end for a bounded time."""
    if proxy is None:
        yield
        return
    sys.setswitchinterval(SWITCH)
    gc.freeze()  # what was imported is here to stay: no collection need look at it again
    await proxy.start(sockets)
    try:
        yield
    finally:
        await proxy.stop()


def front_of(settings: Settings) -> Front:
    """Return how the listening side is protected. Raises ConfigError."""
    return Front(
        tls=_front_tls(settings.proxy_tls_cert_file, settings.proxy_tls_key_file),
        token=_token(settings.proxy_token_file, "proxy.token-file"),
        forwarded_for=settings.proxy_set_forwarded_for,
    )


def loopback_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the proxy's listen addresses: one without a host is not the whole network."""
    return tuple(f"127.0.0.1{each}" if each.startswith(":") else each for each in addresses)


def listen_for_both(settings: Settings) -> tuple[list[socket.socket], list[socket.socket]]:
    """Listen for scrapes and for the proxy's clients: for both or not at all. Raises StartError."""
    sockets = listen(settings.listen_addresses, field="web.listen-address")
    try:
        addresses = loopback_addresses(settings.proxy_addresses)
        return sockets, listen(addresses, field="proxy.listen-address")
    except StartError:
        for each in sockets:
            each.close()
        raise


def open_to_all(settings: Settings) -> bool:
    """Tell whether anybody on the network may use the server through the proxy."""
    hosts = (f"http://{address}" for address in loopback_addresses(settings.proxy_addresses))
    return settings.proxy_token_file is None and not all(map(is_loopback, hosts))


def _front_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise ConfigError("proxy.tls-key-file", str(key), "proxy.tls-cert-file with it")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as err:
        accepted = f"a readable PEM certificate chain, and its key ({err})"
        raise ConfigError("proxy.tls-cert-file", str(cert), accepted) from err
    return context


def _token(file: Path | None, field: str) -> Callable[[], str] | None:
    """Return what reads a token; unreadable for a moment, the last one serves."""
    if file is None:
        return None
    last = read_token(file, field=field)

    def token() -> str:
        nonlocal last
        try:
            last = read_token(file, field=field)
        except ConfigError:
            return last
        return last

    return token
