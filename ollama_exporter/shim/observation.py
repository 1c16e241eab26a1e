# SPDX-License-Identifier: Apache-2.0
"""The full record of one finished request."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from ollama_exporter.protocol.request_body import NOTHING, RequestFields
from ollama_exporter.protocol.response_fields import UNREAD, ResponseFields
from ollama_exporter.protocol.routes import Route

# A request that waited this long for a runner, in seconds, was cold. Warm ones report up to 0.2 s.
# The server checks every 0.25 s whether a new runner is ready, so no load is faster.
COLD: Final = 0.5
SHORTEST_LOAD: Final = 0.25
NO_CODE: Final = 0  # no answer came; only in-process, where the shim sends none itself
# The client left before the answer began. nginx and Ollama log the same code.
CLIENT_GONE: Final = 499


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"  # completely
    CLIENT_GONE = "client_gone"  # the client left
    UPSTREAM_ERROR = "upstream_error"  # 5xx, an error in the stream, or no usable answer
    TRUNCATED = "truncated"  # the answer broke off or has no final record
    QUEUE_FULL = "queue_full"  # 503: too many requests wait for a load
    REJECTED = "rejected"  # 4xx
    TIMEOUT = "timeout"  # the server was silent for too long


# The outcomes of requests that a runner worked on.
SERVED: Final = frozenset({Outcome.ANSWERED, Outcome.CLIENT_GONE, Outcome.TRUNCATED})


class Phase(StrEnum):
    """What a request waited for when its client left."""

    WAITING = "waiting"  # for a load
    PREFILL = "prefill"  # for the first byte
    DECODE = "decode"  # for the rest


class Start(StrEnum):
    """Whether a request had to wait for a load."""

    COLD = "cold"
    WARM = "warm"
    REMOTE = "remote"  # the model runs on another host
    UNKNOWN = "unknown"  # neither the answer nor a poll tells


class Observation(Struct, frozen=True):
    """One finished or aborted request. Times are on the timeline, durations in seconds."""

    id: int
    method: str
    route: Route
    began: float
    ended: float
    code: int  # status of the answer, CLIENT_GONE or NO_CODE
    outcome: Outcome
    request_fields: RequestFields = NOTHING
    response: ResponseFields = UNREAD
    model: str | None = None  # normalised; None if the request names none
    start: Start = Start.UNKNOWN
    phase: Phase | None = None  # if the client left
    first_content: float | None = None  # time of the first chunk with output, if streamed
    upload: float = 0.0  # seconds until the request's body was complete
    request_bytes: int = 0  # of its body
    response_bytes: int = 0
    trace_id: str | None = None  # from the header traceparent

    @property
    def duration(self) -> float:
        """Seconds from the request's first byte to the end."""
        return max(0.0, self.ended - self.began)

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds to the first output, or None if there was none or it was not streamed."""
        return None if self.first_content is None else max(0.0, self.first_content - self.began)

    @property
    def load_wait(self) -> float | None:
        """Seconds of waiting for a runner, or None if the answer does not tell.

        The server counts from the first byte of the request, so the upload is subtracted. A preload
        ends when its model is ready.
        """
        if self.response.finish == "load":
            return max(0.0, self.duration - self.upload)
        load = self.response.load
        return None if load is None else max(0.0, load - self.upload)

    @property
    def unaccounted(self) -> float | None:
        """Seconds that no phase accounts for: slot wait, templating, a slow reader."""
        r = self.response
        if r.total is None or r.eval is None:
            return None
        return max(0.0, r.total - (r.load or 0.0) - (r.prompt_eval or 0.0) - r.eval)

    @property
    def time_per_output_token(self) -> float | None:
        """Mean seconds between two output tokens; the first costs no evaluation."""
        tokens = self.response.output_tokens
        if tokens is None or tokens < 2:  # noqa: PLR2004 - one token has no interval
            return None
        first = self.time_to_first_token
        rest = self.response.eval
        if rest is None and first is not None:
            rest = self.duration - first
        return None if rest is None else rest / (tokens - 1)


def start_of(*, load_wait: float | None, resident: bool | None, cold: float = COLD) -> Start:
    """Return whether a request was cold. `resident`: whether the model was, at arrival.

    The answer wins over the listing, which may be older than the request.
    """
    if load_wait is not None:
        least = SHORTEST_LOAD if resident is False else cold
        return Start.COLD if load_wait >= least else Start.WARM
    if resident is None:
        return Start.UNKNOWN
    return Start.WARM if resident else Start.COLD
