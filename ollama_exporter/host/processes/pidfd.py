# SPDX-License-Identifier: Apache-2.0
"""Notices the exit of a process at once, by a descriptor that becomes readable then.

This needs Linux 5.3 and no permission. Elsewhere, and in sandboxes that forbid it, scans notice.
"""

import asyncio
import os
import select
from collections.abc import Callable


class PidfdWatch:
    """Holds one descriptor for each process, until the process exits or it is closed."""

    def __init__(self, *, possible: bool = True) -> None:
        self._descriptors: dict[int, int] = {}  # by pid
        self._possible = possible and hasattr(os, "pidfd_open")

    def open(self, pid: int) -> None:
        """Open a descriptor if possible. Open it before reading anything about the process."""
        if not self._possible or pid in self._descriptors:
            return
        try:
            self._descriptors[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:  # forbidden, or too many open files: leave it to the scans from now on
            self._possible = False

    def is_open(self, pid: int) -> bool:
        """Return whether the exit of this process is noticed at once."""
        return pid in self._descriptors

    def has_exited(self, pid: int) -> bool:
        """Return whether the process is gone. If so, the pid may belong to another one now."""
        if pid not in self._descriptors:
            return False
        poll = select.poll()
        poll.register(self._descriptors[pid], select.POLLIN)
        return bool(poll.poll(0))

    def call_on_exit(self, pid: int, on_exit: Callable[[int], None]) -> None:
        """Let the running loop call `on_exit` once, when the process exits."""

        def on_readable() -> None:
            self.close(pid)
            on_exit(pid)

        asyncio.get_running_loop().add_reader(self._descriptors[pid], on_readable)

    def close(self, pid: int) -> None:
        """Close the descriptor of one process."""
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def close_all(self) -> None:
        """Close all descriptors."""
        for pid in list(self._descriptors):
            self.close(pid)
