# SPDX-License-Identifier: Apache-2.0
"""Keeps the garbage collector from walking through all targets again and again.

A thousand targets are some 400,000 objects that stay for good. A full collection walks through all
of them, which takes 0.3 s of CPU in which no scrape is answered, and finds nothing.
"""

import gc
from typing import Final

LEAST: Final = 100  # targets; below, a collection is short
SHARE: Final = 4  # of the targets, this fraction may change before the heap is looked through


class SettledHeap:
    """Sets the objects of the targets aside. What was removed of them is found later, in one go."""

    def __init__(self) -> None:
        self._changed = 0
        self._is_frozen = False

    def on_change(self, changed: int, *, count: int) -> None:
        """Process that so many targets were added or removed; `count`: those that are left."""
        self._changed += changed
        if self._changed < max(LEAST, count // SHARE):
            return
        self._changed = 0
        if self._is_frozen:  # some of what was set aside may be garbage now
            gc.unfreeze()
            gc.collect()
        gc.freeze()
        self._is_frozen = True

    def close(self) -> None:
        """Give everything back to the collector."""
        if self._is_frozen:
            gc.unfreeze()
            self._is_frozen = False
