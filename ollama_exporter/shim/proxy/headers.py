# SPDX-License-Identifier: Apache-2.0
"""Heads of requests and answers: what is refused, what is passed on, in which bytes. Pure.

Fields keep their order and case. Those of one hop are dropped (RFC 9110 7.6.1), Host becomes the
server's: Ollama answers 403 to foreign ones.
"""

import ipaddress
import json
import re
import socket
from functools import lru_cache
from http import HTTPStatus
from typing import Final

# RFC 9110 7.6.1; Trailer too: trailers are not passed on.
HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate"),
        *(b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# What becomes of a request's field beyond being passed on: (its value matters here, it is dropped).
SPECIAL: Final[dict[bytes, tuple[bool, bool]]] = {
    **dict.fromkeys(HOP, (False, True)),
    **dict.fromkeys((b"host", b"connection", b"content-length"), (True, True)),
    **dict.fromkeys((b"transfer-encoding",), (True, True)),
    **dict.fromkeys((b"authorization", b"traceparent"), (True, False)),
    b"http2-settings": (False, True),
}
SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
# What Connection may not take off: the body's framing, and what the server decides by.
KEPT: Final = frozenset({b"host", b"content-length", b"authorization"})
NONE: Final[frozenset[bytes]] = frozenset()
# What llhttp knows from other protocols (RTSP, ICE).
FOREIGN: Final = frozenset(
    {
        *(b"DESCRIBE", b"ANNOUNCE", b"SETUP", b"PLAY", b"PAUSE", b"TEARDOWN"),
        *(b"GET_PARAMETER", b"SET_PARAMETER", b"REDIRECT", b"RECORD", b"FLUSH", b"SOURCE"),
        b"PRI",
    }
)
ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)((?:[/?][^#]*)?)", re.IGNORECASE)
LOCAL_NAMES: Final = (".localhost", ".local", ".internal")
# RFC 3986 3.2, without userinfo: Host has none (RFC 9110 7.2)
AUTHORITY: Final = re.compile(
    rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(:[0-9]{1,5})?",
)


class RequestRejected(Exception):  # noqa: N818 - not an error of ours: an answer to the client
    """A request that is answered by the proxy itself."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


class RequestHead:
    """The head of a request as it came, and what came of its body before it could be passed on."""

    __slots__ = (
        *("body", "chunked", "complete", "http11", "keep_alive", "lines", "method", "noted"),
        *("refusal", "size", "target"),
    )

    def __init__(self) -> None:
        self.method = self.target = b""
        self.lines: list[bytes] = []  # fields that are passed on
        self.noted: dict[bytes, bytes] = {}  # fields that matter here, names in lower case
        self.http11 = True
        self.keep_alive = self.chunked = self.complete = False
        self.body: list[bytes] = []
        self.refusal: RequestRejected | None = None
        self.size = 0  # bytes, as long as it waits for its turn

    def field(self, name: bytes, value: bytes) -> None:
        """Take a field. Raises Refusal."""
        lower = name.lower()
        special = SPECIAL.get(lower)
        if special is None:
            self.lines.append(name + b": " + value)
            return
        matters, dropped = special
        if matters:
            if lower in self.noted:
                if lower in SINGLE:
                    raise RequestRejected(400, f"more than one {lower.decode()} field")
                self.noted[lower] += b", " + value
            else:
                self.noted[lower] = value
        if not dropped:
            self.lines.append(name + b": " + value)

    def check(self) -> None:
        """Raise Refusal for what has no one meaning, or none here."""
        noted = self.noted
        if self.method == b"CONNECT":
            raise RequestRejected(501, "CONNECT is not for this proxy")
        if self.method in FOREIGN:
            raise RequestRejected(400, f"{self.method.decode()} is no method of HTTP")
        host = noted.get(b"host")
        if self.http11 and host is None:
            raise RequestRejected(400, "no Host field")
        if host is not None and not _is_authority(host):
            raise RequestRejected(400, "a Host field that names no host")
        coding = noted.get(b"transfer-encoding")
        if coding is not None:
            if not self.http11:
                raise RequestRejected(400, "Transfer-Encoding in HTTP/1.0")
            if b"content-length" in noted:
                raise RequestRejected(400, "Transfer-Encoding and Content-Length")
            if coding.strip().lower() != b"chunked":
                raise RequestRejected(501, "a transfer coding other than chunked")
            self.chunked = True
        if self.target[:1] != b"/":
            self.target = _origin_form(self.target)


class Outward:
    """What heads to the server carry besides the client's own fields."""

    __slots__ = ("forwarded_for", "prefix", "replaced", "tail")

    def __init__(
        self,
        *,
        host: bytes,
        prefix: bytes = b"",
        authorization: bytes | None = None,
        own_token: bool = False,
        forwarded_for: bool = False,
    ) -> None:
        """`host`: authority of the server; `prefix`: path before each target.

        `authorization`: for the server. `own_token`: clients show this proxy a token, which is none
        of the server's.
        """
        self.prefix = prefix
        self.forwarded_for = forwarded_for
        self.tail = b" HTTP/1.1\r\nHost: " + host
        if authorization is not None:
            self.tail += b"\r\nAuthorization: " + authorization
        token = {b"authorization"} if own_token or authorization is not None else set()
        self.replaced = frozenset(token | ({b"x-forwarded-for"} if forwarded_for else set()))


def request_head(request: RequestHead, outward: Outward, peer: bytes) -> bytes:
    """Return the head for the server; `peer`: the client's address."""
    noted = request.noted
    dropped = outward.replaced
    if b"connection" in noted:
        dropped |= nominated(noted[b"connection"])
    lines = without(request.lines, dropped) if dropped else request.lines
    tail = outward.tail
    if outward.forwarded_for:
        tail += b"\r\nX-Forwarded-For: " + peer
    if request.chunked:
        lines = [*lines, b"Transfer-Encoding: chunked"]
    elif b"content-length" in noted:
        lines = [*lines, b"Content-Length: " + noted[b"content-length"]]
    prefix = b"" if request.target == b"*" else outward.prefix
    first = request.method + b" " + prefix + request.target + tail
    return b"\r\n".join([first, *lines, b"\r\n"])


def nominated(connection: bytes) -> frozenset[bytes]:
    """Return the fields that Connection names: they are for this hop alone."""
    value = connection.lower()
    if value in (b"keep-alive", b"close"):
        return NONE
    return frozenset(name.strip() for name in value.split(b",")) - KEPT


def without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """Return the fields that do not bear one of these names."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def own_answer(status: int, text: str, *, method: bytes) -> bytes:
    """Return an answer of the proxy's own, in Ollama's shape of errors; the connection ends."""
    body = json.dumps({"error": f"ollama_exporter: {text}"}).encode()
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"%bConnection: close\r\n\r\n%b"
    ) % (
        status,
        HTTPStatus(status).phrase.encode(),
        len(body),
        b"WWW-Authenticate: Bearer\r\n" if status == HTTPStatus.UNAUTHORIZED else b"",
        b"" if method == b"HEAD" else body,
    )


def _origin_form(target: bytes) -> bytes:
    """Return a target as an origin server is asked; the authority of an absolute one is ours."""
    if target == b"*":
        return target
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1] or not _is_authority(absolute[1]):
        raise RequestRejected(400, "a target that is no path")
    rest = absolute[2]
    return rest if rest[:1] == b"/" else b"/" + rest


@lru_cache(maxsize=256)
def names_this_machine(host: bytes) -> bool:
    """Tell whether Ollama, listening on loopback, would serve a Host (server/routes.go).

    A page whose name was pointed at 127.0.0.1 has the right to read what that name serves: a name
    of somebody else's must not become ours by being rewritten.
    """
    name = host.decode("latin-1").lower()
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    name = name.removeprefix("[").removesuffix("]")
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(LOCAL_NAMES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


@lru_cache(maxsize=256)  # clients have few
def _is_authority(value: bytes) -> bool:
    return AUTHORITY.fullmatch(value) is not None
