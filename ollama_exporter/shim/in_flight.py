# SPDX-License-Identifier: Apache-2.0
"""The requests in flight: which wait for a load, which were cold, how long models were idle."""

from typing import Final, Protocol

from msgspec.structs import replace

from ollama_exporter.advice.idle_gaps import IdleGapDetector
from ollama_exporter.bounded import BoundedDict
from ollama_exporter.metrics.request_metrics import Waiting
from ollama_exporter.protocol.model_names import is_cloud_name
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import COLD, SERVED, Observation, Outcome, Start, start_of

MOST_MODELS: Final = 1024  # whose last answer is remembered


class Residence(Protocol):
    """What the last poll says about models."""

    def canonical_name(self, name: str) -> str | None:
        """Return the server's spelling of a model's name, or None if it does not know the model."""

    def is_remote(self, name: str) -> bool:
        """Return whether the model runs on another host, so that nothing is loaded here."""

    def is_resident(self, name: str) -> bool | None:
        """Return whether the model's runner was listed, or None if that is unknown."""

    def loaded_at(self, name: str) -> float | None:
        """Return the time of the first poll that listed the resident incarnation."""

    def polled_at(self) -> float:
        """Return the time of the last poll."""


class Unpolled:
    """A residence without polls: the shim inside an application."""

    def canonical_name(self, name: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: no name is known."""
        return None

    def is_remote(self, name: str) -> bool:
        """Return whether the name is one of Ollama's cloud."""
        return is_cloud_name(name)

    def is_resident(self, name: str) -> bool | None:  # noqa: ARG002 - the protocol's
        """Return None: nothing is known."""
        return None

    def loaded_at(self, name: str) -> float | None:  # noqa: ARG002 - the protocol's
        """Return None: nothing is known."""
        return None

    def polled_at(self) -> float:
        """Return a time before all others."""
        return 0.0


class InFlight:
    """The requests in flight, by model."""

    def __init__(self, residence: Residence, gaps: IdleGapDetector, *, cold: float = COLD) -> None:
        self.residence, self._gaps, self._cold = residence, gaps, cold
        self._open: dict[str, dict[int, Exchange]] = {}
        # model -> time of its last answer
        self._answered = BoundedDict[str, float](MOST_MODELS)
        self._waiting: dict[int, Exchange] = {}  # their model was not resident

    def on_request_read(self, exchange: Exchange) -> float | None:
        """Add a request with a known model. Return for how long the model was idle, if it was.

        Also notes on the exchange whether the model was resident.
        """
        model = exchange.model
        if model is None:
            return None
        mine = self._open.setdefault(model, {})
        exchange.is_remote = self.residence.is_remote(model)
        if exchange.is_remote:
            mine[exchange.id] = exchange
            return None
        exchange.waits_alone = not any(map(self.is_waiting, self._waiting.values()))
        exchange.resident = self._resident(model)
        if exchange.resident is False:
            self._waiting[exchange.id] = exchange
        mine[exchange.id] = exchange
        if exchange.request_fields.is_stop:
            return None
        return self._gaps.on_request_start(model, exchange.started_at)

    def _resident(self, model: str) -> bool | None:
        """Return whether a request that arrives now finds its model loaded.

        An answer since the last poll is newer evidence. Servers before 0.30 list a model while it
        loads, so a request that still waits for it shows that it is not loaded.
        """
        waiting = self._waiting
        if waiting and any(e.model == model and self.is_waiting(e) for e in waiting.values()):
            return False
        listed = self.residence.is_resident(model)
        if listed is False and self._answered.get(model, 0.0) > self.residence.polled_at():
            return True
        return listed

    def is_waiting(self, exchange: Exchange) -> bool:
        """Return whether a request still waits for a load."""
        model = exchange.model
        if model is None or exchange.is_remote:
            return False
        if exchange.answered_at is not None or exchange.has_ended:
            return False
        return exchange.resident is False or self._gone(model, since=exchange.started_at)

    def _gone(self, model: str, *, since: float) -> bool:
        """Return whether a later poll does not list the model: it was unloaded meanwhile."""
        return self.residence.polled_at() > since and self.residence.is_resident(model) is False

    def on_response_start(self, exchange: Exchange) -> None:
        """Note that its model is loaded."""
        self._waiting.pop(exchange.id, None)
        if exchange.model is not None and exchange.answered_at is not None:
            self._answered[exchange.model] = exchange.answered_at

    def on_request_end(self, exchange: Exchange, observation: Observation) -> Observation:
        """Remove a request. Return its observation with `start` set."""
        self._waiting.pop(exchange.id, None)
        model = exchange.model
        if model is None or not observation.route.runs:
            return observation
        mine = self._open.get(model, {})
        mine.pop(exchange.id, None)
        if not mine:
            self._open.pop(model, None)
        used = observation.outcome in SERVED and not observation.response.remote
        if not exchange.request_fields.is_stop and not exchange.is_remote:
            self._gaps.on_request_end(model, observation.ended, used=used)
        if observation.response.remote or exchange.is_remote:
            return replace(observation, start=Start.REMOTE)
        if observation.outcome is not Outcome.ANSWERED and observation.first_content is None:
            return observation
        resident = exchange.resident
        loaded = self.residence.loaded_at(model)
        if resident is not None and loaded is not None and loaded > observation.began:
            resident = False  # a poll has listed a younger incarnation since it came
        start = start_of(load_wait=observation.load_wait, resident=resident, cold=self._cold)
        return replace(observation, start=start)

    def request_fields(self, model: str) -> list[RequestFields]:
        """Return the fields of a model's requests in flight, as the server received them."""
        exchanges = list(self._open.get(model, {}).values())
        return [each.rewritten_fields or each.request_fields for each in exchanges]

    def count(self, model: str) -> int:
        """Return how many requests to a model are in flight."""
        return len(self._open.get(model, ()))

    def is_any_waiting(self) -> bool:
        """Return whether requests wait for a load."""
        return bool(self.waiting())

    def forget_all(self) -> None:
        """Remove all requests, whose end will not come."""
        self._open.clear()
        self._waiting.clear()

    def load_seconds(self, exchange: Exchange, observation: Observation) -> float | None:
        """Return the load time that a request measured, or None if others may have delayed it."""
        cold = observation.start is Start.COLD
        return observation.load_wait if cold and exchange.waits_alone else None

    def waiting(self) -> list[Waiting]:
        """Return the requests that wait for a load; times are on the timeline."""
        every = [e for mine in list(self._open.values()) for e in list(mine.values())]
        return [Waiting(e.model, 1, e.started_at) for e in every if e.model and self.is_waiting(e)]
