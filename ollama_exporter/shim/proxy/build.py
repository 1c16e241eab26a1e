# SPDX-License-Identifier: Apache-2.0
"""Builds the proxy from the settings, and runs it beside the rest of the exporter."""

import gc
import secrets
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import DEFAULT_PORT, SCHEME_PORTS, is_loopback
from ollama_exporter.errors import ConfigError, StartError
from ollama_exporter.net import listen, spelled
from ollama_exporter.own_address import own_socket
from ollama_exporter.protocol.bearer_token import BearerToken
from ollama_exporter.protocol.client import tls_context
from ollama_exporter.shim.exchange import Sink
from ollama_exporter.shim.proxy.interfaces import RewriteRules
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.server import Frontend, Proxy

# A scrape is rendered in a thread, and the loop needs the interpreter for each chunk. With Python's
# 5 ms a chunk could wait that long.
SWITCH_INTERVAL: Final = 0.0001


def build_proxy(
    settings: Settings, sink: Sink, timeline: Timeline, *, rules: RewriteRules | None = None
) -> Proxy:
    """Build the proxy. Raises ConfigError for files that cannot be used."""
    return Proxy(
        settings.ollama_url,
        sink,
        now=timeline.now,
        limits=limits_of(settings),
        frontend=frontend_of(settings),
        tls=tls_context(settings.target),
        token=_token(settings.ollama_token_file, "ollama.token-file"),
        rules=rules,
        name=secrets.token_hex(8).encode(),
    )


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings name."""
    return Limits(
        max_connections=settings.proxy_max_connections,
        max_head_bytes=settings.proxy_max_head_bytes,
        max_head_fields=settings.proxy_max_head_fields,
        max_url_bytes=settings.proxy_max_url_bytes,
        head_timeout=settings.proxy_head_timeout,
        idle_timeout=settings.proxy_idle_timeout,
        connect_timeout=settings.proxy_connect_timeout,
        silence_timeout=settings.proxy_silence_timeout,
        shutdown_timeout=settings.proxy_shutdown_timeout,
    )


@asynccontextmanager
async def serving_proxy(
    proxy: Proxy | None, sockets: Sequence[socket.socket]
) -> AsyncIterator[None]:
    """Serve the proxy inside the block. At its end, open responses get a bounded time to end."""
    if proxy is None:
        yield
        return
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # imported modules stay for good: no collection needs to look at them again
    await proxy.start(sockets)
    try:
        yield
    finally:
        await proxy.stop()


def frontend_of(settings: Settings) -> Frontend:
    """Return how the proxy's listening side is protected. Raises ConfigError."""
    return Frontend(
        tls=_frontend_tls(settings.proxy_tls_cert_file, settings.proxy_tls_key_file),
        token=_token(settings.proxy_token_file, "proxy.token-file"),
        forwarded_for=settings.proxy_set_forwarded_for,
    )


def proxy_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the proxy's listen addresses. One without a host means loopback, not all addresses."""
    return tuple(f"127.0.0.1{each}" if each.startswith(":") else each for each in addresses)


def listen_for_both(settings: Settings) -> tuple[list[socket.socket], list[socket.socket]]:
    """Listen for scrapes and for the proxy's clients: for both or not at all. Raises StartError."""
    web, proxied = "web.listen-address", "proxy.listen-address"
    with ExitStack() as opened:
        sockets = listen(settings.listen_addresses, field=web)
        for each in sockets:
            opened.enter_context(each)
        _check_target(settings, sockets, field=web)
        proxy_sockets = listen(proxy_addresses(settings.proxy_addresses), field=proxied)
        for each in proxy_sockets:
            opened.enter_context(each)
        _check_target(settings, proxy_sockets, field=proxied)
        opened.pop_all()
        return sockets, proxy_sockets


def _check_target(settings: Settings, sockets: Sequence[socket.socket], *, field: str) -> None:
    """Raise StartError if Ollama's address leads to one of these sockets."""
    parts = urlsplit(settings.ollama_url)
    own = own_socket(parts.hostname or "", parts.port or SCHEME_PORTS[parts.scheme], sockets)
    if own is not None:
        raise StartError(
            f"ollama.url: {settings.ollama_url} is this exporter's own {field} ({spelled(own)}); "
            "set --ollama.url or OLLAMA_HOST to the address of Ollama, usually "
            f"http://127.0.0.1:{DEFAULT_PORT}"
        )


def is_open_to_network(settings: Settings) -> bool:
    """Return whether other machines can use Ollama through the proxy without a token."""
    hosts = (f"http://{address}" for address in proxy_addresses(settings.proxy_addresses))
    return settings.proxy_token_file is None and not all(map(is_loopback, hosts))


def _frontend_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
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
    """Return a reader of the token in a file. Raises ConfigError."""
    return None if file is None else BearerToken(file, field=field).current
