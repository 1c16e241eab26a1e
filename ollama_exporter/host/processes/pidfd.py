# SPDX-License-Identifier: Apache-2.0
"""Deaths of processes at the moment they happen: a descriptor that becomes readable then.

It needs no permission. Linux since 5.3; elsewhere, and where a sandbox forbids it, scans notice.
"""

import asyncio
import os
import select
from collections.abc import Callable


class PidfdWatch:
    """Holds a descriptor for each process, until it dies, is released, or all are closed."""

    def __init__(self, *, possible: bool = True) -> None:
        self._held: dict[int, int] = {}  # pid -> descriptor
        self._possible = possible and hasattr(os, "pidfd_open")

    def hold(self, pid: int) -> None:
        """Open a descriptor, where that is possible: before the process is looked at."""
        if not self._possible or pid in self._held:
            return
        try:
            self._held[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:  # forbidden, or too many are open: scans do it from now on
            self._possible = False

    def holds(self, pid: int) -> bool:
        """Tell whether a death is noticed by itself."""
        return pid in self._held

    def dead(self, pid: int) -> bool:
        """Tell whether it is dead: what was read of that pid may be another's then."""
        if pid not in self._held:
            return False
        poll = select.poll()
        poll.register(self._held[pid], select.POLLIN)
        return bool(poll.poll(0))

    def watch(self, pid: int, died: Callable[[int], None]) -> None:
        """Call `died` once, when the process that is held dies. For the running loop."""

        def readable() -> None:
            self.release(pid)
            died(pid)

        asyncio.get_running_loop().add_reader(self._held[pid], readable)

    def release(self, pid: int) -> None:
        """Close its descriptor."""
        descriptor = self._held.pop(pid, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Close all descriptors."""
        for pid in list(self._held):
            self.release(pid)
