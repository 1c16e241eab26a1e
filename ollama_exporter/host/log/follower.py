# SPDX-License-Identifier: Apache-2.0
"""Follows the server's log, counts its lines and reports the known ones as facts.

It never logs or keeps a line, because a line of a runner may contain a prompt.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from ollama_exporter.clock import Timeline
from ollama_exporter.errors import StartError
from ollama_exporter.host.log import patterns
from ollama_exporter.host.log.container import PROGRAMS, follow_container
from ollama_exporter.host.log.flood import LineBudget, is_noise
from ollama_exporter.host.log.journald import follow_unit
from ollama_exporter.host.log.lines import LineSplitter
from ollama_exporter.host.log.tail import CHUNK, LogTail
from ollama_exporter.host.log.unwrap import LONGEST_WRAPPED, LineUnwrapper
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.facts import LogKind, LogSaid

JOURNAL: Final = "journal"
OF_USER: Final = "user-journal"
DEFAULT_UNIT: Final = "ollama"
EVERY: Final = 0.25  # seconds between two reads of a file
FIRST_PAUSE: Final = 1.0  # seconds after a failure, doubled each time
LONGEST_PAUSE: Final = 30.0
LEVELS: Final = ("debug", "info", "warn", "error", "other")
NOT_UNDERSTOOD: Final = 100  # lines in a row that look like a server's and cannot be read
LONGEST_LOAD: Final = 600.0  # seconds; the server itself gives up earlier
SLICE: Final = 64  # lines that are read without a pause: requests pass through the same loop
logger = logging.getLogger(__name__)


class LogFollower:
    """Follows one source: the path of a file, `journal[:UNIT]` or `docker:CONTAINER`."""

    def __init__(
        self,
        source: str,
        *,
        reporter: Reporter,
        timeline: Timeline,
        wanted: bool = True,
    ) -> None:
        """`wanted`: an operator named the source, so a failure is a warning."""
        self._source = source
        self._level = logging.WARNING if wanted else logging.INFO
        self._reporter, self._timeline = reporter, timeline
        self._lines, self._unwrapper = LineSplitter(LONGEST_WRAPPED), LineUnwrapper()
        self._file = LogTail(Path(source))
        self._working: bool | None = None
        self._last_read: float | None = None  # Unix seconds
        self._pause = FIRST_PAUSE
        self._unread = 0  # lines since the last one that was understood
        self._load_started: float | None = None
        self._has_failed = False
        self._budget, self._is_flooded = LineBudget(), False
        self.counts: Counter[str] = Counter(dict.fromkeys(LEVELS, 0))
        self.is_understood: bool | None = None  # None: no line of a server was seen yet

    @property
    def is_following(self) -> bool:
        """Whether the source can be read."""
        return self._working is True

    def is_loading(self) -> bool:
        """Return whether a load began, and its end is not logged yet."""
        started = self._load_started
        return started is not None and self._timeline.now() - started < LONGEST_LOAD

    async def run(self) -> None:
        """Follow until cancelled. Log a failure once, and try again."""
        try:
            while True:
                try:
                    await self._follow()
                except (OSError, StartError) as err:
                    self._on_failure(err)
                self._lines.reset()
                self._unwrapper.reset()
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
        finally:
            self._file.close()

    async def _follow(self) -> None:
        """Read what the source yields, to its end."""
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                self._on_success()
                await self._on_chunk(chunk)

    def _chunks(self) -> AsyncGenerator[bytes, None]:
        kind, _, name = self._source.partition(":")
        if kind == JOURNAL:
            return follow_unit(name or DEFAULT_UNIT)
        if kind == OF_USER:
            return follow_unit(name, of_user=True)
        if kind in PROGRAMS and name:
            return follow_container(kind, name, since=self._last_read)
        return _file_chunks(self._file)

    async def _on_chunk(self, chunk: bytes) -> None:
        """Read the lines that a chunk completes. Those within it are skipped if none can matter.

        The first line and the last one may have their other parts in the chunks beside it.
        """
        first, last = chunk.find(b"\n") + 1, chunk.rfind(b"\n") + 1
        await self._read(chunk[:first])
        within, now = chunk.count(b"\n", first), self._timeline.now()
        if is_noise(chunk[first:last]) and not self._unwrapper.is_in_line:
            self.counts["other"] += within
            await self._read(chunk[last:])
        elif self._budget.grant(within, now):
            await self._read(chunk[first:])
        else:
            self.counts["other"] += within
            self._unwrapper.reset()
            await self._read(chunk[last:])
        if self._is_flooded != self._budget.is_flooded(now):
            self._is_flooded = not self._is_flooded
            if self._is_flooded:
                logger.warning("Log floods: skipping lines", extra={"source": self._source})
            else:
                logger.info("Log is read in full again", extra={"source": self._source})

    async def _read(self, data: bytes) -> None:
        for number, line in enumerate(self._lines.feed(data), 1):
            self._on_line(line)
            if number % SLICE == 0:
                await asyncio.sleep(0.0)

    def _on_line(self, wrapped: bytes) -> None:
        """Count a line and report what it says. Most lines are a runner's and are only counted."""
        line = None
        try:
            text = self._unwrapper.feed(wrapped)
            if text is None:
                return
            line = self._line_of_server(text)
        except Exception as err:  # noqa: BLE001 - one odd line must not end the work
            self._on_error(err)
        self.counts["other" if line is None or line.level not in LEVELS else line.level] += 1
        fact = None if line is None else line.fact(self._timeline.now(), self._timeline.moment)
        if fact is not None:
            self._note_load(fact)
            self._reporter.fact(fact)

    def _line_of_server(self, text: bytes) -> patterns.LogLine | None:
        """Return a line that the server wrote; None: a runner did, or its form is unknown."""
        if b"level=" in text:
            line = patterns.read(text[: patterns.LONGEST_LINE].decode(errors="replace"))
            self._note_understood(line)
            return line
        if b'"msg"' in text and (b'"level"' in text or b'"severity"' in text):
            self._note_understood(None)  # of a format that is not read
        return None

    def _note_load(self, said: LogSaid) -> None:
        if said.kind is LogKind.LOAD_STARTED:
            self._load_started = said.at
        elif said.kind in (LogKind.LOAD_DONE, LogKind.LOAD_FAILED, LogKind.SERVER_STARTED):
            self._load_started = None

    def _note_understood(self, line: patterns.LogLine | None) -> None:
        values = {"source": self._source}
        if line is not None:
            if self.is_understood is False:
                logger.info("Log is understood again", extra=values)
            self._unread, self.is_understood = 0, True
            return
        self._unread += 1
        if self._unread >= NOT_UNDERSTOOD and self.is_understood is not False:
            self.is_understood = False
            logger.warning(
                "Log is not understood: its lines have an unknown form; see docs/local-evidence.md",
                extra=values,
            )

    def _on_error(self, err: Exception) -> None:
        """Count an internal error. Only its type is logged: its text may quote the line."""
        self._reporter.error()
        if not self._has_failed:
            self._has_failed = True
            logger.error("Failed to read a line of the log", extra={"err": type(err).__name__})

    def _on_success(self) -> None:
        self._pause = FIRST_PAUSE
        self._last_read = self._timeline.wall_now()
        if self._working is not True:
            self._working = True
            logger.info("Following log", extra={"source": self._source})

    def _on_failure(self, err: Exception) -> None:
        if self._working is not False:
            self._working = False
            values = {"source": self._source, "err": str(err)}
            logger.log(self._level, "Failed to follow log", extra=values)


async def _file_chunks(file: LogTail) -> AsyncGenerator[bytes, None]:
    """Yield what is appended to a file. Raises OSError."""
    while True:
        chunk = file.read()
        yield chunk
        await asyncio.sleep(0.0 if len(chunk) >= CHUNK else EVERY)
