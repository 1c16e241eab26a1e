# SPDX-License-Identifier: Apache-2.0
"""Names a client by what its request shows: a header field, its network, or its user agent.

Tokens are in client_tokens.py. Nothing here runs unless `proxy.client-by` is set.
"""

import ipaddress
from collections.abc import Callable
from typing import Final

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.config.parsers import FIELD_NAME
from ollama_exporter.errors import ConfigError
from ollama_exporter.metrics.client_labels import LONGEST, MOST_CLIENTS, is_client_name
from ollama_exporter.metrics.labels import OTHER
from ollama_exporter.shim.proxy.headers import RequestHead
from ollama_exporter.shim.proxy.user_agents import user_agent_family

CLIENT_BY: Final = "proxy.client-by"
NETWORKS: Final = "proxy.client-networks"
TOKEN: Final = "token"  # noqa: S105 - a kind, not a token
NETWORK: Final = "network"
USER_AGENT: Final = "user-agent"
HEADER: Final = "header:"
# Fields that hold credentials must not become labels. Of the others, the proxy keeps no line.
SECRET_FIELDS: Final = frozenset(
    {
        *("authorization", "cookie", "proxy-authorization", "x-api-key", "api-key"),
        *("x-auth-token", "x-csrf-token", "x-forwarded-access-token"),
        *("connection", "content-length", "host", "keep-alive", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
MOST_ADDRESSES: Final = 1024  # whose network is remembered
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Identify = Callable[[RequestHead, bytes], str]  # of a head and the client's address


def client_by(name: str, value: object) -> str:
    """Accept a way to tell clients apart."""
    if isinstance(value, str):
        kind, _, field = value.strip().partition(":")
        field = field.strip().lower()
        if kind in {TOKEN, NETWORK, USER_AGENT} and not field:
            return kind
        is_field = FIELD_NAME.fullmatch(field) is not None
        if kind == HEADER.removesuffix(":") and is_field and field not in SECRET_FIELDS:
            return f"{HEADER}{field}"
    accepted = "accepted: token, user-agent, network, or header:NAME, where NAME is no credential"
    raise ConfigError(name, value, accepted)


def client_network(name: str, value: str) -> tuple[Network, str]:
    """Accept `NETWORK/BITS=NAME`. Raises ConfigError."""
    network, _, client = value.partition("=")
    try:
        parsed = ipaddress.ip_network(network.strip())
    except ValueError as err:
        accepted = "accepted: NETWORK/BITS=NAME, such as 10.1.0.0/16=lab"
        raise ConfigError(name, value, accepted) from err
    if not is_client_name(client.strip()):
        raise ConfigError(name, value, "accepted: NETWORK/BITS=NAME, such as 10.1.0.0/16=lab")
    return parsed, client.strip()


def by_user_agent(request: RequestHead, _peer: bytes) -> str:
    """Return the family of the client's User-Agent field."""
    return user_agent_family(_field(request, b"user-agent"))


class ByHeader:
    """Names a client by the value of one header field."""

    def __init__(self, field: str) -> None:
        self._field = field.lower().encode()

    def __call__(self, request: RequestHead, _peer: bytes) -> str:
        """Return the value, or `other` if it is absent or cannot be a name."""
        value = _field(request, self._field)
        name = value.decode("latin-1").strip() if len(value) <= LONGEST else ""
        return name if is_client_name(name) else OTHER


class ByNetwork:
    """Names a client by the smallest network that its address is in."""

    def __init__(self, networks: tuple[tuple[Network, str], ...]) -> None:
        self._networks = sorted(networks, key=lambda each: -each[0].prefixlen)
        self._known = BoundedDict[bytes, str](MOST_ADDRESSES)

    def __call__(self, _request: RequestHead, peer: bytes) -> str:
        """Return the network's name, or `other`."""
        name = self._known.get(peer)
        if name is None:
            name = self._known[peer] = self._name(peer)
        return name

    def _name(self, peer: bytes) -> str:
        try:
            address = ipaddress.ip_address(peer.decode("latin-1").partition("%")[0])
        except ValueError:
            return OTHER
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address  # of a socket for both
        return next((name for network, name in self._networks if address in network), OTHER)


def identifier(by: str | None, networks: tuple[str, ...]) -> Identify | None:
    """Return what names clients; None if nothing does, or their tokens do. Raises ConfigError."""
    if networks and by != NETWORK:
        raise ConfigError(NETWORKS, networks, f"set it together with {CLIENT_BY}={NETWORK}")
    if by == USER_AGENT:
        return by_user_agent
    if by == NETWORK:
        if not networks:
            raise ConfigError(CLIENT_BY, by, f"set it together with {NETWORKS}")
        named = tuple(client_network(NETWORKS, each) for each in networks)
        if len({name for _, name in named}) > MOST_CLIENTS:
            raise ConfigError(NETWORKS, len(named), f"accepted: at most {MOST_CLIENTS} names")
        return ByNetwork(named)
    return ByHeader(by.removeprefix(HEADER)) if by is not None and by.startswith(HEADER) else None


def _field(request: RequestHead, name: bytes) -> bytes:
    """Return the value of the first field of this name among those that are passed on."""
    size = len(name)
    for line in request.lines:
        if line[size : size + 1] == b":" and line[:size].lower() == name:
            return line[size + 1 :].strip()
    return b""
