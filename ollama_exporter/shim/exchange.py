# SPDX-License-Identifier: Apache-2.0
"""One request on its way through a shim: fed with what passes, it makes the Observation.

Proxy and transport drive it alike. It never raises and never touches the bytes.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from msgspec.structs import replace

from ollama_exporter.protocol import request_body
from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.request_body import NOTHING, PEEK, RequestFields
from ollama_exporter.protocol.response_fields import UNREAD, ResponseEnd, ResponseReading
from ollama_exporter.protocol.routes import Body, Route
from ollama_exporter.protocol.stream_parsers import StreamParser, Unread, tap_for
from ollama_exporter.shim.observation import CLIENT_GONE, NO_CODE, Observation, Outcome, Phase

OK: Final = 200
REJECTED: Final = range(400, 500)
QUEUE_FULL: Final = 503
TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
NO_TRACE: Final = b"0" * 32
Later = Callable[[Callable[[], None]], None]


class Sink(Protocol):
    """Who is told of an exchange: at its begin, when more is known, at its end. Never raises."""

    def begun(self, exchange: "Exchange") -> None:
        """Take that a request came."""

    def understood(self, exchange: "Exchange") -> None:
        """Take that its body was read: `model` and `asked` are set."""

    def answered(self, exchange: "Exchange") -> None:
        """Take that the first byte of a good answer's body came."""

    def waits(self, exchange: "Exchange") -> bool:
        """Tell whether it still waits for a load, as far as is known."""

    def ended(
        self, exchange: "Exchange", reading: ResponseReading, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Take that it is over; `exchange.observation` makes these a whole, if one is wanted."""

    def failed(self, message: str) -> None:
        """Take that something of ours raised; called in its handler."""


def at_once(call: Callable[[], None]) -> None:
    """Call now."""
    call()


class Exchange:
    """One request and its answer. Call the methods in order; `completed` and its like once.

    Made for each request, polls of other tools included: what few of them need is a default here.
    """

    asked: RequestFields = NOTHING
    amended: RequestFields | None = (
        None  # what the server was asked instead, where a shim changed it
    )
    model: str | None = None
    resident: bool | None = None  # at its arrival; set by the sink, like the next one
    alone = False  # nobody else waited for a load when it came
    status = NO_CODE
    answered_at: float | None = None  # first byte of the body
    content_at: float | None = None
    ended_at: float | None = None
    sent = 0  # bytes of the request's body
    received = 0  # bytes of the answer's body
    over = False
    on_request: Callable[[Observation], None] | None = None  # who else is handed the observation
    _asked_parts: list[bytes] | None = None
    _complete = False  # the request was sent in full
    _upload = 0.0
    _tap: StreamParser | None = None
    _silent = False

    def __init__(
        self,
        sink: Sink,
        route: Route,
        *,
        method: bytes,
        id: int,  # noqa: A002 - the field's name everywhere
        now: Callable[[], float],
        traceparent: bytes = b"",
        later: Later = at_once,
    ) -> None:
        """`later` calls what would hold the bytes up: each call in order, a moment later."""
        self._sink, self._now, self._later = sink, now, later
        self.route, self.method, self.id = route, method, id
        self._traceparent = traceparent
        self.began = now()
        if route.runs:
            self._asked_parts = []
        sink.begun(self)

    # -- the request -----------------------------------------------------------------------------

    def request_body(self, data: bytes) -> None:
        """Take bytes of the request's body, decoded from its framing."""
        self.sent += len(data)
        if self._asked_parts is not None:
            self._asked_parts.append(data)
            if self.sent >= PEEK:
                self._understand(complete=False)

    def request_complete(self) -> None:
        """Take that the request was sent in full."""
        if self._asked_parts is not None:
            self._upload = self._now() - self.began
            self._complete = True
            self._later(self._settle)

    def _settle(self) -> None:
        """Understand the request, unless that was done."""
        if self._asked_parts is not None:
            self._understand(complete=self._complete)

    def _understand(self, *, complete: bool) -> None:
        parts, self._asked_parts = self._asked_parts, None
        try:
            beginning = b"".join(parts or ())
            self.asked = request_body.read(self.route, beginning[:PEEK], complete=complete)
            if self.asked.model is not None:
                self.model = normalise(self.asked.model)
        except Exception:  # noqa: BLE001 - a defect of ours must not cost the request
            self._sink.failed("Request could not be read")
        self._sink.understood(self)

    # -- the answer ------------------------------------------------------------------------------

    def head(self, status: int, content_type: bytes, content_encoding: bytes) -> None:
        """Take the answer's head: its status, and the values of the two fields."""
        self.status = status
        if self.route.runs:
            self._tap = tap_for(
                self.route.body,
                content_type=content_type.decode("latin-1"),
                content_encoding=content_encoding.decode("latin-1"),
            )
            self._silent = True

    def feed(self, data: bytes) -> None:
        """Take bytes of the answer's body, decoded from its framing. Called for each chunk."""
        self.received += len(data)
        if self._tap is not None:
            try:
                self._tap.feed(data)
            except Exception:  # noqa: BLE001 - as above
                self._tap = Unread()
                self._sink.failed("Answer could not be read")
            if self._silent:
                self._heard()

    def _heard(self) -> None:
        """Note the first byte and the first content; after that chunks cost no clock."""
        if self.answered_at is None:
            self.answered_at = self._now()
            if self.status == OK:
                self._later(self._tell_answered)
        if self._tap is not None and self._tap.content:
            self.content_at = self._now()
            self._silent = False

    def _tell_answered(self) -> None:
        self._settle()
        self._sink.answered(self)

    # -- the end ---------------------------------------------------------------------------------

    def completed(self) -> None:
        """Take that the answer ended as its framing says."""
        reading = self._read()
        self._end(reading, _outcome(self.route, self.status, reading))

    def left(self) -> None:
        """Take that the client left first."""
        if self.over:  # a stream that is closed after its end
            return
        self._settle()
        reading = self._read()
        if (
            reading.ending is ResponseEnd.COMPLETE
        ):  # it had all it wanted and did not wait for the rest
            self._end(reading, _outcome(self.route, self.status, reading))
            return
        if self.answered_at is not None:
            phase = Phase.DECODE
        else:
            phase = Phase.WAITING if self._sink.waits(self) else Phase.PREFILL
        self.status = self.status or CLIENT_GONE
        self._end(reading, Outcome.CLIENT_GONE, phase)

    def broken(self, *, code: int = NO_CODE, timeout: bool = False, error: str = "") -> None:
        """Take that the server failed; `code`: what the client was told instead of an answer."""
        reading = self._read()
        if error and reading.error is None:
            reading = replace(reading, error=error)
        cut = self.status != NO_CODE and code == NO_CODE  # the head had passed already
        self.status = code or self.status
        outcome = Outcome.TRUNCATED if cut else Outcome.UPSTREAM_ERROR
        self._end(reading, Outcome.TIMEOUT if timeout else outcome)

    def refused(self, code: int) -> None:
        """Take that a shim of ours answered it itself."""
        self.status = code
        self._end(UNREAD, Outcome.REJECTED)

    def _read(self) -> ResponseReading:
        if self._tap is None:
            return UNREAD
        try:
            return self._tap.end()
        except Exception:  # noqa: BLE001 - as above
            self._sink.failed("Answer could not be read")
            return UNREAD

    def _end(self, reading: ResponseReading, outcome: Outcome, phase: Phase | None = None) -> None:
        if self.over:
            return
        self.over = True
        if not self.route.runs:
            self._sink.ended(self, reading, outcome, phase)
            return
        self.ended_at = self._now()
        self._later(partial(self._conclude, reading, outcome, phase))

    def _conclude(self, reading: ResponseReading, outcome: Outcome, phase: Phase | None) -> None:
        self._settle()
        if self.model is None and reading.model is not None:  # a compressed request, say
            self.model = normalise(reading.model)
        self._sink.ended(self, reading, outcome, phase)

    def observation(
        self, reading: ResponseReading, outcome: Outcome, phase: Phase | None
    ) -> Observation:
        """Return all that is known of it; for the sink, at its end."""
        return Observation(
            id=self.id,
            method=self.method.decode("latin-1"),
            route=self.route,
            began=self.began,
            ended=self._now() if self.ended_at is None else self.ended_at,
            code=self.status,
            outcome=outcome,
            asked=self.asked,
            reading=reading,
            model=self.model,
            phase=phase,
            first_content=self.content_at,
            upload=self._upload,
            request_bytes=self.sent,
            response_bytes=self.received,
            trace_id=_trace_id(self._traceparent),
        )


def _trace_id(traceparent: bytes) -> str | None:
    found = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[1].decode() if found and found[1] != NO_TRACE else None


def _outcome(route: Route, status: int, reading: ResponseReading) -> Outcome:
    ending, error = reading.ending, reading.error
    if status == QUEUE_FULL:
        return Outcome.QUEUE_FULL
    if status in REJECTED and (error is None or classify(error) is Failure.OTHER):
        return Outcome.REJECTED
    if status >= REJECTED[0] or ending is ResponseEnd.ERROR:
        return Outcome.UPSTREAM_ERROR
    if route.body is not Body.OPAQUE and ending is ResponseEnd.UNFINISHED:
        return Outcome.TRUNCATED
    return Outcome.ANSWERED
