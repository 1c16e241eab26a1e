# SPDX-License-Identifier: Apache-2.0
"""Everything that is known of one request when it is over."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from ollama_exporter.protocol.request_body import NOTHING, RequestFields
from ollama_exporter.protocol.response_fields import UNREAD, ResponseFields
from ollama_exporter.protocol.routes import Route

# A request that waited this long for a runner waited for a load (design: cold start). Warm ones
# report up to 0.2 s; the server looks every 0.25 s whether a runner is ready, so no load is faster.
COLD: Final = 0.5
SHORTEST_LOAD: Final = 0.25
NO_CODE: Final = 0  # no head came, and there was nobody to send one to: in-process only
CLIENT_GONE: Final = 499  # its client left before there was a head; nginx and Ollama log it so


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"  # in full
    CLIENT_GONE = "client_gone"  # its client left
    UPSTREAM_ERROR = "upstream_error"  # 5xx, an error in the stream, or no usable answer at all
    TRUNCATED = "truncated"  # the answer broke off, or has no end
    QUEUE_FULL = "queue_full"  # 503 of the server: too many requests wait for a load
    REJECTED = "rejected"  # 4xx
    TIMEOUT = "timeout"  # the server was silent for longer than is waited


class Phase(StrEnum):
    """What a request was waiting for when its client left."""

    WAITING = "waiting"  # for a runner: the model was not resident
    PREFILL = "prefill"  # for the first byte
    DECODE = "decode"  # for the rest


class Start(StrEnum):
    """Whether a request had to wait for a load."""

    COLD = "cold"
    WARM = "warm"
    UNKNOWN = "unknown"  # the answer does not say and the residency was not known


class Observation(Struct, frozen=True):
    """One finished or aborted request. Moments on the timeline, durations in seconds."""

    id: int
    method: str
    route: Route
    began: float
    ended: float
    code: int  # status of the answer, CLIENT_GONE or NO_CODE
    outcome: Outcome
    request_fields: RequestFields = NOTHING
    response: ResponseFields = UNREAD
    model: str | None = None  # normalised; None: this request names none, or none was found
    start: Start = Start.UNKNOWN
    phase: Phase | None = None  # of a client that left
    first_content: float | None = None  # the first content-bearing chunk of a streamed answer
    upload: float = 0.0  # from its begin until its body was complete
    request_bytes: int = 0  # of its body
    response_bytes: int = 0
    trace_id: str | None = None  # of its traceparent

    @property
    def duration(self) -> float:
        """From the request's first byte to the end."""
        return max(0.0, self.ended - self.began)

    @property
    def time_to_first_token(self) -> float | None:
        """From the request's first byte to the first content; None: not streamed, or none came."""
        return None if self.first_content is None else max(0.0, self.first_content - self.began)

    @property
    def load_wait(self) -> float | None:
        """Time waited for a runner; None: the answer does not say.

        The server counts from the first byte of the request, so a slow upload is taken off. A
        preload is over when its model is ready.
        """
        if self.response.finish == "load":
            return max(0.0, self.duration - self.upload)
        load = self.response.load
        return None if load is None else max(0.0, load - self.upload)

    @property
    def unaccounted(self) -> float | None:
        """What is left of a generation's total: slot wait, templating, a slow reader."""
        r = self.response
        if r.total is None or r.eval is None:
            return None
        return max(0.0, r.total - (r.load or 0.0) - (r.prompt_eval or 0.0) - r.eval)

    @property
    def time_per_output_token(self) -> float | None:
        """Mean time between two tokens; the first one costs no evaluation."""
        tokens = self.response.output_tokens
        if tokens is None or tokens < 2:  # noqa: PLR2004 - one token has no successor
            return None
        first = self.time_to_first_token
        rest = self.response.eval
        if rest is None and first is not None:
            rest = self.duration - first
        return None if rest is None else rest / (tokens - 1)


def start_of(*, load_wait: float | None, resident: bool | None, cold: float = COLD) -> Start:
    """Tell a cold start; `resident`: as far as was known when the request came.

    What the answer says wins over a listing, which may be older than the request.
    """
    if load_wait is not None:
        least = SHORTEST_LOAD if resident is False else cold
        return Start.COLD if load_wait >= least else Start.WARM
    if resident is None:
        return Start.UNKNOWN
    return Start.WARM if resident else Start.COLD
