# SPDX-License-Identifier: Apache-2.0
"""What is read of processes, whichever system they run on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Process:
    """One living process; equal is what has the same pid and start.

    `start` tells two processes of one pid apart and means nothing else; `born` is a moment on the
    timeline of `facts.py`.
    """

    pid: int
    start: float
    born: float = field(compare=False)
    parent: int = field(compare=False)
    command: tuple[str, ...] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: bytes of memory now, seconds of CPU since its birth."""

    resident: int
    cpu: float


class Reader(Protocol):
    """Reads processes. What vanishes while it is read, or may not be read, is not there.

    No method raises, and none reads an environment.
    """

    slow: bool  # a look takes so long that it belongs into a thread

    def servers(self) -> list[Process]:
        """Return every Ollama server that can be seen."""
        ...

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the pids of a process' children; None: it is gone, or hidden."""
        ...

    def look(self, pid: int) -> Process | None:
        """Return a process; None: it is dead, a zombie, or hidden."""
        ...

    def usage(self, process: Process) -> Usage | None:
        """Return what a process has used."""
        ...

    def listens(self, pid: int, host: str, port: int) -> bool | None:
        """Tell whether a process listens where this address leads; None: may not be known."""
        ...

    def why_hidden(self) -> str | None:
        """Return why processes may be there and not be seen; None: nothing hides them."""
        ...
