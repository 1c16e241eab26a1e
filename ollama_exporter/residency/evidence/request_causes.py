# SPDX-License-Identifier: Apache-2.0
"""The reason that requests gave a runner to leave, looked up when its unload is judged.

The one way for every unload, whether polls or a process show it: only the bounds differ.
"""

import math

from msgspec import Struct

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.requests import SeenRequest, SeenRequests, last_served
from ollama_exporter.residency.incarnation import Incarnation


class RequestCause(Struct, frozen=True):
    """This request gave a runner a reason to be unloaded."""

    reason: Reason
    evidence: Evidence
    request: SeenRequest


class Departure(Struct, frozen=True):
    """What left, and within which bounds what made it leave must have come."""

    life: Incarnation
    loaded: float  # until then it surely was not loaded
    failed: float  # the earliest failure that can have ended it,
    stopped: float  # and the earliest stop
    left: float  # when it had left at the latest

    def cause(self, requests: SeenRequests) -> RequestCause | None:
        """Return the reason that the requests seen gave."""
        own = self._own(requests)
        earliest = max(self.loaded, self.stopped - timings.REQUEST_ERROR)
        stop = next((r for r in own if r.fact.stop and r.fact.at >= earliest), None)
        failures = [r for r in requests.failures if (r.ended or 0.0) >= self.failed]
        for request, reason, evidence in (
            (self._crash(failures, own), Reason.CRASHED, Evidence.REQUEST_CRASHED),
            (self._out_of_memory(failures), Reason.OUT_OF_MEMORY, Evidence.REQUEST_OUT_OF_MEMORY),
            (stop, Reason.STOPPED, Evidence.STOP_CALL),
            (self._zero(requests, own), Reason.STOPPED, Evidence.KEEP_ALIVE_ZERO),
        ):
            if request is not None:
                return RequestCause(reason, evidence, request)
        return None

    def _own(self, requests: SeenRequests) -> list[SeenRequest]:
        """Return the requests that may have reached this runner."""
        return [
            r
            for r in requests.history_of(self.life.model.name)
            if r.fact.at <= self.left + timings.REQUEST_ERROR
            and (r.ended is None or r.ended > self.loaded - timings.SAME_MOMENT)
        ]

    def _out_of_memory(self, failures: list[SeenRequest]) -> SeenRequest | None:
        """Return a request that ran out of memory: the server drops all that is loaded then."""
        for request in failures:
            own = request.model == self.life.model.name
            late = timings.PROMPT if own else timings.ANOTHERS_REQUEST_ERROR
            ended = request.ended or 0.0
            renewed = (self.life.spared_at or 0.0) > ended + timings.BEHIND_ANOTHER
            if (
                request.failure is Failure.OUT_OF_MEMORY
                and self.loaded < ended <= self.left + late
                and not renewed  # it went on: a later request ended and gave it more time
            ):
                return request
        return None

    def _crash(self, failures: list[SeenRequest], own: list[SeenRequest]) -> SeenRequest | None:
        """Return its request that failed with a crash, if it did not answer again."""
        return next(
            (
                request
                for request in failures
                if request.failure is Failure.CRASHED
                and request.model == self.life.model.name
                and (ended := request.ended or 0.0) <= self.left + timings.PROMPT
                and not any(
                    r.ended is not None
                    and not (r.fact.stop or r.failure)
                    and ended + timings.SAME_MOMENT < (r.answered or 0.0) <= self.left
                    for r in own
                )
            ),
            None,
        )

    def _zero(self, requests: SeenRequests, own: list[SeenRequest]) -> SeenRequest | None:
        """Return the request that left keep_alive 0 behind, if its last one ended just then."""
        left = self.left + timings.SAME_MOMENT
        served = [
            r
            for r in own
            if not r.fact.stop
            and not requests.forces_reload(r.fact, self.life)
            and (r.ended is not None or r.was_answered(self.left + timings.REQUEST_ERROR))
        ]
        ends = [r.ended for r in served if r.ended is not None and r.ended <= left]
        busy = len(ends) < len(served)
        if not ends or busy or max(ends) < self.stopped - timings.CLOCK_ERROR:
            return None
        sent = [r for r in own if r.fact.stop or (r in served and r.named is not None)]
        last = last_served(sent)
        zero = [r for r in last if r.named == 0]
        sure = len(zero) == len(last) or self.life.at_now  # else E shows which was the last
        return zero[0] if zero and sure else None


def departure(life: Incarnation, low: float, high: float) -> Departure:
    """Return what left between two polls."""
    loaded = -math.inf if life.since is None else life.since
    return Departure(life, loaded, loaded, low - timings.BEHIND_ANOTHER, high)
