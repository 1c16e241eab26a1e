# SPDX-License-Identifier: Apache-2.0
"""Where a connection goes: names are resolved here, and only what was checked is connected to."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ollama_exporter.errors import FailureReason, ProbeRefusedError, TargetError
from ollama_exporter.fleet.allow_list import Allowed, IpAddress, ProbeUrl, check_addresses

# Their own threads: a name server that hangs must not hold up what renders scrapes.
THREADS: Final = 8
MOST_ADDRESSES: Final = 16
Addresses = Callable[[], Awaitable[Sequence[str]]]  # raises TargetError
Lookup = Callable[[str, int], Sequence[str]]  # blocks; raises OSError, UnicodeError


def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class NameResolver:
    """Resolves names for all targets, few at a time."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host. Raises TargetError."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return [host]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._lookup, host, port)
        except (OSError, UnicodeError) as err:
            raise TargetError(FailureReason.UNREACHABLE, f"{host}: {err}") from err
        return found[:MOST_ADDRESSES]

    def close(self) -> None:
        """Resolve nothing more. Threads that hang end with their lookup."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedAddresses:
    """The addresses of a free probe: in the list now, and the same ones as at its first look.

    A name whose answers change between two looks could be pointed at anything after the check.
    """

    def __init__(
        self, url: ProbeUrl, allowed: Callable[[], Sequence[Allowed]], resolver: NameResolver
    ) -> None:
        self._url, self._allowed, self._resolver = url, allowed, resolver
        self._first: frozenset[IpAddress] | None = None

    async def check(self) -> tuple[IpAddress, ...]:
        """Return what may be connected to. Raises ProbeRefusedError and TargetError."""
        if self._url.address is not None:
            return check_addresses(self._url, [self._url.address], self._allowed())
        found = await self._resolver.resolve(self._url.host, self._url.port)
        parsed = [ipaddress.ip_address(text) for text in found]
        checked = check_addresses(self._url, parsed, self._allowed())
        if self._first is None:
            self._first = frozenset(checked)
        elif not self._first.issuperset(checked):
            raise ProbeRefusedError("the name resolves to other addresses than before")
        return checked

    async def __call__(self) -> Sequence[str]:
        """Return what may be connected to, for a client. Raises TargetError."""
        try:
            return [str(address) for address in await self.check()]
        except ProbeRefusedError as err:
            raise TargetError(FailureReason.UNREACHABLE, str(err)) from err
