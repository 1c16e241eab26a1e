# SPDX-License-Identifier: Apache-2.0
"""What the requests seen say about the death of a runner whose moment is known."""

from typing import Final

from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.requests import SeenRequest, SeenRequests
from ollama_exporter.residency.evidence.runner_processes import SAME, RunnerProcess, RunnerProcesses

PROMPT: Final = 0.35  # from a cause that a request shows to the death, if nothing else is unloaded
AT_ONCE: Final = 0.05
KEEP_ALIVE_ZERO: Final = "its last request ended with keep-alive 0"
OUT_OF_MEMORY: Final = "a request failed with out of memory"


class ExitRequests:
    """Lays the requests seen on a death."""

    def __init__(self, traffic: SeenRequests, runners: RunnerProcesses) -> None:
        self._traffic = traffic
        self._runners = runners

    @property
    def complete(self) -> bool:
        """The requests seen are (nearly) all."""
        return self._traffic.complete

    def said(self, death: ProcessExit, *, queue_start: float) -> tuple[Reason, str] | None:
        """Return the reason that requests to it gave, and the evidence."""
        at, born = death.at, death.runner.born
        since = min(queue_start, at - PROMPT)
        history = self._traffic.history
        for request in history:
            if request.failure is Failure.OUT_OF_MEMORY and request.ended is not None:
                late = PROMPT if request.model == death.name else 0.03
                if born < request.ended <= at + late and since <= request.ended + PROMPT:
                    return Reason.OUT_OF_MEMORY, OUT_OF_MEMORY
        own = [
            r
            for r in history
            if r.model == death.name
            and r.fact.at <= at + AT_ONCE
            and (r.ended is None or r.ended > born - SAME)
        ]
        if any(r.failure is Failure.CRASHED and abs((r.ended or 0) - at) <= PROMPT for r in own):
            return Reason.CRASHED, "a request to it failed with a crash text"
        if any(r.fact.stop and max(born, since - AT_ONCE) < r.fact.at for r in own):
            return Reason.STOPPED, "a stop call"
        return self._last_with_zero(death, own, since)

    def _last_with_zero(
        self, death: ProcessExit, own: list[SeenRequest], since: float
    ) -> tuple[Reason, str] | None:
        """Tell whether its last request ended just then, and left keep-alive 0 behind."""
        at = death.at
        served = [
            r
            for r in own
            if not r.fact.stop
            and not self._other_options(r, death)
            and (r.ended is not None or (r.answered is not None and r.answered <= at + AT_ONCE))
        ]
        said = [r for r in own if r.fact.stop or (r in served and r.fact.keep_alive is not None)]
        ends = [r.ended for r in served if r.ended is not None and r.ended <= at + SAME]
        busy = any(r.ended is None or r.ended > at + SAME for r in served)
        if (
            said
            and said[-1].fact.keep_alive == 0
            and ends
            and not busy
            and max(ends) >= since - 0.1
        ):
            return Reason.STOPPED, KEEP_ALIVE_ZERO
        return None

    def _other_options(self, request: SeenRequest, death: ProcessExit) -> bool:
        """Tell whether that request cannot be served by that runner: it names another context."""
        named = request.fact.num_ctx is not None
        return named and self._traffic.forces_reload(request.fact, death.life)

    def likeliest(self, names: list[str]) -> str:
        """Return which of the names of some weights is being loaded: the one that is asked for."""
        asked = (request.model for request in self._traffic.history if request.answered is None)
        return next((name for name in asked if name in names), names[0])

    def demand(self, death: ProcessExit) -> SeenRequest | None:
        """Return the oldest request that waited for a load at the death.

        It is for a model without a process, or for other options of this very one.
        """
        running = self._running(death.at)
        for request in self._waiting(death.at):
            if request.model == death.name:
                if self._other_options(request, death):
                    return request
            elif self._absent(request, running):
                return request
        return None

    def first_in_line(self, death: ProcessExit) -> SeenRequest | None:
        """Return the oldest request that waited at the death, if it surely waited for a load.

        The scheduler takes one at a time, so who came later cannot have asked for anything yet.
        """
        oldest = next(iter(self._waiting(death.at)), None)
        if oldest is None:
            return None
        if oldest.model == death.name:
            reload = self._traffic.forces_reload(oldest.fact, death.life)
            return oldest if reload else None
        return oldest if self._absent(oldest, self._running(death.at)) else None

    def _waiting(self, at: float) -> list[SeenRequest]:
        return [
            r
            for r in self._traffic.history
            if not r.fact.stop
            and r.fact.at <= at + 0.03
            and not _before(r.answered, at)
            and not _before(r.ended, at)
        ]

    def _running(self, at: float) -> set[str]:
        return {runner.weights for runner in self._runners.all if runner.lived(at)}

    def _absent(self, request: SeenRequest, running: set[str]) -> bool:
        weights = self._runners.weights_of(request.model)
        return weights is not None and weights not in running

    def waited(self, runner: RunnerProcess, moment: float) -> bool | None:
        """Tell whether a request for a newborn runner waited at a moment. None: none was seen."""
        names = self._runners.names(runner.weights)
        mine = [
            r
            for r in self._traffic.history
            if r.model in names
            and not r.fact.stop
            and r.fact.at <= runner.born + SAME
            and (r.ended is None or r.ended > runner.born - SAME)
            and (r.answered is None or r.answered > runner.born)
        ]
        return any(r.fact.at <= moment + AT_ONCE for r in mine) if mine else None


def _before(moment: float | None, at: float) -> bool:
    return moment is not None and moment <= at
