# SPDX-License-Identifier: Apache-2.0
"""What the requests seen say about the exit of a runner whose moment is known."""

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import RequestCause
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.requests import SeenRequest, SeenRequests
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess, RunnerProcesses


class ExitRequests:
    """Attaches the requests seen to an exit."""

    def __init__(self, requests: SeenRequests, runners: RunnerProcesses) -> None:
        self._requests = requests
        self._runners = runners

    @property
    def complete(self) -> bool:
        """Whether the requests seen are (nearly) all."""
        return self._requests.complete

    def cause(self, exited: ProcessExit, *, queue_start: float) -> RequestCause | None:
        """Return the reason that requests to this runner gave, and the evidence."""
        at, born = exited.at, exited.runner.born
        since = min(queue_start, at - timings.PROMPT)
        history = self._requests.history
        for request in history:
            if request.failure is Failure.OUT_OF_MEMORY and request.ended is not None:
                own = request.model == exited.name
                late = timings.PROMPT if own else timings.ANOTHERS_REQUEST_ERROR
                if born < request.ended <= at + late and since <= request.ended + timings.PROMPT:
                    return RequestCause(Reason.OUT_OF_MEMORY, Evidence.REQUEST_OUT_OF_MEMORY)
        own_requests = [
            r
            for r in history
            if r.model == exited.name
            and r.fact.at <= at + timings.REQUEST_ERROR
            and (r.ended is None or r.ended > born - timings.SAME_MOMENT)
        ]
        if any(
            r.failure is Failure.CRASHED and abs((r.ended or 0) - at) <= timings.PROMPT
            for r in own_requests
        ):
            return RequestCause(Reason.CRASHED, Evidence.REQUEST_CRASHED)
        earliest = max(born, since - timings.REQUEST_ERROR)
        stop = next((r for r in own_requests if r.fact.stop and earliest < r.fact.at), None)
        if stop is not None:
            return RequestCause(Reason.STOPPED, Evidence.STOP_CALL, stop.fact.at)
        zero = self._ended_with_zero(exited, own_requests, since)
        if zero is not None:
            return RequestCause(Reason.STOPPED, Evidence.KEEP_ALIVE_ZERO, zero.fact.at)
        return None

    def _ended_with_zero(
        self, exited: ProcessExit, own: list[SeenRequest], since: float
    ) -> SeenRequest | None:
        """Return the request that left keep_alive 0 behind, if its last one ended just then."""
        at, same = exited.at, timings.SAME_MOMENT
        served = [
            r
            for r in own
            if not r.fact.stop
            and not self._other_options(r, exited)
            and (r.ended is not None or _before(r.answered, at + timings.REQUEST_ERROR))
        ]
        sent = [r for r in own if r.fact.stop or (r in served and r.fact.keep_alive is not None)]
        ends = [r.ended for r in served if r.ended is not None and r.ended <= at + same]
        busy = any(r.ended is None or r.ended > at + same for r in served)
        if not sent or sent[-1].fact.keep_alive != 0 or not ends or busy:
            return None
        return sent[-1] if max(ends) >= since - timings.CLOCK_ERROR else None

    def _other_options(self, request: SeenRequest, exited: ProcessExit) -> bool:
        """Return whether that request names another context than that runner has."""
        named = request.fact.num_ctx is not None
        return named and self._requests.forces_reload(request.fact, exited.life)

    def likeliest(self, names: list[str]) -> str:
        """Return which of the names of some weights is being loaded: the one that is asked for."""
        asked = (request.model for request in self._requests.history if request.answered is None)
        return next((name for name in asked if name in names), names[0])

    def demand(self, exited: ProcessExit) -> SeenRequest | None:
        """Return the oldest request that was waiting for a load at the exit.

        It is for a model without a process, or for other options of this very one.
        """
        running = self._running(exited.at)
        for request in self._waiting(exited.at):
            if request.model == exited.name:
                if self._other_options(request, exited):
                    return request
            elif self._absent(request, running):
                return request
        return None

    def first_in_line(self, exited: ProcessExit) -> SeenRequest | None:
        """Return the oldest request that was waiting at the exit, if surely for a load.

        The scheduler serves one at a time, so a later one cannot have caused anything yet.
        """
        oldest = next(iter(self._waiting(exited.at)), None)
        if oldest is None:
            return None
        if oldest.model == exited.name:
            reload = self._requests.forces_reload(oldest.fact, exited.life)
            return oldest if reload else None
        return oldest if self._absent(oldest, self._running(exited.at)) else None

    def _waiting(self, at: float) -> list[SeenRequest]:
        return [
            r
            for r in self._requests.history
            if not r.fact.stop
            and r.fact.at <= at + timings.ANOTHERS_REQUEST_ERROR
            and not _before(r.answered, at)
            and not _before(r.ended, at)
        ]

    def _running(self, at: float) -> set[str]:
        return {runner.weights for runner in self._runners.all if runner.lived(at)}

    def _absent(self, request: SeenRequest, running: set[str]) -> bool:
        weights = self._runners.weights_of(request.model)
        return weights is not None and weights not in running

    def waited(self, runner: RunnerProcess, moment: float) -> bool | None:
        """Return whether a request for a newborn runner was waiting then. None: none was seen."""
        names, same = self._runners.names(runner.weights), timings.SAME_MOMENT
        mine = [
            r
            for r in self._requests.history
            if r.model in names
            and not r.fact.stop
            and r.fact.at <= runner.born + same
            and (r.ended is None or r.ended > runner.born - same)
            and (r.answered is None or r.answered > runner.born)
        ]
        return any(r.fact.at <= moment + timings.REQUEST_ERROR for r in mine) if mine else None


def _before(moment: float | None, at: float) -> bool:
    return moment is not None and moment <= at
