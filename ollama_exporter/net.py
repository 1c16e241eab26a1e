# SPDX-License-Identifier: Apache-2.0
"""Listening sockets, opened before anything is served: a port in use is an error at the start."""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from ollama_exporter.config.parsers import UNIX, split_address, unix_path
from ollama_exporter.errors import StartError

BACKLOG: Final = 512
FIRST_INHERITED: Final = 3  # descriptor; sd_listen_fds(3)
_UNIX_FAMILY: Final = getattr(socket, "AF_UNIX", None)  # Windows' Python has none


def listen(addresses: Sequence[str], *, field: str) -> list[socket.socket]:
    """Listen on all addresses, or on none. Raises StartError, which names the one in use."""
    sockets: list[socket.socket] = []
    for address in addresses:
        try:
            listening = _listen(address)
            # Accepted sockets inherit it. asyncio sets it only where a socket names its protocol,
            # which accepted ones do not: head and body, two writes, would then wait 40 ms.
            if listening.family != _UNIX_FAMILY:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(listening)
        except (OSError, UnicodeError) as err:  # UnicodeError: not a name that IDNA knows
            for opened in sockets:
                opened.close()
            why = str(err)
            if isinstance(err, OSError) and (err.errno or 0) > 0:  # below 0: the resolver's own
                why = os.strerror(err.errno or 0)
            raise StartError(f"{field}: cannot listen on {address!r}: {why}") from err
    return sockets


def listen_nearby(host: str, port: int, *, field: str) -> socket.socket:
    """Listen on that port, or on another one where it is taken. Raises StartError."""
    try:
        (found,) = listen([f"{host}:{port}"], field=field)
    except StartError:
        (found,) = listen([f"{host}:0"], field=field)
    return found


def inherited(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """Return the sockets that systemd has opened for this process, as sd_listen_fds(3) describes.

    Raises StartError if there are none.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isdecimal() or int(count) < 1:
        problem = "systemd has handed over no socket: start the .socket unit, not the .service"
        raise StartError(f"web.systemd-socket: {problem}")
    sockets = []
    for descriptor in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's
        listening = socket.socket(fileno=descriptor)
        if listening.type != socket.SOCK_STREAM:
            raise StartError("web.systemd-socket: the unit must have ListenStream sockets alone")
        sockets.append(listening)
    return sockets


def spelled(listening: socket.socket) -> str:
    """Return the address of a socket as one writes it."""
    if listening.family == _UNIX_FAMILY:
        return f"{UNIX}{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(address: str) -> socket.socket:
    path = unix_path(address)
    if path is not None:
        return _listen_at(path)
    host, port = split_address(address)
    if host:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6() and _has_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
        )
    return socket.create_server(("", port), backlog=BACKLOG)


def _listen_at(path: Path) -> socket.socket:
    """Listen on a Unix socket. One that a dead process left is removed, anything else is not."""
    if _UNIX_FAMILY is None:
        raise OSError(0, "this system has no Unix sockets")
    if path.is_socket() and not _is_answered(path):
        path.unlink()
    listening = socket.socket(_UNIX_FAMILY, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _is_answered(path: Path) -> bool:
    """Return whether a process listens on a Unix socket."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:  # its queue is full, or it is not ours to try
            return True
    return True


def _has_ipv6() -> bool:
    """Return whether IPv6 can be bound: containers often have it compiled in but off."""
    try:
        with closing(socket.socket(socket.AF_INET6, socket.SOCK_STREAM)) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
