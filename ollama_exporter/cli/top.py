# SPDX-License-Identifier: Apache-2.0
"""`top`: what is in memory, until when, what left and why, in a terminal."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ollama_exporter.advice.bounded_request import BoundedClient, Credentials, printable
from ollama_exporter.cli.exporter_options import with_credentials
from ollama_exporter.cli.present.board import BoardState, board, shown_models, table
from ollama_exporter.cli.present.board_keys import pressed, split_keys
from ollama_exporter.cli.present.key_reader import reading_keys
from ollama_exporter.cli.present.terminal import TerminalConsole, echo
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.schema import WEB_PORT, Settings
from ollama_exporter.errors import HistoryError
from ollama_exporter.story.document import EMPTY, StatusDocument, read_document

HERE: Final = f"http://127.0.0.1:{WEB_PORT}"
PATH: Final = "/api/v1/status?seconds=3600"
PATIENCE: Final = 3.0  # seconds for an answer
HINT: Final = "; is an exporter running there? Without --url, top polls the server by itself"
Source = Callable[[], Awaitable[bytes]]
Show = Callable[[Source], Awaitable[None]]


@click.command(epilog="Example: ollama-exporter top --url http://gpu-1:11487")
@click.option("--url", metavar="URL", help=f"A running exporter.  [default: {HERE}, or none]")
@click.option("--target", metavar="NAME", help="One of the servers that --url watches.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option("--once", is_flag=True, help="Print the models once and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@with_credentials("the exporter of --url")
@with_settings(only=("ollama.url",))
def command(
    *,
    url: str | None,
    credentials: Credentials,
    target: str | None,
    interval: float,
    once: bool,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - the flags of the table
) -> None:
    """Show what is in memory, until when, what left and why.

    Asks the exporter of --url, or one that runs on this machine. If there is none, or if
    --ollama.url names a server, it polls the server and watches its processes by itself, and knows
    the past from then on only. Into a pipe it prints the models once, as tab-separated values.
    """
    settings = settings_from(values)
    if values["ollama_url"] and (url or target):
        raise click.UsageError("--ollama.url polls a server, --url asks an exporter: give one")
    is_terminal = sys.stdout.isatty()
    show: Show = _print_board if is_terminal else _print_table
    if as_json:
        show = _print_json
    elif is_terminal and sys.stdin.isatty() and not once:
        show = LiveBoard(interval=interval).run
    logging.basicConfig(level=logging.CRITICAL)  # lines of a log would tear the screen
    client = BoundedClient(credentials, timeout=PATIENCE)
    with suppress(KeyboardInterrupt):
        source = _source(url, client, target, settings, look_here=not values["ollama_url"])
        asyncio.run(_show(show, source))


async def _show(show: Show, source: AbstractAsyncContextManager[Source]) -> None:
    async with source as found:
        await show(found)


async def _print_json(source: Source) -> None:
    echo((await source()).decode("utf-8", "replace"))


async def _print_table(source: Source) -> None:
    for line in table(read_document(await source()), now=time.time()):
        echo(line)


async def _print_board(source: Source) -> None:
    console = TerminalConsole()
    document = read_document(await source())
    lines = _drawn(document, BoardState(), console)[:-1]  # without the keys
    while not lines[-1].plain:
        lines.pop()
    for line in lines:
        console.print(line)


def _drawn(
    document: StatusDocument, state: BoardState, console: TerminalConsole, problem: str = ""
) -> list[Text]:
    return board(
        document,
        state,
        now=time.time(),
        width=console.width,
        height=console.height,
        zone=datetime.now().astimezone().tzinfo or UTC,
        problem=problem,
    )


@asynccontextmanager
async def _source(
    url: str | None,
    client: BoundedClient,
    target: str | None,
    settings: Settings,
    *,
    look_here: bool,
) -> AsyncIterator[Source]:
    """Yield what asks the exporter: that of `url`, the one that runs here, or one of our own."""

    def ask(base: str) -> bytes:
        where = base.rstrip("/") + PATH + (f"&{urlencode({'target': target})}" if target else "")
        body = client.fetch("GET", where, hint=HINT)
        read_document(body, source=printable(base))
        return body

    if url is None and look_here:
        try:
            await asyncio.to_thread(ask, HERE)
            url = HERE
        except HistoryError as err:
            if err.answered or target:
                raise
    if url is not None:
        base = url
        yield lambda: asyncio.to_thread(ask, base)
        return
    async with _own_exporter(settings) as base:
        yield lambda: asyncio.to_thread(ask, base)


@asynccontextmanager
async def _own_exporter(settings: Settings) -> AsyncIterator[str]:
    """Run an exporter on a free port of loopback; yield its URL."""
    from ollama_exporter.runtime import Onlookers, run  # noqa: PLC0415 - half a second of imports

    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    onlookers = Onlookers(listening=lambda addresses: listening.set_result(addresses[0]))
    settings = replace(settings, listen_addresses=("127.0.0.1:0",), proxy_addresses=())
    exporter = asyncio.create_task(run(settings, stop=stop, onlookers=onlookers))
    try:
        await asyncio.wait([exporter, listening], return_when=asyncio.FIRST_COMPLETED)
        if exporter.done():
            exporter.result()
        base = f"http://{listening.result()}"
        await _first_poll(base)
        yield base
    finally:
        stop.set()
        await asyncio.gather(exporter, return_exceptions=True)


async def _first_poll(base: str) -> None:
    """Wait for the first poll, so that --once shows what it found. It ends within its timeout."""
    client = BoundedClient(timeout=PATIENCE)
    for _ in range(100):
        body = await asyncio.to_thread(client.fetch, "GET", base + PATH)
        if read_document(body).status.server.polled:
            return
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class LiveBoard:
    """The live view: draws the board after each look, each key and each change of the size."""

    interval: float
    state: BoardState = field(default_factory=BoardState)
    document: StatusDocument = EMPTY
    problem: str = "waiting for the first answer"
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    async def run(self, source: Source) -> None:
        """Show the board until the reader quits."""
        console = TerminalConsole()
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, AttributeError):  # Windows has no SIGWINCH
            loop.add_signal_handler(signal.SIGWINCH, self.wake.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, self._quit)
        looking = asyncio.create_task(self._look(source))
        try:
            with (
                reading_keys(self._on_keys),
                Live(
                    console=console, screen=True, auto_refresh=False, redirect_stderr=False
                ) as live,
            ):
                while not self.is_over:
                    lines = _drawn(self.document, self.state, console, self.problem)
                    live.update(Group(*lines), refresh=True)
                    self.wake.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.wake.wait(), 1.0)  # the countdown
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self, source: Source) -> None:
        while True:
            try:
                self.document, self.problem = read_document(await source()), ""
            except HistoryError as err:
                self.problem = str(err)
            self.wake.set()
            await asyncio.sleep(self.interval)

    def _on_keys(self, typed: str) -> None:
        for key in split_keys(typed):
            names = [model.name for model in shown_models(self.document, self.state)]
            after = pressed(self.state, key, names)
            if after is None:
                self._quit()
                return
            self.state = after
        self.wake.set()

    def _quit(self) -> None:
        self.is_over = True
        self.wake.set()
