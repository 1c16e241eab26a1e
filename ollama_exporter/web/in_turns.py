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
# Of the time that others took since the last turn: a turn is longer where loop or machine are busy.
# Without it, two scrapes a minute came through beside 40 streams on a machine at load 20.
SHARE: Final = 0.25


class Turns:
    """Does several such works at a time, one after the other in each turn of the loop.

    Forty scrapes that each had a turn of their own would hold the loop up for forty turns.
    """

    def __init__(self, turn: float = TURN, *, now: Callable[[], float] = time.perf_counter) -> None:
        self._turn, self._now, self._one = turn, now, asyncio.Lock()
        self._turns_unasked = max(1, round(TURN / turn))

    async def join(
        self, parts: Iterable[bytes], *, is_wanted: Callable[[], Awaitable[bool]]
    ) -> bytes | None:
        """Return all parts together. Making one of them should take less than a turn.

        `is_wanted`: asked before the first turn, and after each millisecond of work. Return None as
        soon as it says no.
        """
        whole: list[bytes] = []
        coming, is_over, number, turn = iter(parts), False, 0, self._turn
        while not is_over:
            async with self._one:  # in the order in which they asked for it
                # Asking whether a client is there takes 10 to 40 µs.
                if number % self._turns_unasked == 0 and not await is_wanted():
                    return None
                is_over = self._take_turn(coming, whole, turn)
                number, ended = number + 1, self._now()
                await asyncio.sleep(0)  # whoever waits for the next turn waits for others, too
                turn = min(TURN, max(self._turn, SHARE * (self._now() - ended)))
        return b"".join(whole)

    def _take_turn(self, coming: Iterator[bytes], whole: list[bytes], turn: float) -> bool:
        """Add parts until the turn is over. Return whether there are no more."""
        begun = self._now()
        for part in coming:
            whole.append(part)
            if self._now() - begun >= turn:
                return False
        return True
