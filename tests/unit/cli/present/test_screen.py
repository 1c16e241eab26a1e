# SPDX-License-Identifier: Apache-2.0
from io import StringIO

from rich.console import Console

from ollama_exporter.cli.present.screen import Story
from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.runner.slot_watcher import SlotLook
from ollama_exporter.host.runner.slots import Slot
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import (
    Evidence,
    Found,
    Loaded,
    ModelState,
    Reason,
    Restarted,
    Unloaded,
    View,
)

START = 1_800_000_000.0


def model(name: str = "mistral:latest", expires_in: float = 20.0) -> RunningModel:
    return RunningModel(name, "0" * 64, START + expires_in, size=5 << 30)


def unloaded(reason: Reason, at: float, name: str = "mistral:latest") -> Unloaded:
    return Unloaded(
        model(name),
        reason,
        (Evidence.BACK_SOON, Evidence.CONTEXT_KEEPS_CHANGING),
        START + at - 1,
        START + at,
        START + at + 0.5,
        START,
        by="qwen2.5:7b" if reason is Reason.EVICTED else None,
    )


def test_an_unload_names_reason_culprit_bounds_and_evidence() -> None:
    line = Story(START).tell(unloaded(Reason.EVICTED, 62.5)).plain
    assert " ".join(line.split()) == (
        "1:03.0 unloaded mistral:latest: evicted by qwen2.5:7b, between 1:01.5 and 1:02.5 "
        f"because {Evidence.BACK_SOON}; {Evidence.CONTEXT_KEEPS_CHANGING}"
    )


def test_each_event_has_its_line() -> None:
    story = Story(START)
    at = START + 5
    assert "found" in story.tell(Found(model(), at)).plain
    loaded = story.tell(Loaded(model(), at - 1, at, at)).plain
    assert "mistral:latest, 5.0 GiB, between 0:04.0 and 0:05.0" in loaded
    assert "the server, between 0:03.0 and 0:05.0" in story.tell(Restarted(at - 2, at)).plain
    assert story.loads == {"mistral:latest": 1}
    assert story.unloads == []


def look(name: str, *slots: Slot) -> SlotLook:
    return SlotLook(name, START, START, Process(1, 0.0, 0.0, 1, ()), 200, slots)


def test_slots_are_forgotten_with_their_runner() -> None:
    story = Story(START)
    story.on_look(look("mistral:latest", Slot(0, 4096, busy=False)))
    story.tell(unloaded(Reason.EXPIRED, 30.0, "mistral:latest"))
    assert story.slots == {}


def test_the_table_shows_who_is_loaded_until_when_and_what_left_why() -> None:
    story = Story(START)
    story.tell(Loaded(model(), START, START + 1, START + 1))
    story.tell(unloaded(Reason.EXPIRED, 30.0, "llama3.2:latest"))
    view = View(
        models=(
            ModelState("llama3.2:latest", (), None, None, None),
            ModelState("mistral:latest", (model(),), START, None, None),
            ModelState("dead:latest", (model(),), START, None, None, runner_up=False),
            ModelState("new:latest", (), None, None, None, loading_since=START),
        ),
        pending=1,
        deadlines=(),
        last_early=None,
        last_seen=None,
    )
    working = Slot(0, 4096, busy=True, task=1, held=1024, decoded=900)
    story.on_look(look("mistral:latest", working, Slot(1, 4096, busy=False)))
    story.on_look(look("dead:latest", Slot(0, 4096, busy=False)))
    out = StringIO()
    Console(file=out, width=80, color_system=None).print(story.table(view, START + 12))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["llama3.2:latest", "no", "0:30.0", "expired", "0"] in rows
    assert ["mistral:latest", "yes", "8", "s", "5.0", "GiB", "1/2", "25%", "1"] in rows
    assert ["dead:latest", "dead", "8", "s", "5.0", "GiB", "0/1", "0"] in rows
    assert ["new:latest", "loading", "0"] in rows
    assert "1 unload waiting for a reason" in out.getvalue()
