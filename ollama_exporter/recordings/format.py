# SPDX-License-Identifier: Apache-2.0
"""What the reader and the writer of recordings share; docs/recordings.md has the format."""

from dataclasses import dataclass, replace
from typing import Final

from ollama_exporter.host.runner.slots import Slot
from ollama_exporter.residency.facts import (
    Fact,
    PollFailed,
    ProcessStarted,
    Snapshot,
    VersionAnswered,
)

GZIP: Final = b"\x1f\x8b"
VISIBILITY: Final = {"visible": True, "hidden": False}
FOR_EVER: Final = -1  # JSON has no infinity; Ollama writes the same
Poll = Snapshot | PollFailed


@dataclass(frozen=True, slots=True)
class RecordedLook:
    """A look at the slots of a runner. `at`: its end. `slots`: None where it did not answer."""

    at: float
    began: float
    pid: int
    weights: str  # `sha256-HEX`; empty: not known
    slots: tuple[Slot, ...] | None


@dataclass(frozen=True, slots=True)
class Recording:
    """The facts of a recording, each part in order of time."""

    polls: tuple[Poll, ...]
    requests: tuple[Fact, ...]
    processes: tuple[Fact, ...]
    log: tuple[Fact, ...] = ()
    looks: tuple[RecordedLook, ...] = ()
    versions: tuple[VersionAnswered, ...] = ()

    @property
    def has_processes(self) -> bool:
        """Whether the recorder saw processes start."""
        return any(isinstance(fact, ProcessStarted) for fact in self.processes)

    def since(self, seconds: float) -> "Recording":
        """Return the recording without the polls of its first seconds."""
        begin = self.polls[0].started + seconds
        return replace(self, polls=tuple(poll for poll in self.polls if poll.started >= begin))


def moment_of(fact: Fact) -> float:
    """Return the moment from which on a fact is known."""
    return fact.ended if isinstance(fact, Snapshot | PollFailed) else fact.at
