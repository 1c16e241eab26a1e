# SPDX-License-Identifier: Apache-2.0
"""Follows the server's log, counts its lines, and tells what the known ones say.

No line is ever logged or kept: a runner's may hold what people wrote.
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
from ollama_exporter.host.log import journald, patterns
from ollama_exporter.host.log.lines import LineSplitter
from ollama_exporter.host.log.tail import CHUNK, LogTail
from ollama_exporter.reporter import Reporter

JOURNAL: Final = "journal"
DEFAULT_UNIT: Final = "ollama"
EVERY: Final = 0.5  # seconds between two looks at a file
FIRST_PAUSE: Final = 1.0  # after a failure, doubled each time
LONGEST_PAUSE: Final = 30.0
LEVELS: Final = ("debug", "info", "warn", "error", "other")
logger = logging.getLogger(__name__)


class LogFollower:
    """Follows one source: the path of a file, or `journal[:UNIT]`."""

    def __init__(
        self,
        source: str,
        *,
        reporter: Reporter,
        timeline: Timeline,
    ) -> None:
        self._source = source
        self._reporter, self._timeline = reporter, timeline
        self._lines = LineSplitter(patterns.LONGEST_LINE)
        self._working: bool | None = None
        self._pause = FIRST_PAUSE
        self.counts: Counter[str] = Counter(dict.fromkeys(LEVELS, 0))

    async def run(self) -> None:
        """Follow until cancelled. What cannot be read is said once, and tried again."""
        file = LogTail(Path(self._source))
        kind, _, unit = self._source.partition(":")
        while True:
            source = journald.follow(unit or DEFAULT_UNIT) if kind == JOURNAL else _pieces(file)
            try:
                async with aclosing(source) as pieces:
                    async for piece in pieces:
                        self._works()
                        for line in self._lines.feed(piece):
                            self._take(line)
            except (OSError, StartError) as err:
                self._fails(err)
            self._lines.reset()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _take(self, line: bytes) -> None:
        """Count a line and tell what it says. Most are a runner's, and never looked into."""
        if b"level=" not in line:
            self.counts["other"] += 1
            return
        read = patterns.read(line.decode(errors="replace"))
        level = "other" if read is None or read.level not in LEVELS else read.level
        self.counts[level] += 1
        fact = None if read is None else read.fact(self._timeline.now(), self._timeline.moment)
        if fact is not None:
            self._reporter.fact(fact)

    def _works(self) -> None:
        self._pause = FIRST_PAUSE
        if self._working is not True:
            self._working = True
            logger.info("Log is followed", extra={"source": self._source})

    def _fails(self, err: Exception) -> None:
        if self._working is not False:
            self._working = False
            values = {"source": self._source, "err": str(err)}
            logger.warning("Log cannot be followed", extra=values)


async def _pieces(file: LogTail) -> AsyncGenerator[bytes, None]:
    """Yield what is appended to a file. Raises OSError."""
    try:
        while True:
            piece = file.read()
            yield piece
            await asyncio.sleep(0.0 if len(piece) == CHUNK else EVERY)
    finally:
        file.close()
