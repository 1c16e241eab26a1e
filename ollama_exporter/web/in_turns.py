# SPDX-License-Identifier: Apache-2.0
"""Long work on the event loop, cut into parts so that others have their turn in between.

A thread would cost a small scrape a third more. It would also hold the loop up for longer: a thread
gives the interpreter away only when its switch interval has passed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

TURN: Final = 0.001  # seconds of work before others have their turn
# Likewise where chunks of answers pass on the same loop. At five scrapes a second, one in a hundred
# of them was late by 0.9 ms with turns of 1 ms. Now it is 0.45, as without a scrape's work.
TURN_BESIDE_CHUNKS: Final = 0.0001


class Turns:
    """Does several such works at a time, one after the other in each turn of the loop.

    Forty scrapes that each had a turn of their own would hold the loop up for forty turns.
    """

    def __init__(self, turn: float = TURN) -> None:
        self._turn, self._one = turn, asyncio.Lock()
        self._turns_unasked = max(1, round(TURN / turn))

    async def join(
        self, parts: Iterable[bytes], *, is_wanted: Callable[[], Awaitable[bool]]
    ) -> bytes | None:
        """Return all parts together. Making one of them should take less than a turn.

        `is_wanted`: asked before the first turn, and after each millisecond of work. Return None as
        soon as it says no.
        """
        whole: list[bytes] = []
        coming, is_over, number = iter(parts), False, 0
        while not is_over:
            async with self._one:  # in the order in which they asked for it
                # Asking whether a client is there takes a third of a short turn.
                if number % self._turns_unasked == 0 and not await is_wanted():
                    return None
                is_over = _take_turn(coming, whole, turn=self._turn)
                number += 1
                await asyncio.sleep(0)  # whoever waits for the next turn waits for others, too
        return b"".join(whole)


def _take_turn(coming: Iterator[bytes], whole: list[bytes], *, turn: float) -> bool:
    """Add parts until the turn is over. Return whether there are no more."""
    begun = time.perf_counter()
    for part in coming:
        whole.append(part)
        if time.perf_counter() - begun >= turn:
            return False
    return True
