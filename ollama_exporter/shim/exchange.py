# SPDX-License-Identifier: Apache-2.0
"""One request and its answer on their way through a shim.

The proxy and the httpx transports report what passes; the exchange measures it and makes the
Observation. It never raises and never changes the bytes.
"""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, Protocol

from msgspec.structs import replace

from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.protocol.model_names import MAX_LENGTH, normalise
from ollama_exporter.protocol.request_body import NOTHING, BodyReader, RequestFields
from ollama_exporter.protocol.response_fields import UNREAD, ResponseEnd, ResponseFields
from ollama_exporter.protocol.routes import Body, Route
from ollama_exporter.protocol.stream_parsers import StreamParser, Unread, parser_for
from ollama_exporter.shim.observation import CLIENT_GONE, NO_CODE, Observation, Outcome, Phase

OK: Final = 200
REJECTED: Final = range(400, 500)
QUEUE_FULL: Final = 503
TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
NO_TRACE: Final = b"0" * 32
Defer = Callable[[Callable[[], None]], None]


class Sink(Protocol):
    """Receives the events of exchanges. Its methods must not raise."""

    def on_request_start(self, exchange: "Exchange") -> None:
        """Record that a request arrived."""

    def on_request_read(self, exchange: "Exchange") -> None:
        """Record that its body was read: `model` and `request_fields` are set."""

    def on_response_start(self, exchange: "Exchange") -> None:
        """Record the first byte of the body of an answer with status 200."""

    def is_waiting(self, exchange: "Exchange") -> bool:
        """Return whether it still waits for a load, as far as is known."""

    def on_request_end(
        self, exchange: "Exchange", response: ResponseFields, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Record the end, once. `exchange.observation(...)` makes the full record."""

    def failed(self, message: str) -> None:
        """Report an internal error. Called in an `except` block."""


def call_now(call: Callable[[], None]) -> None:
    """Call without delay."""
    call()


class Exchange:
    """One request and its answer. Call the handlers in order, and one of the last four once.

    Every request makes one, polls of other tools included. What few of them need is a class
    attribute.
    """

    request_fields: RequestFields = NOTHING
    rewritten_fields: RequestFields | None = None  # what the proxy sent instead
    model: str | None = None
    resident: bool | None = None  # whether the model was, at arrival; set by the sink, as the next
    is_remote = False  # the model runs on another host; set by the sink
    client: str | None = None  # its name, if clients are told apart; set by the proxy
    waits_alone = False  # no other request waited for a load at arrival
    status = NO_CODE
    answered_at: float | None = None  # first byte of the body
    content_at: float | None = None
    ended_at: float | None = None
    request_bytes = 0  # of the body
    response_bytes = 0  # of the body
    has_ended = False
    on_request: Callable[[Observation], None] | None = None  # also receives the observation
    _body_reader: BodyReader | None = None
    _complete = False  # the whole request was sent
    _upload = 0.0
    _parser: StreamParser | None = None
    _awaits_content = False

    def __init__(
        self,
        sink: Sink,
        route: Route,
        *,
        method: bytes,
        id: int,  # noqa: A002 - the field's name everywhere
        now: Callable[[], float],
        traceparent: bytes = b"",
        defer: Defer = call_now,
    ) -> None:
        """`defer` runs, in order and a moment later, what would delay the bytes."""
        self._sink, self._now, self._defer = sink, now, defer
        self.route, self.method, self.id = route, method, id
        self._traceparent = traceparent
        self.started_at = now()
        if route.runs:
            self._body_reader = BodyReader(route)
        sink.on_request_start(self)

    # -- the request -----------------------------------------------------------------------------

    def on_request_body(self, data: bytes) -> None:
        """Record bytes of the request's body, without its framing."""
        self.request_bytes += len(data)
        if self._body_reader is not None:
            try:
                self._body_reader.feed(data)
            except Exception:  # noqa: BLE001 - an internal error must not cost the request
                self._body_reader = None
                self._sink.failed("Request could not be read")

    def on_request_complete(self) -> None:
        """Record that the whole request was sent."""
        if self._body_reader is not None:
            self._upload = self._now() - self.started_at
            self._complete = True
            self._defer(self._ensure_request_read)

    def _ensure_request_read(self) -> None:
        """Read the request's body, unless that was done before."""
        reader, self._body_reader = self._body_reader, None
        if reader is None:
            return
        try:
            self.request_fields = reader.fields(complete=self._complete)
            self.model = _model_name(self.request_fields.model)
        except Exception:  # noqa: BLE001 - as above
            self._sink.failed("Request could not be read")
        self._sink.on_request_read(self)

    # -- the answer ------------------------------------------------------------------------------

    def on_response_head(self, status: int, content_type: bytes, content_encoding: bytes) -> None:
        """Record the answer's status and the values of two headers."""
        self.status = status
        if self.route.runs:
            self._parser = parser_for(
                self.route.body,
                content_type=content_type.decode("latin-1"),
                content_encoding=content_encoding.decode("latin-1"),
            )
            self._awaits_content = True

    def on_response_body(self, data: bytes) -> None:
        """Record bytes of the answer's body, without its framing. Called for each chunk."""
        self.response_bytes += len(data)
        if self._parser is not None:
            try:
                self._parser.feed(data)
            except Exception:  # noqa: BLE001 - as above
                self._parser = Unread()
                self._sink.failed("Answer could not be read")
            if self._awaits_content:
                self._note_times()

    def _note_times(self) -> None:
        """Note the times of the first byte and the first output; later chunks read no clock."""
        if self.answered_at is None:
            self.answered_at = self._now()
            if self.status == OK:
                self._defer(self._on_first_byte)
        if self._parser is not None and self._parser.content:
            self.content_at = self._now()
            self._awaits_content = False

    def _on_first_byte(self) -> None:
        self._ensure_request_read()
        self._sink.on_response_start(self)

    # -- the end ---------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Record that the answer ended as its framing says."""
        response = self._read_response()
        self._end(response, _outcome(self.route, self.status, response))

    def on_client_gone(self) -> None:
        """Record that the client left before the end."""
        if self.has_ended:  # the stream was closed after its end
            return
        self._ensure_request_read()
        response = self._read_response()
        if response.ending is ResponseEnd.COMPLETE:  # it left after the final record
            self._end(response, _outcome(self.route, self.status, response))
            return
        if self.answered_at is not None:
            phase = Phase.DECODE
        else:
            phase = Phase.WAITING if self._sink.is_waiting(self) else Phase.PREFILL
        self.status = self.status or CLIENT_GONE
        self._end(response, Outcome.CLIENT_GONE, phase)

    def on_upstream_error(
        self, *, code: int = NO_CODE, timeout: bool = False, error: str = ""
    ) -> None:
        """Record that the server failed. `code`: the status that the client got instead."""
        response = self._read_response()
        if error and response.error is None:
            response = replace(response, error=error)
        cut = self.status != NO_CODE and code == NO_CODE  # the client had got the head
        self.status = code or self.status
        outcome = Outcome.TRUNCATED if cut else Outcome.UPSTREAM_ERROR
        self._end(response, Outcome.TIMEOUT if timeout else outcome)

    def on_rejected(self, code: int) -> None:
        """Record that the proxy answered the request itself."""
        self.status = code
        self._end(UNREAD, Outcome.REJECTED)

    def _read_response(self) -> ResponseFields:
        if self._parser is None:
            return UNREAD
        try:
            return self._parser.end()
        except Exception:  # noqa: BLE001 - as above
            self._sink.failed("Answer could not be read")
            return UNREAD

    def _end(self, response: ResponseFields, outcome: Outcome, phase: Phase | None = None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        if not self.route.runs:
            self._sink.on_request_end(self, response, outcome, phase)
            return
        self.ended_at = self._now()
        self._defer(partial(self._finish, response, outcome, phase))

    def _finish(self, response: ResponseFields, outcome: Outcome, phase: Phase | None) -> None:
        self._ensure_request_read()
        if self.model is None:  # a compressed request, for example
            self.model = _model_name(response.model)
        self._sink.on_request_end(self, response, outcome, phase)

    def observation(
        self, response: ResponseFields, outcome: Outcome, phase: Phase | None
    ) -> Observation:
        """Return the full record. For the sink, at the end."""
        return Observation(
            id=self.id,
            method=self.method.decode("latin-1"),
            route=self.route,
            began=self.started_at,
            ended=self._now() if self.ended_at is None else self.ended_at,
            code=self.status,
            outcome=outcome,
            request_fields=self.request_fields,
            response=response,
            model=self.model,
            phase=phase,
            first_content=self.content_at,
            upload=self._upload,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            trace_id=_trace_id(self._traceparent),
        )


def _model_name(name: str | None) -> str | None:
    """Return the normalised name, or None if it is too long to be kept."""
    return None if name is None or len(name) > MAX_LENGTH else _normalised(name)


_normalised: Final = lru_cache(maxsize=256)(normalise)  # the same few models again and again


def _trace_id(traceparent: bytes) -> str | None:
    found = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[1].decode() if found and found[1] != NO_TRACE else None


def _outcome(route: Route, status: int, response: ResponseFields) -> Outcome:
    ending, error = response.ending, response.error
    if status == QUEUE_FULL:
        return Outcome.QUEUE_FULL
    if status in REJECTED and (error is None or classify(error) is Failure.OTHER):
        return Outcome.REJECTED
    if status >= REJECTED[0] or ending is ResponseEnd.ERROR:
        return Outcome.UPSTREAM_ERROR
    if route.body is not Body.OPAQUE and ending is ResponseEnd.UNFINISHED:
        return Outcome.TRUNCATED
    return Outcome.ANSWERED
