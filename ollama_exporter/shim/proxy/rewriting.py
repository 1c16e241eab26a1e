# SPDX-License-Identifier: Apache-2.0
"""One request that rules may change.

Its head is held back until its body is complete, and then changed in its place. A body that is too
large for that goes on as it comes: what the rules set is put in front of the brace that ends it,
where it counts because the server's decoder lets the last of equal keys win.
"""

import re
from typing import Final

from ollama_exporter.protocol.request_body import BodyReader, RequestFields, read
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.proxy.headers import RequestHead
from ollama_exporter.shim.proxy.interfaces import RewriteRules
from ollama_exporter.shim.proxy.limits import MAX_HELD, HeldBytes
from ollama_exporter.shim.proxy.usage_filter import MEMBER, wants_asking, with_usage

HEADER: Final = b"X-Ollama-Exporter-Set: "
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CODINGS: Final = re.compile(rb"accept-encoding:", re.IGNORECASE)
EXPECT: Final = re.compile(rb"expect:.*100-continue", re.IGNORECASE)


class RequestRewrite:
    """Holds a body, lets the rules change it, and reports the change in the response."""

    __slots__ = (
        *("_exchange", "_held", "_parts", "_reader", "_request", "_rules", "_said", "_size"),
        *("asked_usage", "interim", "is_holding"),
    )

    def __init__(
        self,
        rules: RewriteRules | None,
        request: RequestHead,
        exchange: Exchange,
        held: HeldBytes,
        *,
        asks_usage: bool = False,
    ) -> None:
        """`asks_usage`: whether a stream is asked for the usage that its client does not want."""
        self._rules, self._request, self._exchange = rules, request, exchange
        self._held = held
        self.asked_usage: bool | None = False if asks_usage else None  # None: never
        self._parts: list[bytes] = []
        self._size = 0
        self._reader: BodyReader | None = None  # of a body that is changed while it passes
        self._said = ""
        self.is_holding = asks_usage or (rules is not None and exchange.route.native)
        self.interim = b""  # what the client is sent before its body can come
        expects = [line for line in request.lines if EXPECT.match(line)]
        if self.is_holding and expects:
            # The server cannot answer a head that is held back: the proxy does (RFC 9110 10.1.1).
            request.lines = [line for line in request.lines if line not in expects]
            self.interim = CONTINUE if request.is_http11 else b""

    def hold(self, data: bytes) -> bool:
        """Hold a piece of the body. Return False if it is not held: call `pass_held`."""
        if self._size + len(data) > MAX_HELD or not self._held.take(len(data)):
            return False
        self._parts.append(data)
        self._size += len(data)
        return True

    def pass_held(self) -> bytes:
        """Hold nothing any longer: return what was held, and scan the body as it passes."""
        reader = self._reader = BodyReader(self._exchange.route)
        reader.scan()
        request = self._request
        if self.asked_usage is not None:
            self._want_plain_answer()
        if request.noted.pop(b"content-length", None) is not None:  # the length may change
            request.is_chunked = True
        return self.pass_on(self.release())

    def pass_on(self, data: bytes) -> bytes:
        """Return the next piece of the body as the rules change it."""
        reader = self._reader
        if reader is None:
            return data
        end = reader.feed(data)
        if end is None:
            return data
        self._reader = None
        added = self._members(reader.fields(complete=True))
        if added is None:
            return data
        comma = b"," if reader.has_members else b""
        return data[:end] + comma + added + data[end:]

    def _members(self, asked: RequestFields) -> bytes | None:
        """Return the members to put behind those of a body; None: none."""
        if self.asked_usage is not None:
            self.asked_usage = wants_asking(asked)
            return MEMBER if self.asked_usage else None
        assert self._rules is not None  # noqa: S101 - nothing else makes a rewrite
        changed = self._rules.append(self._exchange.route, asked)
        if changed is None:
            return None
        self._exchange.rewritten_fields, self._said = changed.asked, changed.said
        return changed.body

    def release(self) -> bytes:
        """Return the body as it came, and hold nothing any longer."""
        self.is_holding = False
        body = b"".join(self._parts)
        self._parts.clear()
        self._held.give_back(self._size)
        self._size = 0
        return body

    def apply(self) -> bytes:
        """Return the complete body as the rules change it, and hold nothing any longer."""
        body = self.release()
        new = self._changed(body)
        if new is None:
            return body
        if b"content-length" in self._request.noted:
            self._request.noted[b"content-length"] = b"%d" % len(new)
        return new

    def _changed(self, body: bytes) -> bytes | None:
        """Return the new body; None: it stays as it is."""
        route = self._exchange.route
        if self.asked_usage is not None:
            new = with_usage(body, read(route, body, complete=True))
            self.asked_usage = new is not None
            if self.asked_usage:
                self._want_plain_answer()
            return new
        assert self._rules is not None  # noqa: S101 - nothing else makes a rewrite
        changed = self._rules.change(route, body)
        if changed is None:
            return None
        self._exchange.rewritten_fields, self._said = changed.asked, changed.said
        return changed.body

    def _want_plain_answer(self) -> None:
        """Drop the client's offer of codings: of a compressed answer nothing can be taken out."""
        request = self._request
        request.lines = [line for line in request.lines if not CODINGS.match(line)]

    def response_fields(self) -> tuple[bytes, ...]:
        """Return the field that tells the client what is set in its request, or after it."""
        if self._rules is None:
            return ()
        afterwards = self._rules.afterwards(self._exchange)
        said = ", ".join(part for part in (self._said, afterwards) if part)
        return (HEADER + said.encode("latin-1", "replace"),) if said else ()
