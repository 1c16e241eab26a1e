# SPDX-License-Identifier: Apache-2.0
"""`record`: what the exporter sees, written to a file."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ollama_exporter.cli.chosen_target import chosen_target
from ollama_exporter.cli.durations import at_least
from ollama_exporter.cli.ending_signals import on_ending_signal
from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.cli.server_options import SERVER_SETTINGS
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.schema import Settings
from ollama_exporter.config.target import Target
from ollama_exporter.errors import StateError
from ollama_exporter.recordings.record_server import ServerRecorder
from ollama_exporter.recordings.write_recording import RecordingWriter
from ollama_exporter.residency.events import Event, Loaded, Unloaded

FLAGS = (
    *SERVER_SETTINGS,
    "ollama.log",
    "collector.processes",
    "collector.runner",
    "poll.interval",
    "poll.aligned",
)


@click.command(
    epilog="Example: ollama-exporter record --poll.interval=1s --duration=10m trace.jsonl.gz"
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--duration",
    callback=at_least(1.0),
    metavar="DURATION",
    help="Stop this long after the first poll.  [default: at Ctrl-C]",
)
@click.option("--target", metavar="NAME", help="Which server, if the configuration names several.")
@with_settings(only=FLAGS)
def command(file: Path, duration: float | None, target: str | None, **values: Any) -> None:  # noqa: ANN401 - the table's
    """Record what the exporter sees to FILE (gzip if it ends in .gz), until Ctrl-C.

    A recording holds names, sizes and deadlines of models (/api/ps), starts and exits of runners,
    the state of their slots, and the meaning of known log lines. It holds no prompt, no credential
    and no log line. `replay` runs it through the tracker. Record at a short interval: `replay
    --interval 15` then shows what the exporter sees with its default.
    """
    settings = settings_from(values)
    chosen, server = chosen_target(settings, target), settings.target
    if chosen is not None:
        settings, server = settings.of_target(chosen), chosen.target
        settings = replace(settings, ollama_log="off")  # a target is on another machine
    try:
        writer = RecordingWriter(file)
    except OSError as err:
        raise StateError(f"FILE: {str(file)!r} cannot be written: {err.strerror}") from err
    try:
        asyncio.run(_record(settings, server, writer, duration))
    except OSError as err:
        raise StateError(f"FILE: {str(file)!r} cannot be written: {err.strerror}") from err
    finally:
        with suppress(OSError):  # reported above
            writer.close()


async def _record(
    settings: Settings, server: Target, writer: RecordingWriter, duration: float | None
) -> None:
    """Record until a signal, the end of the duration, or a full disk."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    on_ending_signal(stop.set)

    def on_start() -> None:
        echo(f"recording {settings.ollama_url}; Ctrl-C ends it", err=True)
        if duration is not None:  # from here on: a short recording has its first poll too
            loop.call_later(duration, stop.set)

    recorder = ServerRecorder(
        settings,
        writer,
        server=server,
        stop=stop,
        on_start=on_start,
        on_event=_print_event,
    )
    polls = await recorder.run()
    echo(f"{polls} poll{'' if polls == 1 else 's'} written", err=True)


def _print_event(event: Event) -> None:
    if isinstance(event, Loaded):
        echo(f"loaded    {event.model.name}", err=True)
    elif isinstance(event, Unloaded):
        echo(f"unloaded  {event.model.name}  {event.reason}", err=True)
