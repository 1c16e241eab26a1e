# SPDX-License-Identifier: Apache-2.0
"""A server that holds the exporter's actions to their promises; `docs/policy.md` numbers them.

It knows which side sent each request, and the runner that served it. So it judges each action at
the moment of its effect, by what the exporter could know then: the listings it was given, and the
requests that passed its proxy.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.decide import LAST_VICTIM
from ollama_exporter.actions.keep_warm.keep_warm_section import OFF, KeepWarm
from ollama_exporter.actions.renew import TOLERANCE, TOUCH_TIMEOUT
from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import InstalledModel, ModelDetails
from ollama_exporter.residency.events import Event, Reason, Unloaded
from ollama_exporter.simulator import placement
from ollama_exporter.simulator.state import (
    Host,
    Load,
    QueuedRequest,
    Runner,
    ServerStopped,
    TrueReason,
    Unload,
)
from ollama_exporter.state_file import LEAST_PAUSE
from tests.support.virtual_ollama import VirtualOllama, clock

HOUR: Final = 3600.0
# Seconds from a listing that shows a deadline until the model must have been renewed: a pause of
# 5 s at most (`decide.MIN_PAUSE`), the next turn 5 s later, the two looks of a renewal.
TIME_TO_RENEW: Final = 11.0
# Seconds of idleness after which a promise must have come true: the longest wait between two looks
# (`apply.RETRY_WAITS`), and the time by which the server may write a deadline late.
TIME_TO_KEEP: Final = 17.0
SETTLING: Final = 120.0  # seconds in which an unload gets its reason
CONFLICT_TIME: Final = 6 * HOUR
SECOND: Final = 1.0  # the listing's Date header has whole seconds
UNWRITTEN: Final = LEAST_PAUSE + SECOND  # before a kill: what is then new may not be in the file
LONGEST_INTERVAL: Final = 60.0  # seconds between polls: an eviction is known that exactly


class Side(Enum):
    """Who sent a request."""

    EXPORTER = "exporter"
    PROXY = "proxy"
    PAST = "past the proxy"


@dataclass(slots=True)
class Sent:
    """A request, and what was known when it arrived."""

    side: Side
    at: float
    request: QueuedRequest
    keep_alive: float | None  # as the request carried it
    listed: dict[str, int]  # weights -> context, by the last poll
    default_context: int | None = None  # that the proxy set
    rule_context: int | None = None  # that the rules want, as the server applies it
    pid: int | None = None  # of the runner that served it

    @property
    def listed_context(self) -> int | None:
        """The context of its model."""
        return self.listed.get(self.request.key)


@dataclass(frozen=True, slots=True)
class Client:
    """A request to the proxy: the rule for it, and the num_ctx that its client wrote."""

    rule: Rule | None = None
    num_ctx: object = None


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of a runner that polls had shown, and the grace time then."""

    at: float
    grace: float


@dataclass(frozen=True, slots=True)
class Promised:
    """What a response header promised of one runner."""

    sent: Sent
    keep_alive: float
    header: str


@dataclass(slots=True)
class Seen:
    """What polls showed of a runner."""

    deadline: float
    since: float  # the first poll that showed this deadline


@dataclass(slots=True)
class Watching:
    """The exporter that runs now, and its section."""

    since: float = math.inf  # of this section; inf: none runs
    section: KeepWarm = OFF
    interval: float = 5.0  # seconds between polls


class Witness(VirtualOllama):
    """A server that knows what is done to it, and by which side."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        mistral = self.library.find("mistral")
        assert mistral is not None
        self.library.copy(mistral[1], "mine", clock())
        self.violations: list[str] = []
        self.watching = Watching()
        self.done: Counter[str] = Counter()  # what the exporter did
        self.promises: list[Promised] = []
        self._unnoticed: dict[str, Stop] = {}  # by weights; no poll has shown what it did
        self._stopped: dict[str, Stop] = {}  # by weights
        self.sent: dict[int, Sent] = {}
        self.last: Sent | None = None  # the last client's request through the proxy
        self.client = Client()  # the next one
        self.own_loads: dict[str, deque[float]] = {}  # weights -> times of our last loads
        self._began: deque[tuple[float, str]] = deque(maxlen=100)  # our last loads, with weights
        self.loading_ours = 0  # our loads under way
        self._side = Side.PROXY
        self._told = 0  # events of the truth that were judged
        self._seen: dict[int, Seen] = {}  # by pid
        self._listed: dict[str, int] = {}  # weights -> context, by the last poll
        self._asked_for: set[str] = set()  # weights whose details the exporter knows
        self._busy: dict[int, float] = {}  # pid -> when it was busy last
        self._conflicts: dict[frozenset[str], float] = {}  # weights -> when the exporter saw it
        self._vanished: dict[frozenset[str], float] = {}  # likewise, as soon as we had loaded it
        self._loaded_by: dict[int, Sent | None] = {}  # pid -> the request
        self._kills: list[float] = []

    # -- the exporter's side ---------------------------------------------------------------------

    def poll_client(self) -> "Polls":
        """Return the client that polls."""
        return Polls(self)

    async def details(self, name: str) -> ModelDetails:
        """Return the details of a name."""
        found = await super().details(name)
        self._asked_for.add(found.weights or "")
        return found

    async def preload(
        self,
        model: str,
        *,
        patience: float,
        keep_alive: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Serve an empty request of the exporter, and judge it."""
        self._side, loads = Side.EXPORTER, patience > TOUCH_TIMEOUT
        self.loading_ours += loads
        kind = "load" if loads else "touch" if keep_alive is None else "renewal"
        try:
            await super().preload(model, patience=patience, keep_alive=keep_alive, options=options)
        except OllamaExporterError:
            self.done[f"failed {kind}"] += 1
            raise
        finally:
            self.loading_ours -= loads
            self._side = Side.PROXY
        if loads or self.runner(model) is not None:
            self.done[kind] += 1
        self.judge()

    # -- the clients' side -----------------------------------------------------------------------

    async def past(self, model: str, **body: Any) -> dict[str, Any]:
        """Serve a client that goes past the proxy."""
        self._side = Side.PAST
        return await self.ask(model, **body)

    async def stop(self, model: str = "mistral") -> None:
        """Stop a model past the proxy, as `ollama stop` does."""
        await self.past(model, prompt="", keep_alive=0)

    async def ask(self, model: str = "mistral", **body: Any) -> dict[str, Any]:
        """Serve a client."""
        weights, runner = self._weights(model), self.runner(model)
        if body.get("keep_alive") == 0 and not body.get("prompt", "x"):
            self._side = Side.PROXY
            answer = await super().ask(model, **body)
            if runner is not None and runner.pid in self._seen:
                self._unnoticed[weights] = Stop(clock(), self.watching.section.grace)
            return answer
        try:
            return await super().ask(model, **body)
        finally:
            self._side = Side.PROXY
            self.judge()

    # -- what happens to each request ------------------------------------------------------------

    def on_arrival(self, request: QueuedRequest) -> None:
        """Judge a request at the moment at which a resident runner serves it."""
        self.engine.listed()  # what falls due now happens before it
        side, self._side = self._side, Side.PROXY
        sent = Sent(side, clock(), request, request.keep_alive, self._listed)
        self.sent[request.id] = sent
        runner = self._runner_of(request.key)
        if side is Side.PROXY:
            self.last = sent
            self._judge_rules(sent)
        if side is not Side.EXPORTER:
            return
        if runner is None:
            self._judge_load(request)
        elif request.keep_alive is not None and not placement.needs_reload(runner, request):
            if request.keep_alive < runner.session:
                self._violated(2, f"{runner.session} became {request.keep_alive}", request)
            if runner.refs and runner.cause is not None and not runner.expiring:
                self._violated(3, f"a victim stays: {runner.cause}", request)

    def _judge_rules(self, sent: Sent) -> None:
        """Judge promises 5 and 6 for a request of the proxy, as the server has read it."""
        rule, request = self.client.rule, sent.request
        if rule is None:
            return
        cap = rule.max_keep_alive
        if cap is not None and sent.keep_alive is not None and sent.keep_alive > cap:
            self._violated(5, f"keep_alive {sent.keep_alive}", request)
        given = not request.options.num_ctx_auto
        context = placement.effective_context(request)
        above = rule.max_num_ctx is not None and given and context > rule.max_num_ctx
        if above and context != sent.listed_context:
            self._violated(5, f"num_ctx {context}, listed: {sent.listed_context}", request)
        if self.client.num_ctx is None:
            sent.default_context = context if given else None
            if rule.num_ctx is not None and request.key in self._asked_for:
                sent.rule_context = min(rule.num_ctx, request.file.train_context)

    def on_grant(self, request: QueuedRequest) -> None:
        """Note which runner serves a request."""
        runner = self._runner_of(request.key)
        sent = self.sent[request.id]
        if runner is not None:
            sent.pid = runner.pid
            self._busy[runner.pid] = clock()

    def _judge_load(self, request: QueuedRequest) -> None:
        section = self.watching.section
        weights, now = request.key, clock()
        warm = [w for w in section.models if self._weights(w.model) == weights]
        if section.dry_run:
            self._violated(10, "a dry run loads", request)
        if not any(w.is_expected(now) for w in warm):
            self._violated(11, "nothing expects it", request)
        stop = self._stopped.get(weights)
        held = stop is not None and now < stop.at + min(stop.grace, section.grace) - SECOND
        if stop is not None and held and not self._looks_like_an_eviction(stop, weights):
            self._violated(8, f"it was stopped {now - stop.at:.1f} s ago", request)
        self._began.append((now, weights))
        loads = self.own_loads.setdefault(weights, deque(maxlen=100))
        loads.append(now)
        if sum(at > now - HOUR + SECOND for at in loads) > section.most_per_hour:
            self._violated(9, f"loaded {len(loads)} times in an hour", request)

    def _looks_like_an_eviction(self, stop: Stop, weights: str) -> bool:
        """Return whether another model was loaded so soon that polls cannot tell a stop."""
        clients = any(
            isinstance(each, Load)
            and each.weights != weights
            and not self._is_ours(each)
            and stop.at - SECOND < each.started_at < stop.at + SETTLING
            for each in self.engine.truth
        )
        # The exporter polls before a load of its own, and so knows what had left before.
        latest = LAST_VICTIM + self.watching.interval
        return clients or any(
            other != weights and stop.at - latest < at < stop.at + SECOND
            for at, other in self._began
        )

    def _is_ours(self, load: Load) -> bool:
        sent = self.sent.get(load.request or 0)
        return sent is not None and sent.side is Side.EXPORTER

    # -- what has become true --------------------------------------------------------------------

    def judge(self) -> None:
        """Judge what has happened since the last call."""
        truth = self.engine.truth
        for event in truth[self._told :]:
            if isinstance(event, Load):
                self._on_load(event)
            elif isinstance(event, Unload):
                self._on_unload(event)
            elif isinstance(event, ServerStopped):
                self._unnoticed.clear()  # a restart explains as well why a model is gone
        self._told = len(truth)
        for runner in self.engine.runners:
            if runner.refs:
                self._busy[runner.pid] = clock()
        self.promises = [each for each in self.promises if self._is_open(each)]

    def _on_load(self, load: Load) -> None:
        sent = self.sent.get(load.request or 0)
        self._loaded_by[load.pid] = sent
        if sent is None or sent.side is not Side.EXPORTER:
            self._stopped.pop(load.weights, None)  # a client wants it again
            self._unnoticed.pop(load.weights, None)

    def _on_unload(self, unload: Unload) -> None:
        by = self.sent.get(unload.request or 0)
        match unload.reason:
            case TrueReason.OPTIONS_CHANGED if by is not None:
                self._on_reload(unload, by)
            case TrueReason.EVICTED if by is not None:
                pair = frozenset({by.request.key, unload.weights})
                before = self._conflicts.get(pair, -math.inf)
                ours = by.side is Side.EXPORTER and unload.weights in by.listed
                if ours and unload.at < before + CONFLICT_TIME - LONGEST_INTERVAL:
                    ago = f"{unload.at - before:.0f} s after another one"
                    self._violated(9, f"evicts {unload.name} {ago}", by.request)
                loaded = self._loaded_by.get(unload.pid)
                if loaded and loaded.side is Side.EXPORTER and unload.pid not in self._seen:
                    self._vanished[pair] = unload.at
            case TrueReason.EXPIRED:
                self._on_expired(unload)
            case _:
                pass
        for promise in [each for each in self.promises if each.sent.pid == unload.pid]:
            self.promises.remove(promise)
            if unload.reason is TrueReason.EXPIRED:
                self._judge_promise_of_expired(promise, unload)

    def _on_reload(self, unload: Unload, by: Sent) -> None:
        if by.side is Side.EXPORTER:
            loaded = self._loaded_by.get(unload.pid)
            past = loaded is not None and loaded.side is Side.PAST
            shown = not past or unload.weights in by.listed  # else no poll had shown it
            if shown and not self._is_forgotten(unload, loaded):
                self._violated(1, f"{unload.name} was reloaded", by.request)
        if by.side is not Side.PROXY or by.listed_context is None:
            return
        if by.default_context is not None and by.default_context != by.listed_context:
            self._violated(6, f"a default reloads {unload.name}", by.request)
        if by.rule_context is not None and by.rule_context == by.listed_context:
            self._violated(6, f"a missing default lets {unload.name} be reloaded", by.request)

    def _on_expired(self, unload: Unload) -> None:
        """Judge promise 7: its deadline was listed in time, so it had to be renewed."""
        watching, seen = self.watching, self._seen.get(unload.pid)
        warm = [w for w in watching.section.models if self._weights(w.model) == unload.weights]
        expected = any(w.is_expected(unload.at - TIME_TO_RENEW) for w in warm)
        if not expected or watching.section.dry_run or self._makes_way(unload):
            return
        if seen is None or abs(seen.deadline - unload.decided) > SECOND:
            return  # no poll has shown this deadline
        shown = unload.decided - max(seen.since, watching.since)
        if shown > TIME_TO_RENEW:
            self._violated(7, f"{unload.name} expired {shown:.1f} s after its deadline was listed")

    def _makes_way(self, unload: Unload) -> bool:
        """Return whether a model expires for one before it in the section that it drove out."""
        for warm in self.watching.section.models:
            weights = self._weights(warm.model)
            if weights == unload.weights:
                return False
            pair = frozenset({weights, unload.weights})
            at = (self._conflicts | self._vanished).get(pair, -math.inf)
            if at > unload.loaded_at - CONFLICT_TIME and self._runner_of(weights) is None:
                return True
        return False

    def _is_open(self, promise: Promised) -> bool:
        """Return whether a promise is still to come true, and judge one that is late."""
        runner = next((r for r in self.engine.runners if r.pid == promise.sent.pid), None)
        if runner is None or runner.crashed_at is not None or runner.cause is not None:
            return False  # it is about to leave, and an event tells why
        if runner.session >= promise.keep_alive - TOLERANCE or self._overruled(promise):
            return False
        idle = clock() - self._busy.get(runner.pid, promise.sent.at)
        if idle > TIME_TO_KEEP:
            self._violated(4, f"{promise.header!r}: {runner.session} after {idle:.1f} s")
            return False
        return True

    def _judge_promise_of_expired(self, promise: Promised, unload: Unload) -> None:
        idle = unload.decided - self._busy.get(unload.pid, promise.sent.at)
        if idle > TIME_TO_KEEP and not self._overruled(promise):
            self._violated(4, f"{promise.header!r}: {unload.name} expired after {idle:.1f} s")

    def _overruled(self, promise: Promised) -> bool:
        """Return whether a client past the proxy has set a keep_alive of its own since."""
        return any(
            sent.side is Side.PAST
            and sent.keep_alive is not None
            and sent.pid == promise.sent.pid
            and sent.at >= promise.sent.at - HOUR
            and (sent.at >= promise.sent.at or sent.request.id in self._in_flight())
            for sent in self.sent.values()
        )

    def _in_flight(self) -> set[int]:
        return {each for r in self.engine.runners for each in (*r.active, *r.waiting)}

    def on_events(self, events: tuple[Event, ...]) -> None:
        """Note which evictions the exporter has seen."""
        for event in events:
            if isinstance(event, Unloaded) and event.reason is Reason.EVICTED and event.by:
                names = (event.model.name, event.by)
                self._conflicts[frozenset(map(self._weights, names))] = clock()

    def is_quiet(self, since: float) -> bool:
        """Return whether no model has been loaded or unloaded since a moment, or is loading."""
        changes = (event.at for event in reversed(self.engine.truth))
        return self.engine.loading is None and next(changes, 0.0) < since

    def _is_forgotten(self, unload: Unload, loaded: Sent | None) -> bool:
        """Return whether a killed exporter had no time to write how the runner was loaded."""
        return loaded is not None and any(
            loaded.at <= kill and unload.loaded_at > kill - UNWRITTEN for kill in self._kills
        )

    def on_kill(self) -> None:
        """Forget what a killed exporter had no time to write down."""
        self._kills.append(clock())
        written = clock() - UNWRITTEN
        for loads in self.own_loads.values():
            while loads and loads[-1] > written:
                loads.pop()
        self._conflicts = {pair: at for pair, at in self._conflicts.items() if at < written}
        old = {r.pid for r in self.engine.runners if r.loaded_at < written}
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in old}

    def on_poll(self) -> None:
        """Note what a poll shows."""
        now = clock()
        self.judge()
        self._stopped |= {w: s for w, s in self._unnoticed.items() if self._runner_of(w) is None}
        self._unnoticed.clear()
        self._listed = {r.file.weights: r.options.num_ctx for r in self.engine.runners}
        for runner in self.engine.runners:
            deadline = now + runner.session if runner.expires_at is None else runner.expires_at
            seen = self._seen.get(runner.pid)
            if seen is None or seen.deadline != deadline:
                self._seen[runner.pid] = Seen(deadline, now)
        self.judge()

    def _runner_of(self, weights: str) -> Runner | None:
        return next((r for r in self.engine.runners if r.file.weights == weights), None)

    def _violated(self, promise: int, what: str, request: QueuedRequest | None = None) -> None:
        model = "" if request is None else f" {request.name}"
        self.violations.append(f"promise {promise}:{model} at {clock() - 1.8e9:.1f}: {what}")


class Polls:
    """The client that polls: what it is shown, the exporter knows."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def ps(self) -> PsAnswer:
        """Return the listing."""
        answer = await self._witness.ps()
        self._witness.on_poll()
        return answer

    async def version(self) -> str:
        """Return a version."""
        return await self._witness.version()

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Return the installed models."""
        return await self._witness.tags()

    async def show(self, name: str) -> str | None:
        """Return the weights of a name."""
        return await self._witness.show(name)

    async def aclose(self) -> None:
        """Close nothing."""
        await asyncio.sleep(0)
