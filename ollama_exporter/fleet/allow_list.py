# SPDX-License-Identifier: Apache-2.0
"""Which addresses a free probe may reach. Pure; nothing is resolved here.

`/probe?target=http://…` lets whoever can reach the exporter choose an address for it. So it is off
without a list, the list names hosts or networks with their port, and some addresses are refused
whatever the list says: those that a cloud's machine gets its credentials from, above all.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ollama_exporter.config import parsers
from ollama_exporter.config.target import DEFAULT_PORT, HIGHEST_PORT, SCHEME_PORTS
from ollama_exporter.errors import ConfigError, ProbeRefusedError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
PROBES_OFF: Final = "probes of URLs are off; --probe.allow lists what they may reach"
ACCEPTED: Final = "accepted: HOST:PORT, *.DOMAIN:PORT, NETWORK/BITS:PORT; :* means any port"
LONGEST_URL: Final = 512
LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
LONGEST_HOST: Final = 253
URL: Final = re.compile(r"(https?)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?/?")
# Numbers that a resolver reads as an address: decimal, octal, hexadecimal, or with parts left out.
NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Metadata services, which give credentials to whoever asks: AWS (IPv6), Alibaba, Oracle, Azure. The
# usual 169.254.169.254 is link-local.
METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
# IPv6 networks whose addresses lead to an IPv4 address of the sender's choice.
TRANSLATING: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
)


class ProbeUrl(Struct, frozen=True):
    """A URL that a probe asks for, in parts."""

    scheme: str
    host: str  # in lower case, an IPv6 address without brackets
    port: int
    address: IpAddress | None  # if the host is one

    @property
    def url(self) -> str:
        """The URL in one spelling."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Allowed(Struct, frozen=True):
    """One entry of the list: a host, a domain with all hosts below it, or a network."""

    text: str
    port: int | None  # None: any
    host: str = ""
    suffix: str = ""  # begins with a dot
    network: IpNetwork | None = None


def probe_entries(name: str, value: object) -> tuple[str, ...]:
    """Accept the entries of a list, as texts. Raises ConfigError."""
    found = parsers.texts(name, value)
    for text in found:
        _entry(name, text)
    return found


def allow_list(texts: Sequence[str]) -> tuple[Allowed, ...]:
    """Return a list that `probe_entries` has accepted."""
    return tuple(_entry("probe.allow", text) for text in texts)


def parse_probe_url(text: str) -> ProbeUrl:
    """Return the parts of a URL. Raises ProbeRefusedError for all but scheme, host and port."""
    match = URL.fullmatch(text.lower()) if len(text) <= LONGEST_URL else None
    if match is None or not text.isascii():
        raise ProbeRefusedError("write http://HOST:PORT or https://HOST:PORT and nothing more")
    scheme, host = match[1], match[2]
    port = int(match[3]) if match[3] else SCHEME_PORTS[scheme]
    if not 0 < port <= HIGHEST_PORT:
        raise ProbeRefusedError(f"a port is 1 to {HIGHEST_PORT}")
    host, address = _host(host)
    return ProbeUrl(scheme, host, port, address)


def is_named(url: ProbeUrl, allowed: Sequence[Allowed]) -> bool:
    """Return whether an entry names this host and port, whatever it resolves to."""
    return any(
        each.port in (None, url.port)
        and (each.host == url.host or (bool(each.suffix) and url.host.endswith(each.suffix)))
        for each in allowed
    )


def check_addresses(
    url: ProbeUrl, addresses: Sequence[IpAddress], allowed: Sequence[Allowed]
) -> tuple[IpAddress, ...]:
    """Return the addresses that may be connected to. Raises ProbeRefusedError.

    One address that may not be reached is enough: names that resolve to a good and a bad address
    are how checks are walked around.
    """
    named = is_named(url, allowed)
    if not addresses:
        raise ProbeRefusedError("the host has no address")
    checked = []
    for each in addresses:
        address = _unmapped(each)
        why = _never(address)
        if why:
            raise ProbeRefusedError(f"{why} are never probed")
        in_network = any(
            entry.network is not None
            and entry.port in (None, url.port)
            and entry.network.version == address.version
            and address in entry.network
            for entry in allowed
        )
        own = address.is_loopback and url.address is None and url.host != "localhost"
        if not in_network and (not named or own):
            raise ProbeRefusedError("the address is not in the list of --probe.allow")
        checked.append(address)
    return tuple(checked)


def _unmapped(address: IpAddress) -> IpAddress:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _never(address: IpAddress) -> str:
    """Return which kind of addresses this is that no list allows; empty: none."""
    kinds = {
        "metadata services": address in METADATA,
        "link-local addresses": address.is_link_local,
        "multicast and unspecified addresses": address.is_multicast or address.is_unspecified,
    }
    if isinstance(address, ipaddress.IPv6Address):
        translated = any(address in each for each in TRANSLATING)
        kinds["addresses with a zone"] = address.scope_id is not None
        kinds["IPv6 addresses that stand for IPv4 ones"] = translated and not address.is_loopback
    else:
        kinds["reserved addresses"] = address.is_reserved or int(address) >> 24 == 0
    return next((kind for kind, is_one in kinds.items() if is_one), "")


def _host(host: str) -> tuple[str, IpAddress | None]:
    """Return a host and, if it is an address in its one spelling, the address."""
    if host.startswith("["):
        try:
            address: IpAddress = ipaddress.IPv6Address(host[1:-1])
        except ValueError as err:
            raise ProbeRefusedError("not an IPv6 address") from err
        return str(address), address
    labels = host.split(".")
    if NUMERIC.fullmatch(labels[-1]):
        try:
            return host, ipaddress.IPv4Address(host)
        except ValueError as err:
            why = "write an IPv4 address as four decimal numbers without leading zeros"
            raise ProbeRefusedError(why) from err
    if len(host) > LONGEST_HOST or not all(LABEL.fullmatch(label) for label in labels):
        raise ProbeRefusedError("not a host name; a trailing dot is not accepted either")
    return host, None


def _entry(name: str, text: str) -> Allowed:
    """Parse HOST[:PORT], *.DOMAIN[:PORT] or NETWORK/BITS[:PORT]; a port may be *."""
    try:
        return _allowed(text)
    except (ProbeRefusedError, ValueError) as err:
        why = f" ({err})" if str(err) else ""
        raise ConfigError(name, text, f"{ACCEPTED}{why}") from err


def _allowed(text: str) -> Allowed:
    """Raise ProbeRefusedError or ValueError for what is none of these."""
    rest = text.strip().lower()
    port: int | None = DEFAULT_PORT
    head, colon, tail = rest.rpartition(":")
    bare_ipv6 = rest.count(":") > 1 and not rest.startswith("[")
    if colon and not bare_ipv6 and not rest.endswith("]") and "/" not in tail:
        rest, port = head, _port_or_any(tail)
    if "/" in rest:
        network = ipaddress.ip_network(rest.replace("[", "").replace("]", ""))
        return Allowed(text, port, network=network)
    if rest.startswith("*."):
        host, address = _host(rest[2:])
        if address is not None:
            raise ValueError
        return Allowed(text, port, suffix=f".{host}")
    host, _ = _host(f"[{rest}]" if bare_ipv6 else rest)
    return Allowed(text, port, host=host)


def _port_or_any(text: str) -> int | None:
    if text == "*":
        return None
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) <= HIGHEST_PORT:
        return int(text)
    raise ValueError
