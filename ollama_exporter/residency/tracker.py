# SPDX-License-Identifier: Apache-2.0
"""The residency tracker: facts in, events out."""

from ollama_exporter.residency.events import Event, View
from ollama_exporter.residency.facts import Fact


class Tracker:
    """Turns facts, given in order of time, into loads and unloads with reasons."""

    def __init__(self, *, window: float = 60.0) -> None:
        self.window = window

    def observe(self, fact: Fact) -> tuple[Event, ...]:
        """Take one fact; return what it settled."""
        raise NotImplementedError

    def advance(self, now: float) -> tuple[Event, ...]:
        """Settle what only the passing of time settles."""
        raise NotImplementedError

    def view(self) -> View:
        """The state now."""
        raise NotImplementedError
