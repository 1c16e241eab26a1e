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


async def record_server(
    settings: Settings,
    writer: RecordingWriter,
    *,
    server: Target,
    stop: asyncio.Event,
    on_start: Callable[[], None],
    on_event: Callable[[Event], None],
) -> int:
    """Record until `stop` is set. Return the number of polls. Raises OSError of a full disk.

    `on_start` is called after the first poll.
    """
    failures: list[OSError] = []
    polls = 0

    def write(write_line: Callable[[], None]) -> None:
        try:
            write_line()
        except OSError as err:
            failures.append(err)
            stop.set()

    def on_poll(poll: Poll, answer: PsAnswer | None) -> None:
        nonlocal polls
        polls += 1
        if polls == 1:
            on_start()
        write(partial(_write_poll, writer, poll, answer))

    def on_fact(fact: Fact) -> None:
        if isinstance(fact, ProcessFact | LogSaid):
            write(partial(writer.write_fact, fact))
        poller.on_fact(fact)

    timeline, client = Timeline(), OllamaClient(server, timeout=settings.ollama_timeout)
    sinks = Sinks(
        on_poll=[on_poll],
        on_version=[lambda answered: write(partial(writer.write_fact, answered))],
        on_event=[on_event],
    )
    poller = Poller(
        client,
        Tracker(window=window_for(settings.poll_interval)),
        lambda: Cadence(settings.poll_interval, settings.poll_aligned),
        sinks,
        timeline=timeline,
        jitter=random.random,
        url=settings.ollama_url,
    )
    reporter = Reporter(fact=on_fact)
    machine = Machine(
        settings,
        client,
        reporter=reporter,
        timeline=timeline,
        up=poller.is_up,
        runners_at_work=lambda: runners_at_work(poller.published().view),
    )
    machine.on_slot_look.append(lambda look: write(partial(writer.write_look, look)))
    sinks.on_listing.append(machine.on_listing)
    sinks.on_installed.append(machine.on_installed)
    running = [asyncio.create_task(poller.run()), asyncio.create_task(machine.run())]
    await stop.wait()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await client.aclose()
    if failures:
        raise failures[0]
    return polls


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
