# SPDX-License-Identifier: Apache-2.0
"""`record`: what the exporter sees, written to a file."""

import asyncio
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import StateError
from ollama_exporter.host.machine import Machine
from ollama_exporter.poller.poller import Poll, Poller, Sinks
from ollama_exporter.protocol.client import OllamaClient, PsAnswer
from ollama_exporter.recordings.write_recording import RecordingWriter
from ollama_exporter.reporter import Reporter
from ollama_exporter.residency.events import Event, Loaded, Unloaded
from ollama_exporter.residency.facts import Fact, LogSaid, PollFailed, ProcessFact
from ollama_exporter.residency.poll_schedule import Cadence
from ollama_exporter.residency.tracker import Tracker, window_for

FLAGS = (
    "ollama.url",
    "ollama.ca-file",
    "ollama.token-file",
    "ollama.timeout",
    "ollama.log",
    "collector.processes",
    "poll.interval",
    "poll.aligned",
)


@click.command(
    epilog="Example: ollama-exporter record --poll.interval=1s --duration=600 trace.jsonl.gz"
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--duration",
    type=click.FloatRange(min=1.0),
    metavar="SECONDS",
    help="End after so many seconds.  [default: at Ctrl-C]",
)
@with_settings(only=FLAGS)
def command(file: Path, duration: float | None, **values: Any) -> None:  # noqa: ANN401 - the table's
    """Write what the exporter sees to FILE (gzip when it ends in .gz), until Ctrl-C.

    The recording holds names, sizes and deadlines of models as /api/ps lists them, births and
    deaths of runners where they can be seen, and of the log what it is understood to say: no
    prompt, no credential, no line of the log itself. `replay` runs it through the tracker. A short
    interval sees more than the exporter would: `replay --interval 15` then shows what that would
    have made of it.
    """
    settings = settings_from(values)
    try:
        writer = RecordingWriter(file)
    except OSError as err:
        raise StateError(f"FILE: {str(file)!r} cannot be written: {err.strerror}") from err
    try:
        asyncio.run(_record(settings, writer, duration))
    except OSError as err:
        raise StateError(f"FILE: {str(file)!r} cannot be written: {err.strerror}") from err
    finally:
        with suppress(OSError):  # said above
            writer.close()


async def _record(settings: Settings, writer: RecordingWriter, duration: float | None) -> None:
    """Poll until Ctrl-C, SIGTERM, the duration, or a full disk."""
    ended = asyncio.Event()
    failure: list[OSError] = []
    polls = 0

    def write(write_line: Callable[[], None]) -> None:
        try:
            write_line()
        except OSError as err:
            failure.append(err)
            ended.set()

    def on_poll(poll: Poll, answer: PsAnswer | None) -> None:
        nonlocal polls
        polls += 1
        write(partial(_write_poll, writer, poll, answer))

    def on_fact(fact: Fact) -> None:
        if isinstance(fact, ProcessFact | LogSaid):
            write(partial(writer.write_fact, fact))
        poller.on_fact(fact)

    timeline, client = Timeline(), OllamaClient(settings.target, timeout=settings.ollama_timeout)
    sinks = Sinks(on_poll=[on_poll], on_event=[_say])
    poller = Poller(
        client,
        Tracker(window=window_for(settings.poll_interval)),
        lambda: Cadence(settings.poll_interval, settings.poll_aligned),
        sinks,
        timeline=timeline,
        jitter=random.random,
    )
    machine = Machine(
        settings,
        client,
        reporter=Reporter(fact=on_fact),
        timeline=timeline,
        up=poller.is_up,
    )
    sinks.on_listing.append(machine.on_listing)
    sinks.on_installed.append(machine.on_installed)
    click.echo(f"recording {settings.ollama_url}; Ctrl-C ends it", err=True)
    with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    running = [asyncio.create_task(poller.run()), asyncio.create_task(machine.run())]
    with suppress(TimeoutError):
        async with asyncio.timeout(duration):
            await ended.wait()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await client.aclose()
    click.echo(f"{polls} polls written", err=True)
    if failure:
        raise failure[0]


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


def _say(event: Event) -> None:
    if isinstance(event, Loaded):
        click.echo(f"loaded    {event.model.name}", err=True)
    elif isinstance(event, Unloaded):
        click.echo(f"unloaded  {event.model.name}  {event.reason}", err=True)
