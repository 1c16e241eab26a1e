# SPDX-License-Identifier: Apache-2.0
"""Puts together what all parts of the exporter know of one server now. Pure: it asks callables."""

import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from msgspec import Struct

from ollama_exporter.actions.warm.eviction_order import Occupant, eviction_order
from ollama_exporter.advice.keep_alive_advice import LEAST_GAPS, Advice
from ollama_exporter.advice.report import WORTH, difference
from ollama_exporter.foreign_text import clean, mask_user_info
from ollama_exporter.host.runner.slot_usage import RunnerSight, SlotsNow
from ollama_exporter.poller.published import Published
from ollama_exporter.protocol.keepalive import DEFAULT, as_number, literal
from ollama_exporter.residency.events import ModelState
from ollama_exporter.story.history import History
from ollama_exporter.story.phrases import shown
from ollama_exporter.story.status import (
    AdviceNow,
    MemoryNow,
    ModelNow,
    ServerNow,
    SourceNow,
    Status,
    WaitingNow,
)

MOST_WAITING: Final = 100  # requests that are told one by one
ADVICE_AGE: Final = 10.0  # seconds for which an advice is told again unchanged


class LiveAdvised(Protocol):
    """The advice on one model, as the running exporter has it."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def advice(self) -> Advice:
        """The advised value, and what it rests on."""

    def is_surely_better(self, then: float, now: float) -> bool:
        """Return whether a keep-alive is cheaper than another by more than chance."""


class WaitingRequest(Protocol):
    """A request that waits for a load."""

    @property
    def label(self) -> str:
        """The model's name, as the client wrote it."""

    @property
    def since(self) -> float:
        """When it arrived."""


class Known(Struct, frozen=True, kw_only=True):
    """Where the narrator asks. Each answers at once."""

    url: str
    published: Callable[[], Published]
    weights: Callable[[str], str | None]  # of a digest
    keep_alive: Callable[[str], float | None]  # as deadlines show it
    in_flight: Callable[[str], int]  # requests to a model through the proxy
    waiting: Callable[[], Iterable[WaitingRequest]]
    runners: Callable[[], Iterable[RunnerSight]]
    advice: Callable[[], Iterable[LiveAdvised]]
    sources: Callable[[], Iterable[SourceNow]]  # besides polls
    label: Callable[[str], str]  # of a name that a client may have made up


class Narrator:
    """Tells the status of one server, and in which order its models would be evicted."""

    def __init__(self, known: Known, history: History) -> None:
        self._known, self._history = known, history
        self._url = mask_user_info(known.url)
        self._advice: tuple[AdviceNow, ...] = ()
        self._advised_at = -math.inf

    def status(self, now: float, *, skew: float = 0.0) -> Status:
        """Return the status. `now`: the moment on the timeline; `skew`: see `Status`."""
        known, published = self._known, self._known.published()
        view, server = published.view, published.server
        states = [state for state in view.models if state.resident or state.loading_since]
        states = states if published.is_listed else []
        slots = self._slots()
        ranks = self._ranks(states, slots, now)
        models = tuple(self._model(state, slots.get(state.name), ranks, now) for state in states)
        return Status(
            server=ServerNow(
                url=self._url,
                up=server.up,
                version=server.version,
                started=view.server_started,
                seen=view.last_seen,
                polled=server.polls > 0,
                pending=view.pending,
                shared=view.shared,
            ),
            memory=MemoryNow(
                used=sum(model.size for model in models),
                most=max(self._history.most, sum(model.size for model in models)),
            ),
            models=models,
            waiting=self._waiting(),
            advice=self._advised(now),
            sources=(self._polls(published), *known.sources()),
            skew=round(skew, 1) + 0.0,
        )

    def ranks(self, now: float) -> Mapping[str, int]:
        """Return the resident models; 1 is evicted first if another one needs memory."""
        published = self._known.published()
        if not published.is_listed:
            return {}
        return self._ranks(list(published.view.models), self._slots(), now)

    def _slots(self) -> dict[str, list[SlotsNow]]:
        found: dict[str, list[SlotsNow]] = {}
        for sight in self._known.runners():
            if sight.now is not None:
                found.setdefault(sight.model, []).append(sight.now)
        return found

    def _keep_alive(self, state: ModelState) -> float | None:
        own = state.keep_alive
        found = self._known.keep_alive(state.name) if own is None else own
        return None if found is None or math.isnan(found) else max(0.0, found)

    def _is_busy(self, state: ModelState, slots: list[SlotsNow] | None, now: float) -> bool:
        if self._known.in_flight(state.name) or any(look.busy for look in slots or ()):
            return True
        # A listed model whose deadline has passed is at work, unless its slots are seen to rest.
        return not slots and state.deadline is not None and 0 < state.deadline < now

    def _ranks(
        self, states: list[ModelState], slots: Mapping[str, list[SlotsNow]], now: float
    ) -> dict[str, int]:
        occupants = []
        for state in states:
            for model in state.resident:
                keep = self._keep_alive(state)
                if keep is None:  # no shorter than what is left of it
                    left = 0.0 if state.deadline is None else state.deadline - now
                    keep = max(DEFAULT, left)
                weights = self._known.weights(model.digest) or model.digest
                busy = self._is_busy(state, slots.get(state.name), now)
                occupants.append(Occupant(state.name, model.size_vram or 0, keep, weights, busy))
        order = dict.fromkeys(each.name for each in eviction_order(occupants))
        return {name: rank for rank, name in enumerate(order, 1)}

    def _model(
        self,
        state: ModelState,
        slots: list[SlotsNow] | None,
        ranks: Mapping[str, int],
        now: float,
    ) -> ModelNow:
        keep, deadline = self._keep_alive(state), state.deadline
        pinned = deadline is not None and math.isinf(deadline)
        if deadline is not None and (pinned or deadline <= 0):
            deadline = None
        youngest = state.resident[-1] if state.resident else None
        vram = [model.size_vram for model in state.resident if model.size_vram is not None]
        name = shown(state.name)
        return ModelNow(
            name=name,
            resident=bool(state.resident),
            dead=state.runner_up is False,
            loading_since=state.loading_since,
            since=state.since,
            deadline=deadline,
            keep_alive=None if keep is None else as_number(round(keep, 3)),
            pinned=pinned,
            busy=self._is_busy(state, slots, now),
            requests=self._known.in_flight(state.name),
            size=sum(model.size for model in state.resident),
            size_vram=sum(vram) if vram else None,
            context=None if youngest is None else youngest.context,
            context_used=max((look.context_used for look in slots), default=0) if slots else None,
            slots=sum(look.slots for look in slots) if slots else None,
            slots_busy=sum(look.busy for look in slots or ()),
            rank=ranks.get(state.name),
            rank_known=keep is not None,
            last_use=state.last_use,
            tokens_per_second=_rounded(self._history.speed(name)) if state.resident else None,
            parameter_size="" if youngest is None else clean(youngest.parameter_size),
            quantization="" if youngest is None else _known(clean(youngest.quantization)),
        )

    def _waiting(self) -> tuple[WaitingNow, ...]:
        waiting = sorted(self._known.waiting(), key=lambda each: each.since)[:MOST_WAITING]
        return tuple(
            WaitingNow(model=shown(self._known.label(each.label)), since=each.since)
            for each in waiting
        )

    def _advised(self, now: float) -> tuple[AdviceNow, ...]:
        if now - self._advised_at >= ADVICE_AGE:
            self._advised_at = now
            self._advice = tuple(map(self._advice_on, self._known.advice()))
        return self._advice

    def _advice_on(self, each: LiveAdvised) -> AdviceNow:
        advice, known = each.advice, self._known.keep_alive(each.label)
        in_force = DEFAULT if known is None else known
        now, then = advice.at(in_force), advice.advised
        better = (
            advice.samples >= LEAST_GAPS
            and now.cost - then.cost > WORTH * now.cost
            and each.is_surely_better(advice.keep_alive, in_force)
        )
        return AdviceNow(
            model=shown(each.label),
            advised=as_number(advice.keep_alive),
            in_force=None if known is None else as_number(known),
            samples=advice.samples,
            basis=advice.confidence.value,
            saves=difference(now, then) if better else "",
            line=self._line(each.label, advice.keep_alive) if better else "",
        )

    def _line(self, model: str, keep_alive: float) -> str:
        """Return a command for a shell; empty for names that cannot be pasted safely."""
        if not model.isprintable():
            return ""
        body = f'{{"model": {json.dumps(model)}, "keep_alive": {literal(keep_alive)}}}'
        return f"curl {shlex.quote(f'{self._url}/api/generate')} -d {shlex.quote(body)}"

    def _polls(self, published: Published) -> SourceNow:
        server = published.server
        failures = sum(server.failures.values())
        said = "The server answers" if server.up else "The server does not answer"
        if not server.polls:
            said = "The server has not been polled yet"
        return SourceNow(
            name="Polls",
            on=server.up,
            detail=f"{said}. Failed polls: {failures}." if failures else f"{said}.",
            line="" if server.up else "--ollama.url=http://127.0.0.1:11434",
        )


def _known(quantization: str) -> str:
    """Return a quantization; the server says `unknown` of files whose type it does not know."""
    return "" if quantization == "unknown" else quantization


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
