# SPDX-License-Identifier: Apache-2.0
"""Long scrapes on the event loop let others have their turn."""

import asyncio
import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.types import Message

from ollama_exporter.web.app import Parts, Scrapes
from ollama_exporter.web.in_turns import TURN, TURN_BESIDE_CHUNKS, Turns


class Clock:
    """Time passes only where work is done, however busy the machine is."""

    def __init__(self) -> None:
        self.moment = 0.0

    def now(self) -> float:
        return self.moment


class Work:
    """Three parts that take a turn each, or as many as are wanted. Each is noted."""

    def __init__(
        self,
        name: str,
        done: list[str],
        clock: Clock,
        *,
        turn: float = TURN,
        wanted: float = math.inf,
    ) -> None:
        self._name, self._done, self._clock = name, done, clock
        self._turn, self._wanted = turn, wanted

    def parts(self) -> Iterator[bytes]:
        for number in range(3):
            self._clock.moment += self._turn + 1e-9
            self._done.append(self._name)
            yield b"%d" % number

    async def is_wanted(self) -> bool:
        return self._done.count(self._name) < self._wanted


async def others(done: list[str], works: asyncio.Future[list[bytes | None]]) -> None:
    while not works.done():
        done.append("others")
        await asyncio.sleep(0)


@pytest.mark.parametrize("turn", [TURN, TURN_BESIDE_CHUNKS])
def test_others_have_their_turn_after_each_turn_of_however_many_works(turn: float) -> None:
    done, clock = list[str](), Clock()

    async def main() -> list[bytes | None]:
        turns = Turns(turn, now=clock.now)
        works = [Work(name, done, clock, turn=turn) for name in "abc"]
        together = asyncio.gather(*(turns.join(x.parts(), is_wanted=x.is_wanted) for x in works))
        await others(done, together)
        return await together

    assert asyncio.run(main()) == [b"012"] * 3
    assert sorted(set(done)) == ["a", "b", "c", "others"]
    assert all("others" in pair for pair in pairwise(done)), done
    assert [x for x in done if x != "others"] == ["a", "b", "c"] * 3  # nobody waits for long


@pytest.mark.parametrize(
    ("others_take", "parts_in_a_turn"),
    [(0.0, 1), (0.0004, 1), (0.002, 5), (0.004, 10), (1.0, 10)],
)
def test_a_turn_is_a_quarter_of_the_time_of_others_up_to_a_millisecond(
    others_take: float, parts_in_a_turn: int
) -> None:
    """A scrape beside a busy proxy ends in time."""
    clock, turns_taken = Clock(), 0

    async def there() -> bool:
        return True

    def parts() -> Iterator[bytes]:
        for _ in range(101):
            clock.moment += TURN_BESIDE_CHUNKS + 1e-9
            yield b"x"

    async def main() -> None:
        nonlocal turns_taken
        turns = Turns(TURN_BESIDE_CHUNKS, now=clock.now)
        work = asyncio.ensure_future(turns.join(parts(), is_wanted=there))
        while not work.done():
            await asyncio.sleep(0)
            turns_taken += 1
            clock.moment += others_take

    asyncio.run(main())
    assert turns_taken == pytest.approx(101 / parts_in_a_turn, abs=3)


def test_what_nobody_wants_any_more_is_left_and_holds_nobody_up() -> None:
    done, clock = list[str](), Clock()

    async def main() -> list[bytes | None]:
        turns = Turns(now=clock.now)
        works = [Work("left", done, clock, wanted=1), Work("other", done, clock)]
        return await asyncio.gather(*(turns.join(x.parts(), is_wanted=x.is_wanted) for x in works))

    assert asyncio.run(main()) == [None, b"012"]
    assert done == ["left", "other", "other", "other"]


def test_a_scrape_whose_client_has_left_collects_nothing() -> None:
    class Collected:
        times = 0

        def collect(self) -> Iterator[Metric]:
            self.times += 1
            yield Metric("some", "What it counts.", "gauge")

    async def left() -> Message:
        return {"type": "http.disconnect"}

    async def there() -> Message:
        return {"type": "http.request"}

    collector, registry = Collected(), CollectorRegistry(auto_describe=False)
    registry.register(collector)
    scrapes = Scrapes(Parts(feed=lambda _: None, telemetry_path="/metrics"))
    scope = {"type": "http", "headers": [], "query_string": b""}
    for receive, times in ((left, 0), (there, 1)):
        asyncio.run(scrapes.scrape(Request(scope, receive), registry))
        assert collector.times == times
