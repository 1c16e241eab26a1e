# SPDX-License-Identifier: Apache-2.0
"""What is read about processes, on every system."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Process:
    """A living process. Two are equal if pid and start are.

    `start` only tells two processes with one pid apart. `born` is a moment on the timeline of the
    facts.
    """

    pid: int
    start: float
    born: float = field(compare=False)
    parent: int = field(compare=False)
    command: tuple[str, ...] = field(compare=False)


class Usage(Struct, frozen=True):
    """What a process uses: bytes of memory now, seconds of CPU and bytes read since its start."""

    resident: int
    cpu: float
    read: int = 0  # 0: only its own user and root may know


class Reader(Protocol):
    """Reads processes. A process that exits meanwhile, or that may not be read, is absent.

    No method raises, and no method reads an environment.
    """

    slow: bool  # a read takes so long that it belongs in a thread
    pidfds: bool  # its processes are those of this kernel, which may notice their exits

    def servers(self) -> list[Process]:
        """Return every visible Ollama server."""

    def children(self, pid: int) -> Iterable[int] | None:
        """Return the pids of a process's children; None: it is gone or hidden."""

    def process(self, pid: int) -> Process | None:
        """Return a process; None: it is gone, a zombie or hidden."""

    def usage(self, process: Process) -> Usage | None:
        """Return what a process uses; None: it is gone."""

    def is_listening(self, pid: int, host: str, port: int) -> bool | None:
        """Return whether a process listens at this address; None: not permitted to know."""

    def why_hidden(self) -> str | None:
        """Return why a process may exist and not be visible; None: nothing hides any."""
