# SPDX-License-Identifier: Apache-2.0
"""Tells all readers of the page what changed. Each message is made once, for all of them.

Nothing is computed while nobody reads. A reader that does not keep up is dropped: its browser
connects again and asks for the whole status.
"""

import asyncio
import secrets
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from ollama_exporter.clock import Timeline
from ollama_exporter.reporter import Reporter
from ollama_exporter.story.differences import difference_of
from ollama_exporter.story.hidden_story import Hide, hidden_past, hidden_status
from ollama_exporter.story.history import History
from ollama_exporter.story.past import DAY, Past
from ollama_exporter.story.status import Status
from ollama_exporter.web.page.rendered import Rendered

HOUR: Final = 3600.0
SPANS: Final = (600.0, HOUR, 6 * HOUR, DAY)  # how far back: few, so that few are made
TICK: Final = 1.0  # seconds between two looks at what changed, unless an event calls for one
PAUSE: Final = 0.25  # seconds between two messages at least: events come in bursts
BEAT: Final = 10.0  # seconds without a change after which readers are told that all is well
MOST_READERS: Final = 100
MOST_BEHIND: Final = 32  # messages that a reader may be behind
MOST_REQUESTS: Final = 50  # told one by one in a message; the minutes count all
STILL_OPEN: Final = "still_open"  # in the state of a request: what a stream calls as it goes on
_ENCODER: Final = msgspec.json.Encoder()


class FeedReader:
    """The messages for one reader."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_BEHIND + 1)
        self.is_closed = False

    def put(self, message: bytes) -> bool:
        """Add a message. Return whether the reader keeps up."""
        if self._messages.qsize() < MOST_BEHIND:
            self._messages.put_nowait(message)
            return True
        return False

    def close(self) -> None:
        """End the stream after the messages that it has."""
        if not self.is_closed:
            self.is_closed = True
            self._messages.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return the next message; None: the stream ends."""
        return await self._messages.get()


class Teller(Protocol):
    """Tells the status of one server: a narrator."""

    def status(self, now: float, *, skew: float = 0.0) -> Status:
        """Return the status. `now`: the moment on the timeline; `skew`: see `Status`."""


class ReaderLimit:
    """Bounds the readers of all feeds of a process together: they hold connections."""

    def __init__(self, most: int = MOST_READERS) -> None:
        self.most, self.taken = most, 0


class LiveFeed:
    """One server's status for any number of readers."""

    def __init__(
        self,
        teller: Teller,
        history: History,
        timeline: Timeline,
        reporter: Reporter,
        *,
        tick: float = TICK,
        limit: ReaderLimit | None = None,
        hide: Hide | None = None,
    ) -> None:
        """`limit`: of all feeds together; one of its own if None. `hide`: of names; None: shown."""
        self._teller, self._history, self._timeline = teller, history, timeline
        self._reporter, self._tick, self._hide = reporter, tick, hide
        self._limit = limit or ReaderLimit()
        self._boot = secrets.token_hex(4)  # another one tells readers that all they have is old
        self._number = 0  # of the last message
        self._status: Status | None = None
        self._revision = 0  # of the history, as told
        self._documents: dict[float, Rendered] = {}
        self._made_at = 0.0
        self._readers: set[FeedReader] = set()
        self._running: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._told_at = 0.0
        self._is_closed = False

    @property
    def readers(self) -> int:
        """Number of readers now."""
        return len(self._readers)

    def status(self) -> Status:
        """Return the status of this moment."""
        now = self._timeline.now()
        status = self._teller.status(now, skew=self._timeline.wall(now) - now)
        return status if self._hide is None else hidden_status(status, self._hide)

    def on_event(self) -> None:
        """Send a message soon: something happened that readers wait for."""
        self._wake.set()

    def document(self, span: float = HOUR) -> Rendered:
        """Return the JSON of everything; `span`: how far back, seconds; one of SPANS, rounded up.

        For all who ask within PAUSE it is made once.
        """
        span = next((each for each in SPANS if each >= span), SPANS[-1])
        now = self._timeline.now()
        if now - self._made_at >= PAUSE or self._status is None:
            self._tell_changes()
            self._made_at = now
        if span not in self._documents:
            document = {
                "boot": self._boot,
                "number": self._number,
                "now": round(now, 3),
                "span": span,
                "status": self._status,
                "past": self._shown(self._history.past(since=now - span)),
            }
            self._documents[span] = Rendered(_ENCODER.encode(document))
        return self._documents[span]

    # -- readers ---------------------------------------------------------------------------------

    def join(self) -> FeedReader | None:
        """Return a new reader; None: there are too many, or the exporter shuts down."""
        if self._is_closed or self._limit.taken >= self._limit.most:
            return None
        if self._status is None:
            self._tell_changes()
        reader = FeedReader()
        self._readers.add(reader)
        self._limit.taken += 1
        hello = {"boot": self._boot, "number": self._number, "now": self._timeline.now()}
        reader.put(_event("hello", hello))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return reader

    def leave(self, reader: FeedReader) -> None:
        """Forget a reader. The last one ends the work."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._limit.taken -= 1
        reader.close()
        if not self._readers and self._running is not None:
            self._running.cancel()
            self._running = None

    def close(self) -> None:
        """End all streams: the exporter shuts down."""
        self._is_closed = True
        for reader in list(self._readers):
            self.leave(reader)

    async def _run(self) -> None:
        """Look for changes until the last reader leaves."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tick):
                    await self._wake.wait()
            self._wake.clear()
            try:
                self._tell_changes()
                if self._timeline.now() - self._told_at >= BEAT:
                    self._send("beat", {"number": self._number})
            except Exception:  # noqa: BLE001 - the page must not cost the exporter anything
                self._reporter.error_once("Page could not be told what changed")
            await asyncio.sleep(PAUSE)

    def _tell_changes(self) -> None:
        """Make the status anew; send what differs."""
        old, self._status = self._status, self.status()
        self._documents.clear()  # a reader that asks after a message must not get what was before
        changes = self._history.changes_after(self._revision)
        self._revision = self._history.revision
        if not self._readers or old is None:
            self._number += 1  # who reads later must not take what it has for what is told now
            return
        if changes is None:
            self._number += 2  # a gap: readers ask for everything
            self._send("beat", {"number": self._number})
            return
        message: dict[str, Any] = {}
        if status := difference_of(old, self._status):
            message["status"] = status
        if changes != Past():
            newest = changes.requests[-MOST_REQUESTS:]
            message["past"] = self._shown(msgspec.structs.replace(changes, requests=newest))
        if message:
            self._number += 1
            self._send("change", {"number": self._number, **message})

    def _shown(self, past: Past) -> Past:
        return past if self._hide is None else hidden_past(past, self._hide)

    def _send(self, kind: str, message: dict[str, Any]) -> None:
        self._told_at = self._timeline.now()
        text = _event(kind, {"now": round(self._told_at, 3), **message})
        for reader in list(self._readers):
            if not reader.put(text):
                self.leave(reader)


def _event(kind: str, message: object) -> bytes:
    """Return a server-sent event. JSON has no line ends."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _ENCODER.encode(message))
