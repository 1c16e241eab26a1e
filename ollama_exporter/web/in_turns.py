# SPDX-License-Identifier: Apache-2.0
"""Long work on the event loop, cut into parts so that others have their turn in between.

A thread would cost a small scrape a third more. It would also hold the loop up for longer: a thread
gives the interpreter away only when its switch interval has passed.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

TURN: Final = 0.001  # seconds of work before others have their turn


async def in_turns(parts: Iterable[bytes]) -> bytes:
    """Return all parts together. Making one of them should take less than a turn."""
    whole: list[bytes] = []
    begun = time.perf_counter()
    for part in parts:
        whole.append(part)
        if time.perf_counter() - begun >= TURN:
            await asyncio.sleep(0)
            begun = time.perf_counter()
    return b"".join(whole)
