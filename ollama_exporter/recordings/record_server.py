# SPDX-License-Identifier: Apache-2.0
"""Records one server: polls it as the exporter does and writes what polls and machine show."""

import asyncio
import random
from collections.abc import Callable
from functools import partial

from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import Target
from ollama_exporter.host.machine import Machine
from ollama_exporter.poller.poll_schedule import Cadence, window_for
from ollama_exporter.poller.poller import Poll, Poller, Sinks
from ollama_exporter.protocol.client import OllamaClient, PsAnswer
from ollama_exporter.recordings.write_recording import RecordingWriter
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Event
from ollama_exporter.residency.facts import Fact, LogSaid, PollFailed, ProcessFact
from ollama_exporter.residency.tracker import Tracker
from ollama_exporter.residency.view import runners_at_work


class ServerRecorder:
    """Writes what the polls of a server and its machine show, until `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        writer: RecordingWriter,
        *,
        server: Target,
        stop: asyncio.Event,
        on_start: Callable[[], None],
        on_event: Callable[[Event], None],
    ) -> None:
        """`on_start` is called after the first poll."""
        self._writer, self._stop, self._on_start = writer, stop, on_start
        self._polls = 0
        self._failure: OSError | None = None
        timeline = Timeline()
        self._client = OllamaClient(server, timeout=settings.ollama_timeout)
        sinks = Sinks(
            on_poll=[self._on_poll],
            on_version=[lambda answered: self._write(partial(writer.write_fact, answered))],
            on_event=[on_event],
        )
        self._poller = Poller(
            self._client,
            Tracker(window=window_for(settings.poll_interval)),
            lambda: Cadence(settings.poll_interval, settings.poll_aligned),
            sinks,
            timeline=timeline,
            jitter=random.random,
            url=settings.ollama_url,
        )
        self._machine = Machine(
            settings,
            self._client,
            reporter=Reporter(fact=self._on_machine_fact),
            timeline=timeline,
            up=self._poller.is_up,
            runners_at_work=lambda: runners_at_work(self._poller.published().view),
        )
        self._machine.on_slot_look.append(
            lambda look: self._write(partial(writer.write_look, look))
        )
        sinks.on_listing.append(self._machine.on_listing)
        sinks.on_installed.append(self._machine.on_installed)

    async def run(self) -> int:
        """Return the number of polls. Raises OSError of a full disk."""
        running = [asyncio.create_task(each.run()) for each in (self._poller, self._machine)]
        await self._stop.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.aclose()
        if self._failure is not None:
            raise self._failure
        return self._polls

    def _on_poll(self, poll: Poll, answer: PsAnswer | None) -> None:
        self._polls += 1
        if self._polls == 1:
            self._on_start()
        self._write(partial(_write_poll, self._writer, poll, answer))

    def _on_machine_fact(self, fact: Fact) -> None:
        if isinstance(fact, ProcessFact | LogSaid):
            self._write(partial(self._writer.write_fact, fact))
        self._poller.on_fact(fact)

    def _write(self, write_line: Callable[[], None]) -> None:
        try:
            write_line()
        except OSError as err:
            self._failure = self._failure or err
            self._stop.set()


def _write_poll(writer: RecordingWriter, poll: Poll, answer: PsAnswer | None) -> None:
    if isinstance(poll, PollFailed):
        writer.write_failed_poll(started=poll.started, ended=poll.ended, reason=poll.reason)
    elif answer is not None:
        writer.write_poll(
            started=poll.started,
            ended=poll.ended,
            body=answer.body,
            status=answer.status,
            date=answer.date_header,
            new_connection=answer.new_connection,
        )
