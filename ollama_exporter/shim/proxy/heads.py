# SPDX-License-Identifier: Apache-2.0
"""Heads of requests and answers: what is refused, what is passed on, in which bytes. Pure.

Fields keep their order and case. Those of one hop are dropped (RFC 9110 7.6.1), Host becomes the
server's: Ollama answers 403 to foreign ones.
"""

import json
from dataclasses import dataclass, field
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
# Fields whose meaning is needed here, or that are written anew.
NOTED: Final = frozenset(
    {
        *(b"host", b"connection", b"transfer-encoding", b"content-length", b"expect"),
        *(b"authorization", b"traceparent", b"x-forwarded-for", b"http2-settings"),
    }
)
DROPPED: Final = HOP | NOTED - {b"expect", b"traceparent", b"authorization", b"x-forwarded-for"}
# What Connection may not take off: the body's framing, and what the server decides by.
KEPT: Final = frozenset({b"host", b"content-length", b"authorization"})
NONE: Final[frozenset[bytes]] = frozenset()
ORIGINS: Final = (b"http://", b"https://")
Fields = list[tuple[bytes, bytes]]


class Refusal(Exception):  # noqa: N818 - not an error of ours: an answer to the client
    """A request that is answered by the proxy itself."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


@dataclass(slots=True)
class Request:
    """The head of a request as it came, and what came of its body before it could be passed on."""

    method: bytes = b""
    target: bytes = b""
    fields: Fields = field(default_factory=list)
    noted: dict[bytes, bytes] = field(default_factory=dict)
    http11: bool = True
    keep_alive: bool = False
    chunked: bool = False
    body: list[bytes] = field(default_factory=list)
    complete: bool = False
    refusal: Refusal | None = None

    def note(self, name: bytes, value: bytes) -> None:
        """Take a field that matters here. Raises Refusal."""
        if name in self.noted:
            if name in (b"host", b"content-length", b"transfer-encoding"):
                raise Refusal(400, f"more than one {name.decode()} field")
            value = self.noted[name] + b", " + value
        self.noted[name] = value

    def check(self) -> None:
        """Raise Refusal for what has no one meaning, or none here."""
        noted = self.noted
        if self.method == b"CONNECT":
            raise Refusal(501, "CONNECT is not for this proxy")
        if b"host" not in noted and self.http11:
            raise Refusal(400, "no Host field")
        coding = noted.get(b"transfer-encoding")
        if coding is not None:
            if not self.http11:
                raise Refusal(400, "Transfer-Encoding in HTTP/1.0")
            if b"content-length" in noted:
                raise Refusal(400, "Transfer-Encoding and Content-Length")
            if coding.strip().lower() != b"chunked":
                raise Refusal(501, "a transfer coding other than chunked")
            self.chunked = True
        self.target = _origin_form(self.target)


@dataclass(frozen=True, slots=True)
class Outward:
    """What heads to the server carry besides the client's own fields."""

    host: bytes  # authority of the server
    prefix: bytes = b""  # path before each target
    authorization: bytes | None = None  # for the server
    own_token: bool = False  # clients show this proxy a token, which is none of the server's
    forwarded_for: bool = False


def request_head(request: Request, outward: Outward, peer: bytes) -> bytes:
    """Return the head for the server; `peer`: the client's address."""
    lines = [
        b"%b %b%b HTTP/1.1" % (request.method, outward.prefix, request.target),
        b"Host: " + outward.host,
    ]
    dropped = _dropped(
        authorization=outward.own_token or outward.authorization is not None,
        forwarded_for=outward.forwarded_for,
        nominated=nominated(request.noted),
    )
    if outward.forwarded_for:
        lines.append(b"X-Forwarded-For: " + peer)
    if outward.authorization is not None:
        lines.append(b"Authorization: " + outward.authorization)
    lines += [b"%b: %b" % pair for pair in request.fields if pair[0].lower() not in dropped]
    if request.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif b"content-length" in request.noted:
        lines.append(b"Content-Length: " + request.noted[b"content-length"])
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def response_head(
    status: int, reason: bytes, fields: Fields, *, chunked: bool, connection: bytes | None
) -> bytes:
    """Return the head for the client; `connection`: what it is told of the connection."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    noted = {n.lower(): v for n, v in fields if n.lower() == b"connection"}
    dropped = HOP | nominated(noted) if noted else HOP
    if chunked:  # both at once would be two framings
        dropped |= {b"content-length"}
    lines += [b"%b: %b" % pair for pair in fields if pair[0].lower() not in dropped]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if connection is not None:
        lines.append(b"Connection: " + connection)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


@lru_cache(maxsize=64)  # a union for each request would cost more than the rest of its head
def _dropped(
    *, authorization: bool, forwarded_for: bool, nominated: frozenset[bytes]
) -> frozenset[bytes]:
    names = DROPPED | nominated
    names |= {b"authorization"} if authorization else set()
    return names | ({b"x-forwarded-for"} if forwarded_for else set())


def nominated(noted: dict[bytes, bytes]) -> frozenset[bytes]:
    """Return the fields that Connection names: they are for this hop alone."""
    value = noted.get(b"connection", b"").lower()
    if value in (b"", b"keep-alive", b"close"):
        return NONE
    return frozenset(name.strip() for name in value.split(b",")) - KEPT


def own_answer(status: int, text: str, *, keep_alive: bool = False) -> bytes:
    """Return an answer of the proxy's own, in Ollama's shape of errors."""
    body = json.dumps({"error": f"ollama_exporter: {text}"}).encode()
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b\r\n%b"
    ) % (
        status,
        HTTPStatus(status).phrase.encode(),
        len(body),
        b"WWW-Authenticate: Bearer\r\n" if status == HTTPStatus.UNAUTHORIZED else b"",
        b"" if keep_alive else b"Connection: close\r\n",
        body,
    )


def _origin_form(target: bytes) -> bytes:
    """Return a target as an origin server is asked; the authority of an absolute one is ours."""
    if target.startswith(b"/") or target == b"*":
        return target
    for scheme in ORIGINS:
        if target.lower().startswith(scheme):
            _, slash, path = target[len(scheme) :].partition(b"/")
            if slash:
                return b"/" + path
            break
    raise Refusal(400, "a target that is no path")
