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
from typing import Any, TextIO

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ollama_exporter.bounded_client import BoundedClient, Credentials
from ollama_exporter.cli.asked_exporter import PATIENCE, PATIENCE_ONCE, AskedExporter, Told
from ollama_exporter.cli.durations import at_least
from ollama_exporter.cli.ending_signals import on_ending_signal
from ollama_exporter.cli.exporter_options import HERE, with_credentials
from ollama_exporter.cli.present.board import BoardState, board, shown_models, table
from ollama_exporter.cli.present.board_keys import pressed, split_keys
from ollama_exporter.cli.present.fleet_board import fleet_board, fleet_table, shown_targets
from ollama_exporter.cli.present.key_reader import reading_keys
from ollama_exporter.cli.present.terminal import TerminalConsole, echo
from ollama_exporter.cli.settings_options import settings_from, with_settings
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import SourceError
from ollama_exporter.story.document import EMPTY
from ollama_exporter.story.fleet_document import FleetDocument


@dataclass(frozen=True, slots=True)
class Asked:
    """What the reader asked for."""

    url: str | None
    target: str | None
    interval: float  # seconds


Show = Callable[[AskedExporter, Asked], Awaitable[None]]


@click.command(epilog="Example: ollama-exporter top --url http://gpu-1:11487")
@click.option("--url", metavar="URL", help=f"A running exporter.  [default: {HERE}, or none]")
@click.option(
    "--target",
    metavar="NAME",
    help="One of several servers of that exporter.  [default: show a list]",
)
@click.option(
    "--interval",
    callback=at_least(0.2),
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="Refresh interval.",
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
    """Show what is in memory, until when, what was unloaded and why.

    Reads from the exporter at --url, by default the one on this machine. If there is none, or with
    --ollama.url, it polls the server and watches its processes itself; the history then begins at
    its start. Piped, it prints the models once, as tab-separated values.
    """
    settings = settings_from(values)
    if values["ollama_url"] and (url or target):
        raise click.UsageError("--ollama.url polls a server, --url reads an exporter: give one")
    is_terminal = _is_terminal(sys.stdout)
    show: Show = _print_board if is_terminal else _print_table
    if as_json:
        show = _print_json
    elif is_terminal and _is_terminal(sys.stdin) and not once:
        show = LiveBoard.show
    logging.basicConfig(level=logging.CRITICAL)  # lines of a log would tear the screen
    asked = Asked(url=url, target=target, interval=interval)
    patience = PATIENCE if show == LiveBoard.show else PATIENCE_ONCE
    client = BoundedClient(credentials, timeout=patience)
    with suppress(KeyboardInterrupt):
        source = _source(asked, client, settings, look_here=not values["ollama_url"])
        asyncio.run(_show(show, asked, source))


def _is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal. None: the shell has closed it."""
    return stream is not None and stream.isatty()


async def _show(
    show: Show, asked: Asked, source: AbstractAsyncContextManager[AskedExporter]
) -> None:
    async with source as found:
        await show(found, asked)


async def _print_json(source: AskedExporter, asked: Asked) -> None:
    body, _ = await source.ask(asked.target)
    echo(body.decode("utf-8", "replace"))


async def _print_table(source: AskedExporter, asked: Asked) -> None:
    _, told = await source.ask(asked.target)
    if isinstance(told, FleetDocument):
        lines = fleet_table(told, now=told.now)
    else:
        lines = table(told, now=told.now)
    for line in lines:
        echo(line)


async def _print_board(source: AskedExporter, asked: Asked) -> None:
    console = TerminalConsole()
    _, told = await source.ask(asked.target)
    state = BoardState(target=asked.target or "")
    lines = _drawn(told, state, console, told.now)[:-1]  # without the keys
    while not lines[-1].plain:
        lines.pop()
    for line in lines:
        console.print(line)


def _drawn(
    told: Told, state: BoardState, console: TerminalConsole, now: float, problem: str = ""
) -> list[Text]:
    if isinstance(told, FleetDocument):
        return fleet_board(
            told, state, now=now, width=console.width, height=console.height, problem=problem
        )
    return board(
        told,
        state,
        now=now,
        width=console.width,
        height=console.height,
        zone=datetime.now().astimezone().tzinfo or UTC,
        problem=problem,
    )


@asynccontextmanager
async def _source(
    asked: Asked, client: BoundedClient, settings: Settings, *, look_here: bool
) -> AsyncIterator[AskedExporter]:
    """Yield the exporter to ask: that of --url, the one that runs here, or one of our own."""
    url = asked.url
    if url is None and look_here:
        try:
            await AskedExporter(client, HERE).ask(asked.target)
            url = HERE
        except SourceError as err:
            if err.answered or asked.target:
                raise
    if url is not None:
        yield AskedExporter(client, url)
        return
    async with _own_exporter(settings) as base:
        exporter = AskedExporter(client, base)
        await _first_poll(exporter)
        yield exporter


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
        yield f"http://{listening.result()}"
    finally:
        stop.set()
        await asyncio.gather(exporter, return_exceptions=True)


async def _first_poll(exporter: AskedExporter) -> None:
    """Wait for the first poll, so that --once shows what it found. It ends within its timeout."""
    for _ in range(100):
        _, document = await exporter.ask_one("")
        if document.status.server.polled:
            return
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class LiveBoard:
    """The live view: draws the board after each look, each key and each change of the size."""

    source: AskedExporter
    interval: float
    state: BoardState
    told: Told = EMPTY
    told_at: float = 0.0  # on the monotonic clock
    problem: str = "waiting for the first answer"
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    look_now: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    @classmethod
    async def show(cls, source: AskedExporter, asked: Asked) -> None:
        """Show the board until the reader quits."""
        await cls(source, asked.interval, BoardState(target=asked.target or "")).run()

    async def run(self) -> None:
        """Draw until the reader quits."""
        console = TerminalConsole()
        with suppress(NotImplementedError, AttributeError):  # Windows has no SIGWINCH
            asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self.wake.set)
        on_ending_signal(self._quit)
        looking = asyncio.create_task(self._look())
        try:
            with (
                reading_keys(self._on_keys),
                Live(
                    console=console, screen=True, auto_refresh=False, redirect_stderr=False
                ) as live,
            ):
                while not self.is_over:
                    lines = _drawn(self.told, self.state, console, self._now(), self.problem)
                    live.update(Group(*lines), refresh=True)
                    self.wake.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):  # the countdown
                            await self.wake.wait()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def _now(self) -> float:
        """Return the moment on the exporter's clock, which may be another machine's."""
        return self.told.now + time.monotonic() - self.told_at if self.told.now else time.time()

    async def _look(self) -> None:
        while True:
            self.look_now.clear()
            asked = self.state
            try:
                told: Told
                if asked.opened:
                    _, told = await self.source.ask(asked.target or None)
                else:
                    _, told = await self.source.ask_all()
            except SourceError as err:
                self.problem = str(err)
            else:
                if _document_of(self.state) == _document_of(asked):
                    self._take(told)
            self.wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.interval):
                    await self.look_now.wait()

    def _take(self, told: Told) -> None:
        self.told, self.told_at, self.problem = told, time.monotonic(), ""
        if isinstance(told, FleetDocument) and self.state.opened:
            self.state = replace(self.state, view="targets", opened=False, is_fleet=True)
        elif self.state.target and not self.state.is_fleet:
            self.state = replace(self.state, is_fleet=True)

    def _on_keys(self, typed: str) -> None:
        for key in split_keys(typed):
            before = self.state
            after = pressed(before, key, self._names())
            if after is None:
                self._quit()
                return
            self.state = after
            if after.opened != before.opened:  # another document: the old one must not be drawn
                self.told = EMPTY if after.opened else FleetDocument(now=0.0)
                self.problem = "waiting for the answer"
                self.look_now.set()
        self.wake.set()

    def _names(self) -> list[str]:
        if isinstance(self.told, FleetDocument):
            return [target.name for target in shown_targets(self.told, self.state)]
        return [model.name for model in shown_models(self.told, self.state)]

    def _quit(self) -> None:
        self.is_over = True
        self.wake.set()


def _document_of(state: BoardState) -> str | None:
    """Return the server whose document is shown; None: the list of all."""
    return state.target if state.opened else None
