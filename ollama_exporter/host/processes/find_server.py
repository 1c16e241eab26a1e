# SPDX-License-Identifier: Apache-2.0
"""Finds the process of the server that is polled: at first often, then rarely, for it is dear."""

import asyncio
from dataclasses import dataclass
from typing import Final

from ollama_exporter.host.processes.choose_server import Candidate, Choice, choose
from ollama_exporter.host.processes.command_lines import weights_in
from ollama_exporter.host.processes.reader import Process, Reader

FIRST_PAUSE: Final = 1.0  # seconds between two searches, doubled each time
LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where the polls go. `insist`: the operator says that it is on this machine."""

    host: str
    port: int
    insist: bool = False


class Search:
    """Looks at every process of the machine, when that is due."""

    def __init__(self, reader: Reader, place: ServerPlace) -> None:
        self._reader, self._place = reader, place
        self._pause, self._next = FIRST_PAUSE, 0.0
        self._was_up = False

    def due(self, now: float, *, up: bool) -> bool:
        """Tell whether to search now: also at once when the server begins to answer."""
        if up and not self._was_up:
            self.hurry()
        self._was_up = up
        return now >= self._next

    def hurry(self) -> None:
        """Search often again: the server was found and may die, or it answers again."""
        self._pause, self._next = FIRST_PAUSE, 0.0

    async def choose(self, now: float, listed: frozenset[str]) -> Choice:
        """Search. `listed`: the weights that the server lists, as far as they are known."""
        self._next = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        found = await asyncio.to_thread(self._candidates)
        return choose(found, listed, insist=self._place.insist)

    def _candidates(self) -> list[Candidate]:
        place = self._place
        return [
            Candidate(
                server,
                self._reader.listens(server.pid, place.host, place.port),
                self._weights(server),
            )
            for server in self._reader.servers()
        ]

    def _weights(self, server: Process) -> frozenset[str]:
        children = map(self._reader.look, self._reader.children(server.pid) or ())
        found = (weights_in(child.command) for child in children if child is not None)
        return frozenset(weights for weights in found if weights is not None)
