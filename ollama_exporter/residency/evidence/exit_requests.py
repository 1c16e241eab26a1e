# SPDX-License-Identifier: Apache-2.0
"""What the requests seen say about the exit of a runner whose moment is known."""

from collections.abc import Callable, Collection

from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.request_causes import Departure, RequestCause
from ollama_exporter.residency.evidence.requests import SeenRequest, SeenRequests, last_served
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess, RunnerProcesses


class ExitRequests:
    """Attaches the requests seen to an exit."""

    def __init__(self, requests: SeenRequests, runners: RunnerProcesses) -> None:
        self.seen = requests
        self.runners = runners

    def cause(self, exited: ProcessExit, *, queue_start: float) -> RequestCause | None:
        """Return the reason that requests to this runner gave. `queue_start`: of the unloads."""
        since, runner = min(queue_start, exited.at - timings.PROMPT), exited.runner
        failed = since - timings.PROMPT
        left = Departure(exited.life, runner.loaded_after, failed, since, exited.at)
        return left.cause(self.seen)

    def likeliest(self, names: list[str]) -> str:
        """Return which of the names of some weights is being loaded: the one that is asked for."""
        asked = (request.model for request in self.seen.history if request.answered is None)
        return next((name for name in asked if name in names), names[0])

    def demand(self, exited: ProcessExit) -> SeenRequest | None:
        """Return the oldest request that was waiting for a load at the exit.

        It is for a model without a process, or for other options of this very one.
        """
        waiting = self._waiting(exited.at)
        return self.seen.demand(waiting, exited.life, self._is_absent(exited.at))

    def first_in_line(self, exited: ProcessExit) -> SeenRequest | None:
        """Return the oldest request that was waiting for a load at the exit.

        The scheduler serves one at a time, so a later one cannot have caused anything yet.
        """
        return self.head(exited, exited.at, exited.at)

    def _waiting(self, at: float) -> list[SeenRequest]:
        return self.seen.waiting(at, late=timings.ANOTHERS_REQUEST_ERROR)

    def _is_absent(self, at: float) -> Callable[[SeenRequest], bool]:
        """Return what tells whether the model of a request surely had no process then."""
        running = {runner.weights for runner in self.runners.all if runner.lived(at)}

        def is_absent(request: SeenRequest) -> bool:
            weights = self.runners.weights_at(request.model, request.fact.at)
            return bool(weights) and weights.isdisjoint(running)

        return is_absent

    # -- the queue -------------------------------------------------------------------------------

    def is_reload(self, request: SeenRequest, exited: ProcessExit) -> bool:
        """Return whether it wants other options, as far as is known, or new weights of the name."""
        if request.model != exited.name or self.wants_new_weights(request, exited):
            return False
        if request.was_answered(exited.at):
            return False  # this runner served it
        return self.seen.forces_reload(request.fact, exited.life)

    def head(self, exited: ProcessExit, low: float, high: float) -> SeenRequest | None:
        """Return the oldest request that waited for a load at `low`, or the next to do so.

        None: there is none until `high`, or it is not known which it is.
        """
        later = (
            r
            for r in self.seen.history
            if low < r.fact.at < high
            and not r.fact.stop
            and not r.was_answered(r.fact.at + timings.SLOW_FIRST_BYTE)
        )
        for request in [*self._waiting(low), *later]:
            wants = self._wants_load(request, max(low, request.fact.at), exited.runner)
            if wants is None:
                return None
            if wants:
                return request
        return None

    def wants_new_weights(self, request: SeenRequest, exited: ProcessExit) -> bool:
        """Return whether the name of that request stood for other weights than this runner has."""
        weights = self.runners.weights_at(request.model, request.fact.at)
        return bool(weights) and exited.runner.weights not in weights

    def _wants_load(self, request: SeenRequest, moment: float, own: RunnerProcess) -> bool | None:
        """Return whether no runner could serve that request at that moment. None: not known.

        Its name may have stood for either of two weights then.
        """
        weights = self.runners.weights_at(request.model, request.fact.at)
        serving = [r for r in self.runners.all if r.weights in weights and _served(r, moment)]
        if not serving:
            return True if weights else None
        runner = serving[-1]
        answered = request.answered
        if answered is not None and (runner.died is None or answered <= runner.died):
            return False  # that runner served it, whatever was learned of contexts
        latest = {each.weights: each for each in serving}  # the others are not loaded
        wants = {self._wants_other(request, each, own) for each in latest.values()}
        wants |= {True} if len(latest) < len(weights) else set()
        return wants.pop() if len(wants) == 1 else None

    def _wants_other(
        self, request: SeenRequest, runner: RunnerProcess, own: RunnerProcess
    ) -> bool | None:
        """Return whether a request wants another context than a runner has. None: not known."""
        if runner.key is None or runner.context is None:
            return None
        digest = runner.key[1]
        wants = self.seen.wants_other(request.fact, digest, runner.context)
        # A model of a small context gets less than others do: that it wants more is a guess.
        sure = not wants or runner is own or self.seen.knows_context(request.fact, digest)
        return wants if sure else None

    def keep_alives(self, runner: RunnerProcess, moment: float) -> set[float | None]:
        """Return which keep-alives that runner may have had then. None: the server's default.

        The last to name one counts of those that the runner had taken. Those that had no answer yet
        may be later.
        """
        named = [
            r
            for r in self.seen.history_of(*self.runners.names(runner.weights))
            if r.fact.at <= moment
            and (r.ended is None or r.ended > runner.born)
            and r.named is not None
        ]
        last = last_served([r for r in named if r.fact.stop or r.was_answered(moment)])
        unheard = [r for r in named if not r.fact.stop and not r.was_answered(moment)]
        given = {r.named for r in [*last, *unheard]}
        return given if last else {*given, None}

    def busy(self, runner: RunnerProcess, moment: float) -> bool:
        """Return whether a request to this runner may have been served at a moment."""
        return any(
            not r.fact.stop and r.fact.at <= moment and not r.was_over(moment)
            for r in self.seen.history_of(*self.runners.names(runner.weights))
        )

    def served_another(self, names: Collection[str], low: float, high: float) -> bool:
        """Return whether a model other than these was in use at some moment between two."""
        return any(
            r.model not in names
            and not r.fact.stop
            and r.was_answered(high)
            and (r.ended is None or r.ended >= low)
            for r in self.seen.history
        )

    def renewed(self, exited: ProcessExit, moment: float) -> bool:
        """Return whether a request to this runner named a positive keep-alive after that moment."""
        return any(
            moment < r.fact.at < exited.at
            and not r.fact.stop
            and bool(r.fact.keep_alive)
            and (r.fact.num_ctx is None or not self.seen.forces_reload(r.fact, exited.life))
            for r in self.seen.history_of(exited.name)
        )

    def waited(self, runner: RunnerProcess, moment: float) -> bool | None:
        """Return whether a request for a newborn runner was waiting then. None: none was seen."""
        names, same = self.runners.names(runner.weights), timings.SAME_MOMENT
        mine = [
            r
            for r in self.seen.history_of(*names)
            if not r.fact.stop
            and r.fact.at <= runner.born + same
            and (r.ended is None or r.ended > runner.born - same)
            and (r.answered is None or r.answered > runner.born)
        ]
        return any(r.fact.at <= moment + timings.REQUEST_ERROR for r in mine) if mine else None


def _served(runner: RunnerProcess, moment: float) -> bool:
    """Return whether a runner may have served requests at a moment."""
    same = timings.SAME_MOMENT
    return runner.born < moment - same and (runner.died is None or runner.died > moment - same)
