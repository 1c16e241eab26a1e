# SPDX-License-Identifier: Apache-2.0
"""Heads of requests and responses: what is rejected, what is passed on, and in which bytes. Pure.

Fields keep their order and case. Hop-by-hop fields are dropped (RFC 9110 7.6.1). Host becomes the
server's own, because Ollama answers 403 to others.
"""

import ipaddress
import json
import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from msgspec import Struct, field

# RFC 9110 7.6.1. Trailer is one of them because trailers are not passed on.
HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate"),
        *(b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
VIA_NAME: Final = b"x-ollama-exporter-via"
# Request fields that are more than passed on: (the proxy reads the value, the field is dropped).
SPECIAL: Final[dict[bytes, tuple[bool, bool]]] = {
    **dict.fromkeys(HOP, (False, True)),
    **dict.fromkeys((b"host", b"connection", b"content-length"), (True, True)),
    **dict.fromkeys((b"transfer-encoding",), (True, True)),
    **dict.fromkeys((b"authorization", b"traceparent"), (True, False)),
    b"http2-settings": (False, True),
    VIA_NAME: (True, True),
}
SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
# Connection cannot nominate these: the body's framing, and what the server decides by.
NOT_NOMINATED: Final = frozenset({b"host", b"content-length", b"authorization"})
WHY_REFUSED: Final = {  # by a web configuration file
    401: "a user and its password are required",
    429: "too many requests",
    503: "too many logins, or the web configuration cannot be read",
}
NO_NAMES: Final[frozenset[bytes]] = frozenset()
CHUNKED: Final = b"Transfer-Encoding: chunked"
# The proxies that a request has passed, so that a loop ends. Via would do (RFC 9110 7.6.3), but
# other servers change what they send when they see it.
VIA: Final = b"X-Ollama-Exporter-Via: "
MAX_HOPS: Final = 8
# Methods that llhttp accepts from other protocols (RTSP, ICE).
FOREIGN: Final = frozenset(
    {
        *(b"DESCRIBE", b"ANNOUNCE", b"SETUP", b"PLAY", b"PAUSE", b"TEARDOWN"),
        *(b"GET_PARAMETER", b"SET_PARAMETER", b"REDIRECT", b"RECORD", b"FLUSH", b"SOURCE"),
        b"PRI",
    }
)
ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)((?:[/?][^#]*)?)", re.IGNORECASE)
LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
# RFC 3986 3.2, without userinfo: Host has none (RFC 9110 7.2)
AUTHORITY: Final = re.compile(
    rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(:[0-9]{1,5})?",
)


class RequestRejected(Exception):  # noqa: N818 - not an error of ours: a response to the client
    """A request that the proxy answers itself."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


class RequestHead(Struct, eq=False):
    """The head of a request as it came, and the part of its body that waits to be forwarded."""

    method: bytes = b""
    target: bytes = b""
    lines: list[bytes] = field(default_factory=list)  # fields that are passed on
    # fields that the proxy reads, names in lower case
    noted: dict[bytes, bytes] = field(default_factory=dict)
    is_http11: bool = True
    keep_alive: bool = False
    is_chunked: bool = False
    is_complete: bool = False
    body: list[bytes] = field(default_factory=list)
    rejection: RequestRejected | None = None
    client: str | None = None  # its name, if clients are told apart
    is_pending: bool = False  # its password is being checked
    size: int = 0  # bytes of memory while it waits for its turn

    def again(self) -> "RequestHead":
        """Return what came, as the head of another request."""
        return RequestHead(
            self.method,
            self.target,
            self.lines,  # replaced by others, but never changed
            self.noted.copy(),
            self.is_http11,
            self.keep_alive,
            self.is_chunked,
            size=self.size,
        )

    def drop_fields(self) -> None:
        """Drop what nobody asks for once the response has begun."""
        self.lines, self.noted = [], {}

    def add_field(self, name: bytes, value: bytes) -> None:
        """Add a field. Raises RequestRejected."""
        lower = name.lower()
        special = SPECIAL.get(lower)
        if special is None:
            self.lines.append(name + b": " + value)
            return
        is_noted, is_dropped = special
        if is_noted:
            if lower in self.noted:
                if lower in SINGLE:
                    raise RequestRejected(400, f"more than one {name.decode('latin-1')} field")
                self.noted[lower] += b", " + value
            else:
                self.noted[lower] = value
        if not is_dropped:
            self.lines.append(name + b": " + value)

    def validate(self) -> None:
        """Reject an ambiguous or unsupported request. Raises RequestRejected."""
        noted = self.noted
        if self.method == b"CONNECT":
            raise RequestRejected(501, "CONNECT is not supported")
        if self.method in FOREIGN:
            raise RequestRejected(400, f"{self.method.decode()} is not an HTTP method")
        host = noted.get(b"host")
        if self.is_http11 and host is None:
            raise RequestRejected(400, "no Host field")
        if host is not None and not _is_authority(host):
            raise RequestRejected(400, "the Host field is not a host name")
        coding = noted.get(b"transfer-encoding")
        if coding is not None:
            if not self.is_http11:
                raise RequestRejected(400, "Transfer-Encoding in an HTTP/1.0 request")
            if b"content-length" in noted:
                raise RequestRejected(400, "both Transfer-Encoding and Content-Length")
            if coding.strip().lower() != b"chunked":
                raise RequestRejected(501, "the only supported transfer coding is chunked")
            self.is_chunked = True
        if self.target[:1] != b"/":
            self.target = _origin_form(self.target)


class OutgoingFields:
    """What heads to the server carry besides the client's own fields."""

    __slots__ = ("forwarded_for", "name", "prefix", "replaced", "tail")

    def __init__(
        self,
        *,
        host: bytes,
        prefix: bytes = b"",
        fields: Sequence[tuple[bytes, bytes]] = (),
        drops_token: bool = False,
        forwarded_for: bool = False,
        name: bytes = b"",
    ) -> None:
        """`host`: authority of the server. `prefix`: path in front of each target.

        `fields`: for the server, in place of the client's own of these names.
        `drops_token`: the client's is not passed on. `name`: of this proxy, for the field that ends
        loops.
        """
        self.prefix = prefix
        self.name = name
        self.forwarded_for = forwarded_for
        self.tail = b" HTTP/1.1\r\nHost: " + host
        self.tail += b"".join(b"\r\n" + field + b": " + value for field, value in fields)
        replaced = {field.lower() for field, _ in fields}
        if drops_token:
            replaced.add(b"authorization")
        if forwarded_for:
            replaced.add(b"x-forwarded-for")
        self.replaced = frozenset(replaced)


def request_head(request: RequestHead, outgoing: OutgoingFields, peer: bytes) -> bytes:
    """Return the head for the server. `peer`: the client's address."""
    noted = request.noted
    dropped = outgoing.replaced
    if b"connection" in noted:
        dropped |= nominated(noted[b"connection"])
    lines = without(request.lines, dropped) if dropped else request.lines
    tail = outgoing.tail
    if outgoing.forwarded_for:
        tail += b"\r\nX-Forwarded-For: " + peer
    if outgoing.name:
        passed = noted.get(VIA_NAME)
        tail += (
            b"\r\n" + VIA + (outgoing.name if passed is None else passed + b", " + outgoing.name)
        )
    if request.is_chunked:
        lines = [*lines, CHUNKED]
    elif b"content-length" in noted:
        lines = [*lines, b"Content-Length: " + noted[b"content-length"]]
    prefix = b"" if request.target == b"*" else outgoing.prefix
    first = request.method + b" " + prefix + request.target + tail
    return b"\r\n".join([first, *lines, b"\r\n"])


def response_head(
    request: RequestHead,
    first: bytes,
    lines: list[bytes],
    noted: dict[bytes, bytes],
    *,
    is_chunked: bool,
    added: tuple[bytes, ...] = (),
) -> bytes:
    """Return the head for the client; `first`: the status line.

    From here on `request.keep_alive` says whether the client's connection is kept.
    """
    if b"connection" in noted and (names := nominated(noted[b"connection"])):
        lines = without(lines, names)
    if is_chunked:
        if b"content-length" in noted:  # beside a transfer coding it means nothing
            lines = without(lines, frozenset({b"content-length"}))
        lines = [*lines, CHUNKED]
    request.keep_alive = request.keep_alive and request.is_complete
    if not request.keep_alive:
        lines = [*lines, b"Connection: close"]
    elif not request.is_http11:
        lines = [*lines, b"Connection: keep-alive"]
    return b"\r\n".join([first, *lines, *added, b"\r\n"])


def has_passed(request: RequestHead, name: bytes) -> bool:
    """Return whether a request comes in a loop: it has passed this proxy, or too many."""
    passed = request.noted.get(VIA_NAME)
    if passed is None:
        return False
    names = [each.strip() for each in passed.split(b",")]
    return name in names or len(names) >= MAX_HOPS


def nominated(connection: bytes) -> frozenset[bytes]:
    """Return the fields that Connection names: they are for this hop alone."""
    value = connection.lower()
    if value in (b"keep-alive", b"close"):
        return NO_NAMES
    return frozenset(name.strip() for name in value.split(b",")) - NOT_NOMINATED


def without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """Return the fields that do not have one of these names."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def own_response(
    status: int, text: str, *, method: bytes, fields: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """Return a response of the proxy's own, in the form of Ollama's errors, with these fields."""
    body = json.dumps({"error": f"ollama_exporter: {text}"}).encode()
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"%bConnection: close\r\n\r\n%b"
    ) % (
        status,
        HTTPStatus(status).phrase.encode(),
        len(body),
        b"".join(name + b": " + value + b"\r\n" for name, value in fields),
        b"" if method == b"HEAD" else body,
    )


def _origin_form(target: bytes) -> bytes:
    """Return the target without the authority of an absolute URL."""
    if target == b"*":
        return target
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1] or not _is_authority(absolute[1]):
        raise RequestRejected(400, "the request target is not a path")
    rest = absolute[2]
    return rest if rest[:1] == b"/" else b"/" + rest


@lru_cache(maxsize=256)
def is_this_machine(host: bytes) -> bool:
    """Return whether Ollama, listening on loopback, would serve a Host (server/routes.go).

    A web page may read what its own name serves. If that name is pointed at 127.0.0.1, rewriting
    Host to ours would let the page read Ollama.
    """
    name = host.decode("latin-1").lower()
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    name = name.removeprefix("[").removesuffix("]")
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


@lru_cache(maxsize=256)  # clients use few
def _is_authority(value: bytes) -> bool:
    return AUTHORITY.fullmatch(value) is not None
