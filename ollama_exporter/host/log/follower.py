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
from ollama_exporter.host.log import journald, patterns
from ollama_exporter.host.log.lines import LineSplitter
from ollama_exporter.host.log.tail import CHUNK, LogTail
from ollama_exporter.reporter import Reporter

JOURNAL: Final = "journal"
DEFAULT_UNIT: Final = "ollama"
EVERY: Final = 0.5  # seconds between two reads of a file
FIRST_PAUSE: Final = 1.0  # seconds after a failure, doubled each time
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
        """Follow until cancelled. Log a failure once, and try again."""
        file = LogTail(Path(self._source))
        kind, _, unit = self._source.partition(":")
        while True:
            source = journald.follow(unit or DEFAULT_UNIT) if kind == JOURNAL else _chunks(file)
            try:
                async with aclosing(source) as chunks:
                    async for chunk in chunks:
                        self._on_success()
                        for line in self._lines.feed(chunk):
                            self._on_line(line)
            except (OSError, StartError) as err:
                self._on_failure(err)
            self._lines.reset()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _on_line(self, line: bytes) -> None:
        """Count a line and report what it says. Most lines are a runner's and are only counted."""
        if b"level=" not in line:
            self.counts["other"] += 1
            return
        read = patterns.read(line.decode(errors="replace"))
        level = "other" if read is None or read.level not in LEVELS else read.level
        self.counts[level] += 1
        fact = None if read is None else read.fact(self._timeline.now(), self._timeline.moment)
        if fact is not None:
            self._reporter.fact(fact)

    def _on_success(self) -> None:
        self._pause = FIRST_PAUSE
        if self._working is not True:
            self._working = True
            logger.info("Following log", extra={"source": self._source})

    def _on_failure(self, err: Exception) -> None:
        if self._working is not False:
            self._working = False
            values = {"source": self._source, "err": str(err)}
            logger.warning("Failed to follow log", extra=values)


async def _chunks(file: LogTail) -> AsyncGenerator[bytes, None]:
    """Yield what is appended to a file. Raises OSError."""
    try:
        while True:
            chunk = file.read()
            yield chunk
            await asyncio.sleep(0.0 if len(chunk) == CHUNK else EVERY)
    finally:
        file.close()
