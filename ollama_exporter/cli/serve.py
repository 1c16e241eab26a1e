# SPDX-License-Identifier: Apache-2.0
"""`serve`: the exporter itself."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.schema import Settings
from ollama_exporter.log import setup
from ollama_exporter.metrics.collectors.exporter_collector import LogCounter
from ollama_exporter.runtime import serve


@click.command(
    epilog="\b\nExamples:\n"
    "  ollama-exporter                                      Ollama on this machine\n"
    "  ollama-exporter --ollama.url=http://gpu-box:11434    another machine\n"
    "\n\n"
    "Each flag is also a variable and a key of the file. A flag beats a variable, a variable beats "
    "the file."
)
@with_settings()
def command(**values: Any) -> None:  # noqa: ANN401 - the flags of the table
    """Poll an Ollama server and serve /metrics for Prometheus.

    It needs no configuration. It polls $OLLAMA_HOST (default 127.0.0.1:11434) and serves what is
    loaded, until when, what was unloaded and why, even while Ollama is down.
    """
    settings = settings_from(values)
    counter = LogCounter()
    setup(level=settings.log_level, as_json=settings.log_format == "json", counter=counter)
    with (
        suppress(KeyboardInterrupt),  # where the loop cannot handle signals
        asyncio.Runner(loop_factory=_loop_for(settings)) as runner,
    ):
        runner.run(serve(settings, reread=lambda: settings_from(values), log_lines=counter))


def _loop_for(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop if it is installed and worth its 2 MiB; None: asyncio's own.

    Relayed chunks and the polls of many servers take a third less CPU with it.
    """
    if not settings.proxy_addresses and not settings.has_fleet:
        return None
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop
