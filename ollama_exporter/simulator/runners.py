# SPDX-License-Identifier: Apache-2.0
"""The loaded runners: which requests use them, their deadlines, and their ends."""

from dataclasses import dataclass

from ollama_exporter.simulator.state import (
    Cause,
    Effect,
    Granted,
    Listed,
    Load,
    QueuedRequest,
    Runner,
    Started,
    TrueReason,
    Truth,
    Unload,
)

NO_TIMER = float("inf")


@dataclass(frozen=True, slots=True)
class Ended:
    """A request of this runner ended."""

    runner: Runner
    id: int


@dataclass(frozen=True, slots=True)
class Expired:
    """A runner is to be unloaded as soon as it is idle."""

    runner: Runner


Event = Ended | Expired


class Runners:
    """The state that the server's two loops share."""

    def __init__(self, effects: list[Effect], truth: list[Truth]) -> None:
        self.by_key: dict[str, Runner] = {}
        self._effects = effects
        self._truth = truth
        self._holders: dict[int, Runner] = {}  # request id -> its runner

    def of(self, request_id: int) -> Runner | None:
        """Return the runner of a request; None: it has none."""
        return self._holders.get(request_id)

    def serves(self, request_id: int) -> bool:
        """Whether the request has a runner."""
        return request_id in self._holders

    def add(self, now: float, runner: Runner, request_id: int) -> None:
        """Add a runner whose load for a request has ended."""
        runner.loading = False
        runner.loaded_at = now
        self.by_key[runner.file.weights] = runner
        self._truth.append(
            Load(
                at=now,
                name=runner.name,
                digest=runner.digest,
                weights=runner.file.weights,
                pid=runner.pid,
                num_ctx=runner.options.num_ctx,
                started_at=runner.started_at,
                request=request_id,
            )
        )

    def grant(self, now: float, runner: Runner, request: QueuedRequest) -> None:
        """Give the runner to a request. The timer stops, and the deadline stays as it was.

        A keep_alive in the request replaces the runner's, even if a busy runner was to be unloaded:
        it then stays until its real expiry, and the load that waits for its memory waits too.
        """
        runner.refs += 1
        runner.timer = None
        if request.keep_alive is not None:
            if request.keep_alive > 0 and not runner.expiring:
                runner.cause = None
            runner.session = request.keep_alive
        self._holders[request.id] = runner
        self._effects.append(Granted(request.id, now))
        if len(runner.active) < runner.parallel:
            runner.active.append(request.id)
            self._effects.append(Started(request.id, now))
        else:
            runner.waiting.append(request.id)

    def release(self, now: float, request_id: int) -> Runner:
        """Free the request's slot and give it to the next waiting request."""
        runner = self._holders.pop(request_id)
        if request_id in runner.waiting:
            runner.waiting.remove(request_id)
            return runner
        runner.active.remove(request_id)
        if runner.waiting and runner.crashed_at is None:
            following = runner.waiting.popleft()
            runner.active.append(following)
            self._effects.append(Started(following, now))
        return runner

    def ended(self, now: float, event: Ended) -> Event | None:
        """Handle the end of a request. The end of the last one sets the deadline."""
        runner = event.runner
        runner.refs -= 1
        if runner.refs > 0:
            return None
        if runner.session <= 0:
            runner.timer = None
            if runner.cause is None:
                runner.cause = Cause(TrueReason.STOPPED, now)
            return self.begin_expiry(runner)
        runner.timer = runner.expires_at = now + runner.session
        # if its timer had fired or it was stopped before this request, it is unloaded anyway
        return Expired(runner) if runner.expiring else None

    def expire(self, now: float, runner: Runner) -> bool:
        """Remove the runner if it is idle and still listed; True: its memory is being freed."""
        if self.by_key.get(runner.file.weights) is not runner:
            return False
        if runner.refs > 0:
            return False
        self.remove(now, runner, Cause(TrueReason.EXPIRED, now))
        return True

    def remove(self, now: float, runner: Runner, otherwise: Cause) -> None:
        """Remove it from the list. If it had crashed before, that is the reason."""
        del self.by_key[runner.file.weights]
        runner.timer = None
        if runner.loading:
            return
        cause = runner.cause or otherwise
        if runner.crashed_at is not None and cause.reason is not TrueReason.OUT_OF_MEMORY:
            cause = Cause(TrueReason.CRASHED, runner.crashed_at)
        self._truth.append(
            Unload(
                at=now,
                name=runner.name,
                digest=runner.digest,
                weights=runner.file.weights,
                pid=runner.pid,
                reason=cause.reason,
                decided=cause.at,
                loaded_at=runner.loaded_at,
                by=cause.by,
                request=cause.request,
            )
        )

    def listed(self, now: float) -> list[Listed]:
        """Return what is listed. The deadline of a runner that was never idle slides."""
        return [
            Listed(
                name=runner.name,
                digest=runner.digest,
                file=runner.file,
                size=runner.size,
                size_vram=runner.size_vram,
                context=runner.options.num_ctx,
                expires_at=(
                    now + runner.session if runner.expires_at is None else runner.expires_at
                ),
            )
            for runner in self.by_key.values()
        ]

    def processes(self, loading: Runner | None) -> dict[int, Runner]:
        """Return each runner that has a process, by pid. A crashed runner has none."""
        runners = [*self.by_key.values(), *(() if loading is None else (loading,))]
        return {each.pid: each for each in runners if each.crashed_at is None}

    def next_timer(self) -> float:
        """Return the earliest deadline of an idle runner."""
        timers = (runner.timer for runner in self.by_key.values() if runner.timer is not None)
        return min(timers, default=NO_TIMER)

    def fire_timer(self, due: float) -> Expired:
        """Expire the runner with this deadline."""
        runner = next(runner for runner in self.by_key.values() if runner.timer == due)
        runner.timer = None
        if runner.cause is None:
            runner.cause = Cause(TrueReason.EXPIRED, due)
        return self.begin_expiry(runner)

    def begin_expiry(self, runner: Runner) -> Expired:
        """Begin the expiry of a runner. It cannot be taken back."""
        runner.expiring = True
        return Expired(runner)
