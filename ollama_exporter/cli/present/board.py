# SPDX-License-Identifier: Apache-2.0
"""The board of `top`: lines of text for one screen. Pure: size, moment and zone are arguments."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from ollama_exporter.advice.keep_alive_advice import LEAST_GAPS
from ollama_exporter.cli.present.board_lines import (
    BAD,
    BOLD,
    DIM,
    LEAST_WIDTH,
    WARN,
    fitted,
    window,
)
from ollama_exporter.cli.present.model_bar import LEGEND, model_bar
from ollama_exporter.cli.present.quantities import ago, countdown, gigabytes, gpu_share
from ollama_exporter.foreign_text import clean
from ollama_exporter.protocol.keepalive import FOR_EVER, compact
from ollama_exporter.story.document import StatusDocument
from ollama_exporter.story.past import PastEvent, PastRequest
from ollama_exporter.story.status import AdviceNow, ModelNow

SORTS: Final = ("unload", "name", "memory", "rank")
BAR: Final = 16  # cells of a model's bar; more where there is room
WIDEST_BAR: Final = 120
REST: Final = 44  # cells of the other columns besides the name
HELP: Final = (
    ("q, Ctrl-C", "quit"),
    ("s", "sort by: time left, name, memory, eviction rank"),
    ("/", "show only models whose name contains a text; Esc clears it"),
    ("up, down, k, j", "choose a model"),
    ("Enter", "its history: unloads with their evidence, waits, advice"),
    ("Esc", "back"),
    ("?", "this help"),
)
COLUMNS: Final = (
    *("model", "unloads_in_seconds", "eviction_rank", "bytes", "bytes_gpu"),
    *("slots_busy", "slots", "tokens_per_second"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """What the reader has chosen."""

    sort: str = SORTS[0]
    pattern: str = ""
    typing: bool = False  # a filter is being typed
    chosen: str = ""  # a model
    view: str = "models"  # models, story, help; targets: the list of several servers
    target: str = ""  # the server that is chosen among several
    opened: bool = True  # its models are shown, and not the list of servers
    is_fleet: bool = False  # there is such a list


def shown_models(document: StatusDocument, state: BoardState) -> list[ModelNow]:
    """Return the models that pass the filter, sorted."""
    found = [x for x in document.status.models if state.pattern.lower() in x.name.lower()]
    match state.sort:
        case "unload":
            found.sort(key=lambda x: (x.pinned or x.busy, x.deadline or math.inf, x.name))
        case "memory":
            found.sort(key=lambda x: (-x.size, x.name))
        case "rank":
            found.sort(key=lambda x: (x.rank or math.inf, x.name))
        case _:
            found.sort(key=lambda x: x.name)
    return found


def board(
    document: StatusDocument,
    state: BoardState,
    *,
    now: float,
    width: int,
    height: int,
    zone: tzinfo,
    problem: str = "",
) -> list[Text]:
    """Return exactly `height` lines of at most `width` cells. `now`: Unix seconds.

    `problem`: why the document is not of this moment.
    """
    width = max(width, LEAST_WIDTH)
    writer = _Writer(document, state, now, width, zone)
    match state.view:
        case "help":
            body = list(writer.help())
        case "story":
            body = list(writer.story())
        case _:
            body = list(writer.models(height))
    head = [*writer.head(), *([Text(f"! {problem}", style=BAD)] if problem else [])]
    return fitted(head, body, writer.foot(), width=width, height=height)


def table(document: StatusDocument, *, now: float) -> list[str]:
    """Return the models as lines of tab-separated values, with a head."""
    lines = ["\t".join(COLUMNS)]
    for model in sorted(document.status.models, key=lambda each: each.name):
        left = _word(model)
        if not left and model.deadline is not None:
            left = f"{max(0.0, model.deadline - now):.0f}"
        values = (
            *(model.name, left),
            *(model.rank, model.size, model.size_vram),
            *(model.slots_busy if model.slots else None, model.slots, model.tokens_per_second),
        )
        lines.append("\t".join("" if value is None else str(value) for value in values))
    return lines


class _Writer:
    """Writes the parts of one board."""

    def __init__(
        self, document: StatusDocument, state: BoardState, now: float, width: int, zone: tzinfo
    ) -> None:
        self._document, self._state = document, state
        self._now, self._width, self._zone = now, width, zone
        self._status, self._past = document.status, document.past

    # -- head and foot ---------------------------------------------------------------------------

    def head(self) -> Iterator[Text]:
        """Yield the server, the next unload, the last one, and the memory."""
        server = self._status.server
        version = "" if server.version is None else f" {server.version}"
        said = "answers" if server.up else "DOES NOT ANSWER"
        which = f"{clean(self._state.target)}: " if self._state.target else ""
        told = f"{which}Ollama{version} at {server.url} {said}"
        title = Text().append(told, style=BOLD if server.up else BAD)
        clock = self._clock(self._now)
        title.truncate(self._width - len(clock) - 1, overflow="ellipsis")
        title.pad_right(self._width - title.cell_len - len(clock))
        yield title.append(clock, style=DIM)
        yield self._labelled("Next unload", self._next())
        yield self._labelled("Evict first", self._first())
        yield self._labelled("Last unload", self._last())
        yield self._labelled("Memory", self._memory())
        yield Text()

    def foot(self) -> Text:
        """Return the last line: the filter, or the keys."""
        state = self._state
        if state.typing:
            return Text(f"/{state.pattern}_")
        back = "Esc back  " if state.view != "models" else "Enter story  "
        back = "Esc servers  " if state.view == "models" and state.is_fleet else back
        pattern = f"  /{state.pattern}" if state.pattern else ""
        keys = f"q quit  s sort: {state.sort}  / filter  up/down choose  {back}? help{pattern}"
        return Text(keys, style=DIM)

    def _next(self) -> str:
        resident = [model for model in self._status.models if model.resident]
        if not resident:
            return "nothing is in memory"
        leaving = [x for x in resident if x.deadline is not None and not x.busy]
        soonest = min(leaving, key=lambda x: x.deadline or 0.0, default=None)
        if soonest is None:
            return "nothing is due: every model is in use or stays forever"
        return f"{self._named(soonest.name)} in {self._left(soonest)}, unless it is used again"

    def _first(self) -> str:
        first = next((model.name for model in self._status.models if model.rank == 1), "")
        known = all(model.rank_known for model in self._status.models if model.rank)
        sure = "" if known else " (probably)"
        named = self._named(first)
        return f"{named}{sure}, if another model needs memory" if first else "nothing"

    def _last(self) -> str:
        unloads = [event for event in self._past.events if event.kind == "unloaded"]
        if not unloads:
            return "none yet"
        last = max(unloads, key=lambda event: event.at)
        return f"{self._named(last.model)}, {ago(self._now - last.at)} ago: {last.text}"

    def _memory(self) -> Text:
        memory, models = self._status.memory, self._status.models
        if not memory.most:
            return Text("empty")
        cells = 24 if self._width >= 100 else 12  # noqa: PLR2004 - columns
        full = round(cells * memory.used / memory.most)
        vram = sum(model.size_vram or 0 for model in models)
        share = f", {100 * vram / memory.used:.0f} % on the GPU" if memory.used else ""
        bar = Text("█" * full + "░" * (cells - full))
        return bar.append(
            f" {gigabytes(memory.used)}, at most {gigabytes(memory.most)} so far{share}"
        )

    # -- models ----------------------------------------------------------------------------------

    def models(self, height: int) -> Iterator[Text]:
        """Yield the models, who waits, and the last events."""
        found = shown_models(self._document, self._state)
        names = max([12, *(cell_len(model.name) for model in found)])
        names = min(names, 20 if self._width < 100 else 40)  # noqa: PLR2004 - columns
        bar = min(WIDEST_BAR, max(BAR, self._width - names - REST))
        yield Text(
            f"  {'MODEL':<{names}} {'LAST 10 MIN':<{bar}} {'UNLOAD IN':>9} {'RANK':>4} "
            f"{'MEMORY':>8} {'GPU':>4} {'SLOTS':>5} {'TOK/S':>5}",
            style=DIM,
        )
        chosen = next((n for n, x in enumerate(found) if x.name == self._state.chosen), 0)
        begin, end = window(len(found), chosen, max(1, height // 2 - 5))
        for model in found[begin:end]:
            yield self._row(model, names, bar)
        if end - begin < len(found):
            yield Text(f"  {begin + 1} to {end} of {len(found)}", style=DIM)
        if not found:
            yield Text("  no model in memory" if not self._state.pattern else "  no such model")
        yield Text()
        yield from self._waiting()
        yield Text("WHAT HAPPENED", style=DIM)
        events = sorted(self._past.events, key=lambda event: -event.at)
        for event in events:
            yield self._event(event)
        if not events:
            yield Text("  nothing yet", style=DIM)

    def _row(self, model: ModelNow, names: int, bar: int) -> Text:
        mark = ">" if model.name == self._state.chosen else " "
        name = Text(model.name)
        name.truncate(names, overflow="ellipsis", pad=True)
        slots = "" if model.slots is None else f"{model.slots_busy}/{model.slots}"
        speed = "" if model.tokens_per_second is None else f"{model.tokens_per_second:.0f}"
        rank = "" if model.rank is None else f"{model.rank}."
        line = Text(f"{mark} ").append_text(name).append(" ")
        line.append_text(model_bar(model.name, self._document, now=self._now, cells=bar))
        line.append(f" {self._left(model):>9}", style=WARN if model.busy else "")
        line.append(f" {rank:>4} {gigabytes(model.size) if model.size else '':>8}")
        is_whole = model.size_vram == model.size
        line.append(f" {gpu_share(model.size, model.size_vram):>4}", style="" if is_whole else WARN)
        line.append(f" {slots:>5} {speed:>5}")
        if mark == ">":
            line.stylize(BOLD)
        return line

    def _left(self, model: ModelNow) -> str:
        if word := _word(model):
            return word
        return "?" if model.deadline is None else countdown(model.deadline - self._now)

    def _waiting(self) -> Iterator[Text]:
        waiting = self._status.waiting
        if not waiting:
            return
        yield Text(f"WAITING FOR A LOAD ({len(waiting)})", style=DIM)
        for each in waiting[:3]:
            yield Text(f"  {each.model} for {ago(self._now - each.since)}", style=WARN)
        yield Text()

    def _event(self, event: PastEvent) -> Text:
        line = Text().append(f"  {self._clock(event.at)}  ", style=DIM)
        line.append(self._named(event.model) or "server", style=BOLD)
        left = " unloaded: " if event.kind == "unloaded" else ": "
        sure = "" if event.sure is None else f" ({100 * event.sure:.0f} % sure)"
        return line.append(f"{left}{event.text}{sure}", style=_colour(event))

    # -- story and help --------------------------------------------------------------------------

    def story(self) -> Iterator[Text]:
        """Yield what is known of the chosen model."""
        name = self._state.chosen
        now = next((model for model in self._status.models if model.name == name), None)
        yield Text(name or "no model is chosen", style=BOLD)
        if now is not None:
            yield from self._facts(now)
        yield Text(f"10 MIN  {LEGEND}", style=DIM)
        cells = min(self._width, WIDEST_BAR)
        yield model_bar(name, self._document, now=self._now, cells=cells)
        for advice in self._status.advice:
            if advice.model == name:
                yield Text(f"Advice: {_advised(advice)}")
                if advice.line:
                    yield Text(f"  {advice.line}", style=DIM)
        yield Text()
        events = [event for event in self._past.events if event.model == name]
        requests = [request for request in self._past.requests if request.model == name]
        told: list[tuple[float, list[Text]]] = [(each.at, [self._wait(each)]) for each in requests]
        for event in events:
            facts = [Text(f"            because {fact}", style=DIM) for fact in event.evidence]
            if event.at - event.low > 1:
                facts.append(Text(f"            after {self._clock(event.low)}", style=DIM))
            told.append((event.at, [self._event(event), *facts]))
        for _, lines in sorted(told, key=lambda each: -each[0]):
            yield from lines

    def _facts(self, model: ModelNow) -> Iterator[Text]:
        about = " ".join(filter(None, (model.parameter_size, model.quantization)))
        keep = "unknown" if model.keep_alive is None else _keep(model.keep_alive)
        yield Text(f"{about}  keep-alive {keep}  unloads in: {self._left(model)}".strip())
        if model.context is not None:
            used = "" if model.context_used is None else f"{model.context_used} of "
            slots = "" if model.slots is None else f"  slots {model.slots_busy} of {model.slots}"
            yield Text(f"context {used}{model.context} tokens{slots}")
        if model.last_use is not None:
            yield Text(f"last used {ago(self._now - model.last_use)} ago")

    def _wait(self, request: PastRequest) -> Text:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in request.parts)
        line = Text().append(f"  {self._clock(request.at)}  ", style=DIM)
        said = "failed" if request.failed else request.start
        line.append(f"{said} request {request.took:.1f} s", style=BAD if request.failed else "")
        return line.append(f"  {parts}", style=DIM)

    def help(self) -> Iterator[Text]:
        """Yield the keys, and what the columns mean."""
        for key, text in HELP:
            yield Text(f"  {key:<16} {text}")
        yield Text()
        yield Text(f"  LAST 10 MIN  {LEGEND}")
        yield Text("  UNLOAD IN    until its keep-alive runs out, unless it is used again")
        yield Text("  RANK         eviction order: 1 goes first if another model needs memory")
        yield Text("  GPU          share of the model on the GPU")
        yield Text("  SLOTS        busy slots of all slots, where the runner can be queried")
        yield Text("  TOK/S        tokens per second of the model's last answer")

    # -- small parts -----------------------------------------------------------------------------

    def _labelled(self, label: str, text: str | Text) -> Text:
        line = Text().append(f"{label:<12} ", style=DIM)
        return line.append(text) if isinstance(text, str) else line.append_text(text)

    def _named(self, name: str) -> str:
        """Return a name that leaves room for what is said of it."""
        text = Text(name)
        text.truncate(self._width // 3, overflow="ellipsis")
        return text.plain

    def _clock(self, at: float) -> str:
        return datetime.fromtimestamp(at + self._status.skew, self._zone).strftime("%H:%M:%S")


def _word(model: ModelNow) -> str:
    """Return what stands in place of a countdown; empty: nothing does."""
    words = (
        (model.dead, "dead"),
        (not model.resident, "loading"),
        (model.busy, "in use"),
        (model.pinned, "never"),
    )
    return next((word for is_so, word in words if is_so), "")


def _advised(advice: AdviceNow) -> str:
    """Return an advice as the page words it."""
    if advice.line or advice.saves:
        return f"keep-alive {_keep(advice.advised)} ({advice.basis}) {advice.saves}".rstrip()
    if advice.samples < LEAST_GAPS:
        return f"none yet: {advice.samples} of {LEAST_GAPS} idle gaps seen"
    return "no other keep-alive is clearly better"


def _colour(event: PastEvent) -> str:
    if event.reason in {"crashed", "out_of_memory"}:
        return BAD
    return WARN if event.reason in {"evicted", "options_changed", "server_restarted"} else ""


def _keep(seconds: float) -> str:
    return "forever" if seconds == FOR_EVER else compact(seconds)
