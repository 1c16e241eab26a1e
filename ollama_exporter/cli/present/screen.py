# SPDX-License-Identifier: Apache-2.0
"""What people read in the terminal: one line for each event, and a table of the models.

Words carry everything and colour repeats it, so NO_COLOR, pipes and logs lose nothing.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ollama_exporter.cli.present.quantities import memory, moment, remaining
from ollama_exporter.host.runner.slot_watcher import SlotLook
from ollama_exporter.host.runner.slots import Slot
from ollama_exporter.residency.events import (
    Event,
    Found,
    Loaded,
    ModelState,
    Restarted,
    Unloaded,
    View,
)

STYLES: Final = {
    "answered": "blue",
    "failed": "red",
    "loaded": "green",
    "unloaded": "red",
    "restarted": "magenta",
    "found": "green",
}
INDENT: Final = " " * 8


def slots_text(slots: tuple[Slot, ...]) -> str:
    """Write how many slots work, and how full the fullest one's context is: 1/2 40%."""
    busy = [slot for slot in slots if slot.busy]
    if not busy:
        return f"0/{len(slots)}" if slots else ""
    return f"{len(busy)}/{len(slots)} {max(slot.held / slot.context for slot in busy):.0%}"


@dataclass(slots=True)
class Story:
    """The events so far. `start`: the moment that lines count from, Unix seconds."""

    start: float
    loads: Counter[str] = field(default_factory=Counter)
    unloads: list[Unloaded] = field(default_factory=list)
    slots: dict[str, tuple[Slot, ...]] = field(default_factory=dict)  # at the last look

    def on_look(self, look: SlotLook) -> None:
        """Remember what a look at a model's slots showed."""
        if look.slots:
            self.slots[look.model] = look.slots

    def tell(self, event: Event) -> Text:
        """Remember an event and write its line."""
        match event:
            case Found(model=model, at=at):
                return self.line(at, "found", f"{model.name}, {memory(model.size)}")
            case Loaded(model=model):
                self.loads[model.name] += 1
                bounds = self._bounds(event.not_before, event.not_after)
                text = f"{model.name}, {memory(model.size)}, {bounds}"
                return self.line(event.settled_at, "loaded", text)
            case Restarted():
                bounds = self._bounds(event.not_before, event.not_after)
                return self.line(event.not_after, "restarted", f"the server, {bounds}")
            case _:
                self.unloads.append(event)
                self.slots.pop(event.model.name, None)  # the next runner has others
                return self._unloaded(event)

    def line(self, at: float, what: str, text: str) -> Text:
        """Write one line: moment, what happened, details."""
        line = Text(f"{moment(at - self.start):>7} ")
        line.append(f"{what:<10}", style=STYLES.get(what, "cyan"))
        return line.append(text)

    def _bounds(self, low: float, high: float) -> str:
        since, until = moment(low - self.start), moment(high - self.start)
        return f"at {since}" if since == until else f"between {since} and {until}"

    def _unloaded(self, event: Unloaded) -> Text:
        line = self.line(event.settled_at, "unloaded", f"{event.model.name}: ")
        line.append(event.reason.value, style="bold")
        if event.by is not None:
            line.append(f" by {event.by}")
        line.append(f", {self._bounds(event.not_before, event.not_after)}")
        return line.append(f"\n{INDENT}{INDENT[:2]}because {'; '.join(event.evidence)}", "dim")

    def last_unload(self, name: str) -> Unloaded | None:
        """Return the youngest settled unload of that model."""
        return next((x for x in reversed(self.unloads) if x.model.name == name), None)

    def table(self, view: View, now: float) -> Table:
        """Draw what is known of each model at `now`, Unix seconds."""
        title = f"{moment(now - self.start)} · {_pending(view)}"
        table = Table(  # fits into 80 columns with the names that people have
            title=title,
            title_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=0,
        )
        columns = ("model", "loaded", "expires in", "memory", "slots", "last unload", "loads")
        for column in columns:
            table.add_column(column, justify="right" if column == "loads" else "left", no_wrap=True)
        for state in view.models:
            last = self.last_unload(state.name)
            resident = state.resident[-1] if state.resident else None
            table.add_row(
                state.name,
                _loaded(state),
                remaining(resident.expires_at - now) if resident else "",
                memory(resident.size) if resident else "",
                slots_text(self.slots.get(state.name, ())) if resident else "",
                f"{moment(last.not_after - self.start)} {last.reason}" if last else "",
                str(self.loads[state.name]),
            )
        return table


def _loaded(state: ModelState) -> Text:
    """Write whether a model is there: `dead` is listed without its process."""
    if state.loading_since is not None:
        return Text("loading", "yellow")
    if not state.resident:
        return Text("no", "dim")
    return Text("dead", "red") if state.runner_up is False else Text("yes", "green")


def _pending(view: View) -> str:
    return f"{view.pending} unload{'' if view.pending == 1 else 's'} waiting for a reason"
