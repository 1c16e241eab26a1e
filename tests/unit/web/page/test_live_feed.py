# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
from typing import Any

from ollama_exporter.reporter import Reporter
from ollama_exporter.web.page.live_feed import (
    BEAT,
    MOST_BEHIND,
    MOST_READERS,
    FeedReader,
    LiveFeed,
)
from tests.support.storytelling import MadeUp, listing, resident, unloaded
from tests.support.timelines import GivenTimeline
from tests.support.virtual import now, run_virtually

A = "a:latest"


def read(message: bytes | None) -> tuple[str, dict[str, Any]]:
    assert message is not None
    kind, data = message.decode().removesuffix("\n\n").split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def next_of(reader: FeedReader) -> tuple[str, dict[str, Any]]:
    return read(await reader.next())


def made_up() -> MadeUp:
    return MadeUp(timeline=GivenTimeline(now))


def test_a_reader_gets_what_changed_and_the_document_has_the_same_number() -> None:
    async def main() -> None:
        made = made_up()
        feed = made.feed()
        reader = feed.join()
        assert reader is not None
        kind, hello = await next_of(reader)
        document = json.loads(feed.document().plain)
        assert (kind, hello["boot"]) == ("hello", document["boot"])
        made.published = listing(resident(A, 1.0))
        made.history.on_change((unloaded(A, since=0.0, at=1.0),), made.published, 2.0)
        feed.on_event()
        kind, change = await next_of(reader)
        assert (kind, change["number"]) == ("change", document["number"] + 1)
        assert [model["name"] for model in change["status"]["models"]] == [A]
        assert [event["text"] for event in change["past"]["events"]] == ["keep-alive ran out"]
        assert json.loads(feed.document().plain)["number"] == change["number"]
        feed.close()

    run_virtually(main())


def test_every_reader_gets_the_same_bytes() -> None:
    async def main() -> None:
        made = made_up()
        feed = made.feed()
        readers = [reader for _ in range(3) if (reader := feed.join()) is not None]
        for reader in readers:
            await reader.next()
        made.published = listing(resident(A, 1.0))
        first, *others = [await reader.next() for reader in readers]
        assert all(other is first for other in others)
        feed.close()

    run_virtually(main())


def test_silence_is_broken_by_a_beat() -> None:
    async def main() -> None:
        feed = made_up().feed()
        reader = feed.join()
        assert reader is not None
        _, hello = await next_of(reader)
        kind, beat = await next_of(reader)
        assert (kind, beat["number"]) == ("beat", hello["number"])
        assert beat["now"] - hello["now"] >= BEAT
        feed.close()

    run_virtually(main())


def test_a_slow_reader_is_dropped_and_the_others_are_not() -> None:
    async def main() -> None:
        made = made_up()
        feed = made.feed()
        slow, quick = feed.join(), feed.join()
        assert slow is not None
        assert quick is not None
        for n in range(MOST_BEHIND + 5):
            made.published = listing(resident(f"m{n}:latest", 1.0))
            feed.on_event()
            await quick.next()
        assert feed.readers == 1
        got = 0
        while await slow.next() is not None:
            got += 1
        assert got == MOST_BEHIND
        feed.close()

    run_virtually(main())


def test_readers_are_bounded_and_none_joins_after_the_end() -> None:
    async def main() -> None:
        feed = made_up().feed()
        readers = [feed.join() for _ in range(MOST_READERS + 1)]
        assert readers[-1] is None
        assert feed.readers == MOST_READERS
        first = readers[0]
        assert first is not None
        feed.leave(first)
        assert feed.join() is not None
        feed.close()
        assert (feed.readers, feed.join()) == (0, None)
        await first.next()
        assert await first.next() is None

    run_virtually(main())


def test_nothing_is_computed_while_nobody_reads() -> None:
    async def main() -> None:
        made = made_up()
        feed = made.feed()
        reader = feed.join()
        assert reader is not None
        await asyncio.sleep(10.0)
        busy = made.asked
        feed.leave(reader)
        feed.on_event()
        await asyncio.sleep(1000.0)
        assert (busy > 5, made.asked) == (True, busy)

    run_virtually(main())


def test_documents_of_one_moment_are_made_once_for_each_span() -> None:
    async def main() -> None:
        made = made_up()
        feed = made.feed()
        assert feed.document() is feed.document()
        assert feed.document(600.0) is not feed.document(3600.0)
        spans = [json.loads(feed.document(span).plain)["span"] for span in (-5.0, 3_601.0, 1e9)]
        assert spans == [600.0, 21_600.0, 86_400.0]
        await asyncio.sleep(1.0)
        before = feed.document()
        await asyncio.sleep(1.0)
        assert feed.document() is not before

    run_virtually(main())


def test_an_error_in_the_status_is_counted_and_the_stream_goes_on() -> None:
    async def main() -> None:
        made, errors = made_up(), list[None]()
        reporter = Reporter(error=lambda: errors.append(None))
        feed = LiveFeed(made.narrator(), made.history, made.timeline, reporter)
        reader = feed.join()
        assert reader is not None
        await reader.next()
        made.waiting = [object()]  # type: ignore[list-item]  # an internal error
        await asyncio.sleep(5.0)
        assert errors != []
        made.waiting = []
        made.published = listing(resident(A, 1.0))
        kind, _ = await next_of(reader)
        assert kind == "change"
        feed.close()

    run_virtually(main())
