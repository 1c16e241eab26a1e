# SPDX-License-Identifier: Apache-2.0
"""`warm`: loads models before anybody waits for them."""

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ollama_exporter.actions.warm.load_estimates import earlier_loads, saved_loads
from ollama_exporter.actions.warm.load_models import (
    Missing,
    Warmed,
    WarmOutcome,
    WarmProgress,
    Wish,
    missing,
    wait_for_server,
    warm_up,
)
from ollama_exporter.cli import exit_codes, server_options
from ollama_exporter.config.mapping import keep_alive
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.state_file import StateFile

CODES: Final = {
    WarmOutcome.LOADED: exit_codes.OK,
    WarmOutcome.WARM: exit_codes.OK,
    WarmOutcome.FAILED: exit_codes.FAILED,
    WarmOutcome.NO_ROOM: exit_codes.NO_ROOM,
    WarmOutcome.TIMEOUT: exit_codes.TIMEOUT,
}
STEP: Final = 0.1  # seconds between two steps of a bar


@dataclass(frozen=True, slots=True)
class Output:
    """How it is told."""

    as_json: bool
    estimates: Callable[[], dict[str, float]]  # seconds of earlier loads, by name


class LineOutput(WarmProgress):
    """One line for each thing that happens: for logs."""

    def begins(self, name: str) -> None:
        """Say whose turn it is."""
        click.echo(f"{name}: looking, loading if need be", err=True)

    def ends(self, warmed: Warmed) -> None:
        """Say what became of it."""
        click.echo(sentence(warmed), err=True)


class Bars(WarmProgress):
    """A bar for each model: along the time of earlier loads if that is known."""

    def __init__(self, progress: Progress, estimates: dict[str, float]) -> None:
        self._progress, self._estimates = progress, estimates
        self._tasks: dict[str, tuple[Any, asyncio.Task[None]]] = {}

    def begins(self, name: str) -> None:
        """Begin a bar."""
        estimate = self._estimates.get(name)
        note = "" if estimate is None else f"about {estimate:.0f} s"
        bar = self._progress.add_task(name, total=estimate, note=note)
        self._tasks[name] = (bar, asyncio.get_running_loop().create_task(self._move(bar)))

    def ends(self, warmed: Warmed) -> None:
        """Fill it."""
        bar, moving = self._tasks.pop(warmed.name)
        moving.cancel()
        self._progress.update(bar, total=1, completed=1, note=warmed.outcome.value)

    async def _move(self, bar: Any) -> None:  # noqa: ANN401 - rich's own
        while True:
            await asyncio.sleep(STEP)
            self._progress.advance(bar, STEP)


@click.command(epilog=exit_codes.CODES)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--keep-alive",
    metavar="DURATION",
    help="10m, 1h30m, -1 for ever; one that is longer already stays.  [default: as it is]",
)
@click.option("--num-ctx", type=click.IntRange(1), help="Context of models that are not resident.")
@click.option(
    "--wait-for-server",
    is_flag=False,
    flag_value="5m",
    callback=server_options.duration,
    metavar="[DURATION]",
    help="Wait until the server answers, 5m unless a time is given.",
)
@click.option("--parallel", is_flag=True, help="Load all at the same time, against each other.")
@click.option("--shorten", is_flag=True, help="Let --keep-alive replace a longer one as well.")
@click.option(
    "--memory",
    callback=server_options.memory_size,
    metavar="SIZE",
    help="GPU memory of the server, which it does not tell: with it, what does not fit beside the "
    "others is not loaded.",
)
@click.option("--evict", is_flag=True, help="With --memory: load it all the same.")
@click.option(
    "--exporter",
    default="http://127.0.0.1:11487/metrics",
    show_default=True,
    metavar="URL",
    help="Metrics of an exporter that knows how long loads took.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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
    as_json: bool,
    **values: Any,  # noqa: ANN401 - the fields of Wish, and the flags of the table
) -> None:
    """Load MODELs one after another, and say how long it took, how large they are, until when.

    A model that is resident is not loaded again: its deadline is renewed with the context that it
    has. Fit for an ExecStartPost or an init container: plain lines where there is no terminal.
    """
    asked = values.pop("keep_alive")
    wish = Wish(
        keep_alive=None if asked is None else keep_alive("--keep-alive", asked),
        num_ctx=values.pop("num_ctx"),
        patience=timeout,
        parallel=values.pop("parallel"),
        even_shorter=values.pop("shorten"),
        memory=values.pop("memory"),
        evict=values.pop("evict"),
    )
    settings = server_options.server_of(values)
    names = list(dict.fromkeys(models))

    def estimates() -> dict[str, float]:
        file = settings.state_file
        saved = saved_loads(StateFile(file, url=settings.ollama_url), names) if file else {}
        return saved | earlier_loads(exporter, names)

    output = Output(as_json, estimates)
    client = server_options.client_of(settings)
    ctx.exit(asyncio.run(_run(client, names, wish, wait_for_server, output)))


async def _run(
    client: ControlClient, names: list[str], wish: Wish, wait: float | None, output: Output
) -> int:
    try:
        if wait is not None:
            await wait_for_server(client, wait)
        installed = await client.tags()
        absent: list[Missing] = missing(names, installed)
        for each in absent:
            click.echo(server_options.not_installed(each), err=True)
        if absent:
            return exit_codes.MISSING
        console = Console(stderr=True, highlight=False)
        if not console.is_terminal or output.as_json:
            results = await warm_up(client, names, wish, installed, LineOutput())
        else:
            estimates = await asyncio.to_thread(output.estimates)
            with _progress(console) as progress:
                watcher = Bars(progress, estimates)
                results = await warm_up(client, names, wish, installed, watcher)
    finally:
        await client.aclose()
    _print(results, as_json=output.as_json)
    return next((CODES[each.outcome] for each in results if CODES[each.outcome]), exit_codes.OK)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def sentence(warmed: Warmed) -> str:
    """Say in one line what became of a model."""
    said = f"{warmed.name}: {warmed.outcome.value}"
    if warmed.outcome is WarmOutcome.LOADED:
        said += f" in {warmed.seconds:.1f} s"
    if warmed.note:
        said += f", {warmed.note}"
    if warmed.gone:
        would = "would go at least" if warmed.outcome is WarmOutcome.NO_ROOM else "left for it"
        said += f"; {', '.join(warmed.gone)} {would}"
    return said


def _print(results: list[Warmed], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_fields(each) for each in results], indent=2))
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
            "" if model is None else server_options.gib(model.size),
            "" if model is None or not model.size else f"{model.size_vram / model.size:.0%}",
            "" if model is None or model.context is None else str(model.context),
            server_options.left(each.left),
        )
    Console(highlight=False).print(table)
    for each in results:
        if each.note or each.gone:
            click.echo(sentence(each))


def _fields(warmed: Warmed) -> dict[str, Any]:
    model, left = warmed.model, warmed.left
    return {
        "model": warmed.name,
        "outcome": warmed.outcome.value,
        "load_seconds": warmed.seconds if warmed.outcome is WarmOutcome.LOADED else None,
        "size_bytes": None if model is None else model.size,
        "vram_bytes": None if model is None else model.size_vram,
        "context_tokens": None if model is None else model.context,
        "expires_in_seconds": None if left is None or math.isinf(left) else left,
        "expires": None if left is None else not math.isinf(left),
        "gone": list(warmed.gone),
        "note": warmed.note,
    }
