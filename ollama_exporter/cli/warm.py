# SPDX-License-Identifier: Apache-2.0
"""`warm`: loads models before a request has to wait for them."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ollama_exporter.actions.warm.load_estimates import (
    earlier_loads,
    loads_in_progress,
    saved_loads,
)
from ollama_exporter.actions.warm.load_models import (
    WarmOptions,
    WarmOutcome,
    WarmProgress,
    WarmResult,
    find_missing,
    wait_for_server,
    warm_up,
)
from ollama_exporter.bounded_client import BoundedClient, Credentials
from ollama_exporter.cli import exit_codes, server_options
from ollama_exporter.cli.durations import duration
from ollama_exporter.cli.exporter_options import HERE, with_credentials
from ollama_exporter.cli.present import quantities
from ollama_exporter.cli.present.terminal import TerminalConsole, echo
from ollama_exporter.config import mapping, parsers
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.state_file import StateFile

CODES: Final = {
    WarmOutcome.LOADED: exit_codes.OK,
    WarmOutcome.WARM: exit_codes.OK,
    WarmOutcome.FAILED: exit_codes.FAILED,
    WarmOutcome.NO_ROOM: exit_codes.NO_ROOM,
    WarmOutcome.EVICTED: exit_codes.NO_ROOM,
    WarmOutcome.EXPIRED: exit_codes.FAILED,
    WarmOutcome.TIMEOUT: exit_codes.TIMEOUT,
}
WAIT: Final = "--wait-for-server"
DEFAULT_WAIT: Final = "5m"
EXPORTER_TIMEOUT: Final = 1.0  # seconds for an answer of the exporter; warm can do without
BAR_STEP: Final = 0.1  # seconds between two steps of a bar
SHARES_EVERY: Final = 1.0  # seconds between two questions to an exporter how far loads are


@dataclass(frozen=True, slots=True)
class Output:
    """How to print the results."""

    as_json: bool
    estimates: Callable[[], dict[str, float]]  # name -> seconds of earlier loads
    shares: Callable[[], dict[str, float] | None]  # name -> share of it that is loaded


class LineOutput(WarmProgress):
    """Prints one line for each start and end: for logs."""

    def on_start(self, name: str) -> None:
        """Print the model's name."""
        echo(f"{name}: checking", err=True)

    def on_end(self, result: WarmResult) -> None:
        """Print the result in a few words: the rest follows at the end."""
        echo(outcome_text(result), err=True)


class Bars(WarmProgress):
    """Draws a bar for each model.

    It shows the share that an exporter sees read (`shares`), else the time that passed, scaled by
    earlier loads where they are known.
    """

    def __init__(
        self,
        progress: Progress,
        estimates: dict[str, float],
        shares: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._progress, self._estimates, self._shares = progress, estimates, shares
        self._tasks: dict[str, tuple[Any, asyncio.Task[None]]] = {}

    def on_start(self, name: str) -> None:
        """Add a bar."""
        estimate = self._estimates.get(name)
        note = "" if estimate is None else f"about {estimate:.0f} s"
        bar = self._progress.add_task(name, total=estimate, note=note)
        self._tasks[name] = (bar, asyncio.get_running_loop().create_task(self._move(name, bar)))

    def on_end(self, result: WarmResult) -> None:
        """Fill the bar."""
        bar, moving = self._tasks.pop(result.name)
        moving.cancel()
        self._progress.update(bar, total=1, completed=1, note=result.outcome.value)

    async def _move(self, name: str, bar: Any) -> None:  # noqa: ANN401 - rich's own
        while True:
            await asyncio.sleep(BAR_STEP)
            share = self._shares.get(name)
            if share is None:
                self._progress.advance(bar, BAR_STEP)
            else:
                self._progress.update(bar, total=1, completed=share, note=f"{share:.0%} read")


async def follow_loads(
    ask: Callable[[], dict[str, float] | None], shares: dict[str, float]
) -> None:
    """Keep `shares` at what `ask` returns, once a second, until it returns None.

    A load that is no longer seen keeps its last share.
    """
    while (found := await asyncio.to_thread(ask)) is not None:
        shares.update(found)
        await asyncio.sleep(SHARES_EVERY)


class WarmCommand(click.Command):
    """Lets a model follow `--wait-for-server`, whose duration may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give the option its default duration unless one follows."""
        given = []
        for index, arg in enumerate(args):
            following = args[index + 1] if index + 1 < len(args) else ""
            alone = arg == WAIT and not following[:1].isdigit()
            given.append(f"{WAIT}={DEFAULT_WAIT}" if alone else arg)
        return super().parse_args(ctx, given)


@click.command(cls=WarmCommand, epilog=exit_codes.CODES)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--keep-alive",
    metavar="DURATION",
    help="10m, 1h30m, or -1 for forever. Never shortens one.  [default: unchanged]",
)
@click.option(
    "--num-ctx", type=click.IntRange(1), help="Context in tokens of models not yet resident."
)
@click.option(
    WAIT,
    is_flag=False,
    flag_value=DEFAULT_WAIT,
    callback=duration,
    metavar="[DURATION]",
    help="Wait until the server answers.  [default: 5m]",
)
@click.option("--parallel", is_flag=True, help="Load all models at the same time.")
@click.option("--shorten", is_flag=True, help="Let --keep-alive shorten a longer one.")
@click.option(
    "--memory",
    metavar="SIZE",
    help="GPU memory of the server, which Ollama's API does not report. A model that does not fit "
    "beside the resident ones is then not loaded.",
)
@click.option("--evict", is_flag=True, help="With --memory: load the model anyway.")
@click.option(
    "--exporter",
    default=f"{HERE}/metrics",
    show_default=True,
    metavar="URL",
    help="Metrics of an exporter: they give earlier load times and the progress of this load. An "
    "exporter on this machine is also notified of each load.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@with_credentials("the exporter", prefix="exporter-")
@server_options.with_server("state.file")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    timeout: float,
    wait_for_server: float | None,
    exporter: str,
    *,
    credentials: Credentials,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - fields of WarmOptions, and settings
) -> None:
    """Load MODELs one after another and print load time, size and deadline of each.

    A resident model is not reloaded: only its keep-alive is renewed. Without a terminal, as in
    ExecStartPost or an init container, the output is plain lines.
    """
    keep_alive, memory = values.pop("keep_alive"), values.pop("memory")
    if keep_alive is not None:
        keep_alive = mapping.positive_keep_alive("--keep-alive", keep_alive)
    wanted = WarmOptions(
        keep_alive=keep_alive,
        num_ctx=values.pop("num_ctx"),
        timeout=timeout,
        parallel=values.pop("parallel"),
        may_shorten=values.pop("shorten"),
        memory=None if memory is None else parsers.size("--memory", memory),
        evict=values.pop("evict"),
    )
    settings = server_options.server_settings(values)
    asking = BoundedClient(credentials, timeout=EXPORTER_TIMEOUT)
    names = list(dict.fromkeys(models))

    def estimates() -> dict[str, float]:
        file = settings.state_file
        saved = saved_loads(StateFile(file, url=settings.ollama_url), names) if file else {}
        return saved | earlier_loads(asking, exporter, names)

    output = Output(as_json, estimates, partial(loads_in_progress, asking, exporter, names))
    client = server_options.control_client(settings, exporter=exporter, credentials=credentials)
    with server_options.named_server(settings):
        code = server_options.run(_run(client, names, wanted, wait_for_server, output))
    ctx.exit(code)


async def _run(
    client: ControlClient,
    names: list[str],
    wanted: WarmOptions,
    wait: float | None,
    output: Output,
) -> int:
    try:
        if wait is not None:
            await wait_for_server(client, wait)
        installed = await client.tags()
        missing = find_missing(names, installed)
        for each in missing:
            echo(each.message, err=True)
        if missing:
            return exit_codes.MISSING
        console = TerminalConsole(stderr=True)
        if not console.is_terminal or console.is_dumb_terminal or output.as_json:
            results = await warm_up(client, names, wanted, installed, LineOutput())
        else:
            estimates = await asyncio.to_thread(output.estimates)
            shares: dict[str, float] = {}
            following = asyncio.create_task(follow_loads(output.shares, shares))
            with _progress(console) as progress:
                bars = Bars(progress, estimates, shares)
                results = await warm_up(client, names, wanted, installed, bars)
            following.cancel()
    finally:
        await client.aclose()
    _print(results, as_json=output.as_json)
    return next((CODES[each.outcome] for each in results if CODES[each.outcome]), exit_codes.OK)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )


def outcome_text(result: WarmResult) -> str:
    """Return the outcome for one model, without its reasons."""
    text = f"{result.name}: {result.outcome.value}"
    if result.outcome is WarmOutcome.LOADED:
        text += f" in {result.seconds:.1f} s"
    return text


def sentence(result: WarmResult) -> str:
    """Return the result for one model in one line."""
    text = outcome_text(result)
    if result.note:
        text += f", {result.note}"
    if result.evicted:
        would = "would go at least" if result.outcome is WarmOutcome.NO_ROOM else "left for it"
        text += f"; {', '.join(result.evicted)} {would}"
    return text


def _print(results: list[WarmResult], *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps([_fields(each) for each in results], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "state", "load", "size", "on GPU", "context", "expires in"):
        table.add_column(heading, no_wrap=heading == "model", overflow="fold")
    for each in results:
        model = each.model
        loaded = each.outcome is WarmOutcome.LOADED
        table.add_row(
            each.name,
            each.outcome.value,
            f"{each.seconds:.1f} s" if loaded else "",
            "" if model is None else quantities.memory(model.size),
            "" if model is None else quantities.gpu_share(model.size, model.size_vram),
            "" if model is None or model.context is None else str(model.context),
            _expires_in(each.left),
        )
    TerminalConsole().print(table)
    for each in results:
        if each.note or each.evicted:
            echo(sentence(each))


def _expires_in(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if math.isinf(seconds):
        return "never"
    return render(math.floor(seconds)) if seconds > 0 else "in use"


def _fields(result: WarmResult) -> dict[str, Any]:
    model, left = result.model, result.left
    return {
        "model": result.name,
        "outcome": result.outcome.value,
        "load_seconds": result.seconds if result.outcome is WarmOutcome.LOADED else None,
        "size_bytes": None if model is None else model.size,
        "vram_bytes": None if model is None else model.size_vram,
        "context_tokens": None if model is None else model.context,
        "expires_in_seconds": None if left is None or math.isinf(left) else left,
        "expires": None if left is None else not math.isinf(left),
        "gone": list(result.evicted),
        "note": result.note,
    }
