# SPDX-License-Identifier: Apache-2.0
"""Finds the process of the server that is polled.

A search reads every process of the machine. It runs often at first, then ever more rarely.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from ollama_exporter.host.processes.command_lines import weights_in
from ollama_exporter.host.processes.reader import Process, Reader

FIRST_PAUSE: Final = 1.0  # seconds between two searches, doubled each time
LONGEST_PAUSE: Final = 60.0


class ServerAddress(Struct, frozen=True):
    """Where the polls go. `on_this_machine`: the operator says so, whatever the address is."""

    host: str
    port: int
    on_this_machine: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Candidate(Struct, frozen=True):
    """A visible server process.

    `listens`: whether it listens where the polls go; None: we lack the permission to see it.
    """

    process: Process
    listens: bool | None
    weights: frozenset[str] = frozenset()  # of its runners


class NotFound(Enum):
    """Why no server process was chosen."""

    NO_SERVER = auto()
    NOT_LISTENING = auto()
    AMBIGUOUS = auto()

    def sentence(self, address: ServerAddress) -> str:
        """Return the reason for the log."""
        match self:
            case NotFound.NO_SERVER:
                return "no `ollama serve` process is visible on this machine"
            case NotFound.NOT_LISTENING:
                return f"an `ollama serve` process is visible, but it does not listen on {address}"
            case NotFound.AMBIGUOUS:
                return (
                    "several `ollama serve` processes are visible, and the exporter lacks the "
                    f"permission to see which one listens on {address}; run it as the same user"
                )


def choose(
    candidates: Sequence[Candidate], resident: frozenset[str], *, on_this_machine: bool = False
) -> Process | NotFound:
    """Choose by the listening port. If that is not visible, choose by the resident weights.

    `resident`: the weights that `/api/ps` lists, as far as they are known. `on_this_machine`: if
    there is one server only, choose it, since its port may be mapped to another one.
    """
    if not candidates:
        return NotFound.NO_SERVER
    listening = [each.process for each in candidates if each.listens]
    if listening:
        return min(listening, key=lambda process: process.born)
    unknown = [each for each in candidates if each.listens is None]
    if len(unknown) > 1:
        unknown = [each for each in unknown if resident and resident <= each.weights]
        if len(unknown) != 1:
            return NotFound.AMBIGUOUS
    if unknown:
        return unknown[0].process
    if on_this_machine and len(candidates) == 1:
        return candidates[0].process
    return NotFound.NOT_LISTENING


class ServerSearch:
    """Searches all processes of the machine, and knows when the next search is due."""

    def __init__(self, reader: Reader, address: ServerAddress) -> None:
        self._reader, self._address = reader, address
        self._pause, self._next = FIRST_PAUSE, 0.0
        self._was_up = False

    def is_due(self, now: float, *, up: bool) -> bool:
        """Return whether to search now. A server that begins to answer is searched at once."""
        if up and not self._was_up:
            self.reset_pause()
        self._was_up = up
        return now >= self._next

    def reset_pause(self) -> None:
        """Search often again: the server was found and may exit, or it answers again."""
        self._pause, self._next = FIRST_PAUSE, 0.0

    async def find(self, now: float, resident: frozenset[str]) -> Process | NotFound:
        """Search in a thread. `resident`: the weights that the server lists, as far as known."""
        self._next = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        candidates = await asyncio.to_thread(self._candidates)
        return choose(candidates, resident, on_this_machine=self._address.on_this_machine)

    def _candidates(self) -> list[Candidate]:
        host, port = self._address.host, self._address.port
        return [
            Candidate(
                server,
                self._reader.is_listening(server.pid, host, port),
                self._weights(server),
            )
            for server in self._reader.servers()
        ]

    def _weights(self, server: Process) -> frozenset[str]:
        children = map(self._reader.process, self._reader.children(server.pid) or ())
        found = (weights_in(child.command) for child in children if child is not None)
        return frozenset(weights for weights in found if weights is not None)
