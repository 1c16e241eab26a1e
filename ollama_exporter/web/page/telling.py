# SPDX-License-Identifier: Apache-2.0
"""Connects the story of one server with the parts of the exporter that know it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from ollama_exporter.advice.live import LiveAdvice
from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.host.machine import Machine
from ollama_exporter.metrics.labels import OTHER, ModelLabels
from ollama_exporter.poller.published import Published
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Event, View
from ollama_exporter.shim.in_flight import InFlight
from ollama_exporter.shim.observation import Observation
from ollama_exporter.story.hidden_story import Hide
from ollama_exporter.story.history import History
from ollama_exporter.story.narrator import Known, Narrator
from ollama_exporter.story.past import SavedPast
from ollama_exporter.story.status import SourceNow
from ollama_exporter.web.page.live_feed import LiveFeed, ReaderLimit

BESIDE: Final = "Only an exporter on the server's machine sees this."
ELSEWHERE: Final = tuple(
    SourceNow(name=name, on=False, detail=BESIDE)
    for name in ("Processes", "Slots", "Log", "Requests")
)


class Told(Struct, frozen=True, kw_only=True):
    """The parts that know the server."""

    settings: Settings
    published: Callable[[], Published]
    machine: Machine | None = None  # None: the server is elsewhere, and one of several
    in_flight: InFlight | None = None  # None: there is no proxy
    advice: LiveAdvice
    labels: ModelLabels
    timeline: Timeline
    reporter: Reporter
    limit: ReaderLimit | None = None  # of the readers of several servers
    share: float = 1.0  # of the bounds of a history
    hide: Hide | None = None  # replaces the names of models; None: they are shown


class Telling:
    """History, narrator and feed of one server. Give it events and finished requests."""

    def __init__(self, told: Told) -> None:
        self._told, self._history = told, History(share=told.share)
        self._history.begin(told.timeline.now())
        machine, in_flight, advice = told.machine, told.in_flight, told.advice
        known = Known(
            url=told.settings.ollama_url,
            published=told.published,
            weights=_nothing if machine is None else machine.weights,
            keep_alive=advice.gaps.keep_alive,
            in_flight=_none if in_flight is None else in_flight.count,
            waiting=tuple if in_flight is None else in_flight.waiting,
            runners=tuple if machine is None else machine.runners,
            advice=advice.advice,
            sources=lambda: ELSEWHERE if machine is None else sources(told.settings, machine),
            label=self._label,
        )
        self._narrator = Narrator(known, self._history)
        self.feed = LiveFeed(
            self._narrator,
            self._history,
            told.timeline,
            told.reporter,
            limit=told.limit,
            hide=told.hide,
        )

    def on_change(self, events: tuple[Event, ...], _view: View) -> None:
        """Process what a poll or another fact has settled."""
        self._history.on_change(events, self._told.published(), self._told.timeline.now())
        self.feed.on_event()

    def on_request(self, seen: Observation) -> None:
        """Add a finished request. An error here costs the request nothing."""
        try:
            if seen.model is not None:
                self._history.on_request(seen, self._label(seen.model))
        except Exception:  # noqa: BLE001 - as said above
            self._told.reporter.error_once("Request could not be added to the page")

    def ranks(self) -> Mapping[str, int]:
        """Return the resident models; 1 is the first to go if another one needs its room."""
        return self._narrator.ranks(self._told.timeline.now())

    def saved(self) -> SavedPast:
        """Return what a later process continues from."""
        return self._history.saved(self._told.timeline.now())

    def restore(self, saved: SavedPast) -> None:
        """Continue the past of an earlier process."""
        self._history.restore(saved, self._told.timeline.now())

    def _label(self, name: str) -> str:
        """Return a name that the server knows; clients make up others."""
        return name if self._told.labels.has(name) else OTHER


def _nothing(_digest: str) -> None:
    """Return that no weights are known."""


def _none(_model: str) -> int:
    """Return that no request is seen."""
    return 0


def sources(settings: Settings, machine: Machine) -> Iterator[SourceNow]:
    """Yield the sources besides polls, each with the flag that turns it on."""
    yield _processes(machine)
    yield _slots(machine)
    yield _log(machine)
    proxy = ", ".join(settings.proxy_addresses)
    yield SourceNow(
        name="Requests",
        on=bool(proxy),
        detail=f"The proxy at {proxy} sees them." if proxy else "Waits are not seen.",
        line="" if proxy else "--proxy.listen-address=127.0.0.1:11435",
    )
    file = settings.state_file
    yield SourceNow(
        name="State file",
        on=file is not None,
        detail="The past outlives a restart." if file else "The past ends with the exporter.",
        line="" if file else "--state.file=/var/lib/ollama-exporter/state.json",
    )


def _processes(machine: Machine) -> SourceNow:
    why_not = machine.why_not
    return SourceNow(
        name="Processes",
        on=not why_not,
        detail=f"Not watched: {why_not}." if why_not else "Exits are seen at once.",
        line="--collector.processes=on" if why_not and not machine.is_searching else "",
    )


def _slots(machine: Machine) -> SourceNow:
    asking = machine.is_asking_runners
    seen = sum(1 for sight in machine.runners() if sight.now is not None)
    return SourceNow(
        name="Slots",
        on=asking,
        detail=f"Runners that answer: {seen}." if asking else "Runners are not queried.",
        line="" if asking else "--collector.processes=on --collector.runner=on",
    )


def _log(machine: Machine) -> SourceNow:
    follows, understood = machine.log_lines is not None, machine.log_understood
    followed = {
        None: "Followed; no line was read yet.",
        True: "Followed.",
        False: "Followed, but its lines cannot be read.",
    }
    return SourceNow(
        name="Log",
        on=follows and understood is not False,
        detail=followed[understood] if follows else "Not followed.",
        line="" if follows else "--ollama.log=journal",
    )
