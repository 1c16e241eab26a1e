# SPDX-License-Identifier: Apache-2.0
"""Builds the proxy from the settings, and runs it beside the rest of the exporter."""

import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import DEFAULT_PORT, SCHEME_PORTS, is_loopback
from ollama_exporter.descriptors import affordable_connections
from ollama_exporter.errors import ConfigError, StartError
from ollama_exporter.net import inherited, listen, spelled
from ollama_exporter.own_address import own_socket
from ollama_exporter.protocol.client import tls_context
from ollama_exporter.protocol.server_credentials import static_fields
from ollama_exporter.reporter import ignore
from ollama_exporter.shim.exchange import Sink
from ollama_exporter.shim.proxy.client_names import CLIENT_BY, TOKEN, identifier
from ollama_exporter.shim.proxy.client_tokens import (
    TOKENS_FILE,
    ClientTokens,
    watched_client_tokens,
)
from ollama_exporter.shim.proxy.credentials import (
    CERTIFICATE,
    watched_certificate,
    watched_fields,
    watched_token,
)
from ollama_exporter.shim.proxy.interfaces import PortLocks, RewriteRules
from ollama_exporter.shim.proxy.limits import Limits
from ollama_exporter.shim.proxy.server import Backend, Frontend, Proxy
from ollama_exporter.watched_file import WatchedFile

WEB_CONFIG: Final = "proxy.web-config-file"
# The loop needs the interpreter for each chunk. While a thread has it, say to write the state file,
# a chunk could wait as long as Python's 5 ms.
SWITCH_INTERVAL: Final = 0.0001


def build_proxy(
    settings: Settings,
    sink: Sink,
    timeline: Timeline,
    *,
    rules: RewriteRules | None = None,
    locks: PortLocks | None = None,
    on_file_error: Callable[[str], None] = ignore,
) -> Proxy:
    """Build the proxy. Raises ConfigError for files that cannot be used.

    `locks`: those of `proxy.web-config-file`.
    `on_file_error` counts, by setting, the files that cannot be read while the proxy runs.
    """
    limits, target = limits_of(settings), settings.target
    affordable = affordable_connections(limits.max_connections)
    return Proxy(
        settings.ollama_url,
        sink,
        now=timeline.now,
        limits=replace(limits, max_connections=affordable),
        frontend=frontend_of(settings, locks=locks, now=timeline.now, on_error=on_file_error),
        backend=Backend(
            tls=tls_context(target),
            server_name=target.server_name,
            static_fields=static_fields(target),
            fields=watched_fields(target, now=timeline.now, on_error=on_file_error),
        ),
        rules=rules,
        asks_usage=settings.proxy_request_usage,
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
    await proxy.start(sockets)
    try:
        yield
    finally:
        await proxy.stop()


def frontend_of(
    settings: Settings,
    *,
    locks: PortLocks | None = None,
    now: Callable[[], float] = time.monotonic,
    on_error: Callable[[str], None] = ignore,
) -> Frontend:
    """Return how the proxy's listening side is protected. Raises ConfigError."""
    cert = settings.proxy_tls_cert_file
    if locks is not None and cert is not None and locks.context() is not None:
        accepted = f"unset, because {WEB_CONFIG} has a certificate"
        raise ConfigError(CERTIFICATE, str(cert), accepted)
    return Frontend(
        certificate=watched_certificate(
            cert, settings.proxy_tls_key_file, now=now, on_error=on_error
        ),
        token=watched_token(
            settings.proxy_token_file, "proxy.token-file", now=now, on_error=on_error
        ),
        client_tokens=client_tokens_of(settings, now=now, on_error=on_error),
        identify=identifier(settings.proxy_client_by, settings.proxy_client_networks),
        locks=locks,
        forwarded_for=settings.proxy_set_forwarded_for,
    )


def client_tokens_of(
    settings: Settings, *, now: Callable[[], float], on_error: Callable[[str], None]
) -> WatchedFile[ClientTokens] | None:
    """Return the tokens of the clients, if these are told apart by them. Raises ConfigError."""
    by, file = settings.proxy_client_by, settings.proxy_client_tokens_file
    if file is not None and by != TOKEN:
        raise ConfigError(TOKENS_FILE, str(file), f"set it together with {CLIENT_BY}={TOKEN}")
    if file is None and by == TOKEN:
        raise ConfigError(CLIENT_BY, TOKEN, f"set it together with {TOKENS_FILE}")
    return watched_client_tokens(file, now=now, on_error=on_error)


def proxy_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the proxy's listen addresses. One without a host means loopback, not all addresses."""
    return tuple(f"127.0.0.1{each}" if each.startswith(":") else each for each in addresses)


def listen_for_both(settings: Settings) -> tuple[list[socket.socket], list[socket.socket]]:
    """Listen for scrapes and for the proxy's clients: for both or not at all. Raises StartError."""
    web, proxied = "web.listen-address", "proxy.listen-address"
    with ExitStack() as opened:
        sockets = listen_for_scrapes(settings)
        for each in sockets:
            opened.enter_context(each)
        _check_target(settings, sockets, field=web)
        proxy_sockets = listen(proxy_addresses(settings.proxy_addresses), field=proxied)
        for each in proxy_sockets:
            opened.enter_context(each)
        _check_target(settings, proxy_sockets, field=proxied)
        opened.pop_all()
        return sockets, proxy_sockets


def listen_for_scrapes(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets of the exporter's own port. Raises StartError."""
    if settings.systemd_socket:
        return inherited(os.environ, os.getpid())
    return listen(settings.listen_addresses, field="web.listen-address")


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


def is_open_to_network(settings: Settings, *, is_locked: bool = False) -> bool:
    """Return whether other machines can use Ollama through the proxy without a credential.

    `is_locked`: by a web configuration file.
    """
    hosts = (f"http://{address}" for address in proxy_addresses(settings.proxy_addresses))
    files = (settings.proxy_token_file, settings.proxy_client_tokens_file)
    return not is_locked and not any(files) and not all(map(is_loopback, hosts))
