# SPDX-License-Identifier: Apache-2.0
"""`measure`: cold against warm calls, and the keep_alive that follows."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from ollama_exporter.actions.measure.measure_model import (
    BusyError,
    Measurement,
    MeasurePlan,
    measure,
)
from ollama_exporter.actions.measure.summary import PARTS, MeasureRow, Spread, rows, verdict
from ollama_exporter.actions.warm.load_models import find_missing
from ollama_exporter.bounded_client import Credentials
from ollama_exporter.cli import exit_codes, server_options
from ollama_exporter.cli.durations import duration
from ollama_exporter.cli.exporter_options import HERE, with_credentials
from ollama_exporter.cli.present import quantities
from ollama_exporter.cli.present.terminal import TerminalConsole, echo
from ollama_exporter.errors import ConfigError, FailureReason, TargetError
from ollama_exporter.protocol.control_client import ControlClient

PROMPT: Final = "Explain in one paragraph why the sky is blue."
MAX_PROMPT_BYTES: Final = 1 << 20
# Headings that fit into 80 columns.
SHORT: Final = {"first_token": "first", "generation": "answer"}
HEADINGS: Final = ("call", "runs", *(SHORT.get(name, name) for name in PARTS), "tokens/s")


@click.command(epilog=exit_codes.CODES)
@click.argument("model")
@click.option(
    "--runs", default=5, show_default=True, type=click.IntRange(1, 1000), help="Warm calls."
)
@click.option(
    "--cold-runs",
    default=1,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Cold calls; each unloads the model first.",
)
@click.option(
    "--num-predict",
    default=64,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Tokens of each answer.",
)
@click.option("--num-ctx", type=click.IntRange(1), help="Context in tokens.  [default: unchanged]")
@click.option(
    "--prompt-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the prompt, in UTF-8.",
)
@click.option(
    "--every",
    default="6m",
    show_default=True,
    callback=duration,
    metavar="DURATION",
    help="How often you call the model; the recommended keep_alive depends on it.",
)
@click.option("--force", is_flag=True, help="Measure even if the server is busy.")
@click.option("--json", "form", flag_value="json", help="Print every call as JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print every call as CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print the table as Markdown.")
@click.option(
    "--exporter",
    default=HERE,
    show_default=True,
    metavar="URL",
    help="Exporter on this machine to notify, so that it does not count the unloads as unknown.",
)
@with_credentials("the exporter", prefix="exporter-")
@server_options.with_server()
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    prompt_file: Path | None,
    every: float,
    timeout: float,
    form: str | None,
    exporter: str,
    *,
    credentials: Credentials,
    **values: Any,  # noqa: ANN401 - fields of MeasurePlan, and settings
) -> None:
    """Measure how long calls of MODEL take, cold and warm, and the parts of each wait.

    Cold: the model is unloaded first. Warm: it is resident and the prompt is new. Cached: it is
    resident and the prompt is repeated. All calls use temperature 0, a fixed seed and the same
    prompts in every measurement. Afterwards the server's state is restored as far as possible.
    """
    plan = MeasurePlan(
        model,
        PROMPT if prompt_file is None else _read_prompt(prompt_file),
        values.pop("runs"),
        values.pop("cold_runs"),
        values.pop("num_predict"),
        timeout,
        values.pop("num_ctx"),
        values.pop("force"),
    )
    settings = server_options.server_settings(values)
    client = server_options.control_client(settings, exporter=exporter, credentials=credentials)
    with server_options.named_server(settings):
        code = server_options.run(_run(client, plan, every, form))
    ctx.exit(code)


def _read_prompt(file: Path) -> str:
    accepted = "a readable text in UTF-8, at most 1 MiB"
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_PROMPT_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeError) as err:
        raise ConfigError("--prompt-file", str(file), accepted) from err
    if not text.strip() or len(content) > MAX_PROMPT_BYTES:
        raise ConfigError("--prompt-file", str(file), accepted)
    return text


async def _run(client: ControlClient, plan: MeasurePlan, every: float, form: str | None) -> int:
    """Measure and print; print what went well also after an error or a signal."""
    measured = Measurement()
    try:
        missing = find_missing([plan.model], await client.tags())
        if missing:
            echo(missing[0].message, err=True)
            return exit_codes.MISSING
        with _steps() as on_step:
            await measure(client, plan, measured, on_step)
    except BusyError as err:
        echo(str(err), err=True)
        return exit_codes.BUSY
    except TargetError as err:
        if err.reason is not FailureReason.TIMEOUT:
            raise
        echo(str(err), err=True)
        return exit_codes.TIMEOUT
    finally:
        await client.aclose()
        _print(plan, measured, every, form)
    return exit_codes.OK


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """Show each step: one line that changes, or plain lines where there is no terminal."""
    console = TerminalConsole(stderr=True)
    if not console.is_terminal:
        yield lambda text: echo(text, err=True)
        return
    with console.status("") as status:
        yield status.update


def _print(plan: MeasurePlan, measured: Measurement, every: float, form: str | None) -> None:
    if measured.samples:
        _print_samples(plan, measured, every, form)
    for note in measured.notes:
        echo(f"note: {note}", err=form in ("json", "csv"))


def _print_samples(
    plan: MeasurePlan, measured: Measurement, every: float, form: str | None
) -> None:
    table, text = rows(measured.samples), verdict(measured.samples, every=every)
    match form:
        case "json":
            echo(json.dumps(_as_json(plan, measured, text), indent=2))
        case "csv":
            echo(_csv(measured), nl=False)
        case "markdown":
            echo("\n".join(_markdown(table)))
            echo(f"\n{text}")
        case _:
            TerminalConsole().print(_table(table))
            echo(text)
            if measured.size:
                share = quantities.gpu_share(measured.size, measured.size_vram)
                echo(
                    f"{quantities.memory(measured.size)}, {share} on the GPU, "
                    f"context {measured.context}. Seconds: medians and their spread."
                )


def _as_json(plan: MeasurePlan, measured: Measurement, text: str) -> dict[str, Any]:
    return {
        "model": plan.model,
        "num_predict": plan.num_predict,
        "size_bytes": measured.size,
        "vram_bytes": measured.size_vram,
        "context_tokens": measured.context,
        "calls": [asdict(sample) for sample in measured.samples],
        "summary": [asdict(row) for row in rows(measured.samples)],
        "verdict": text,
        "notes": measured.notes,
    }


def _csv(measured: Measurement) -> str:
    text = io.StringIO()
    fields = list(asdict(measured.samples[0]))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(sample) for sample in measured.samples)
    return text.getvalue()


def _cells(row: MeasureRow) -> list[str]:
    parts = [_spread(row.parts[name]) for name in PARTS]
    return [row.kind.value, str(row.runs), *parts, _spread(row.tokens_per_second)]


def _spread(value: Spread | None) -> str:
    if value is None:
        return "-"
    median = _number(value.median)
    if value.low == value.high:
        return median
    return f"{median} ({_number(value.low)} to {_number(value.high)})"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"


def _table(table: list[MeasureRow]) -> Table:
    """Return the table: medians, and below each the spread of its values."""
    drawn = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        drawn.add_column(heading, justify="left" if heading == "call" else "right", no_wrap=True)
    for row in table:
        spreads = [*(row.parts[name] for name in PARTS), row.tokens_per_second]
        medians = ["-" if each is None else _number(each.median) for each in spreads]
        drawn.add_row(row.kind.value, str(row.runs), *medians)
        if row.runs > 1:
            apart = ["-" if each is None else _number(each.high - each.low) for each in spreads]
            drawn.add_row("  spread", "", *apart, style="dim")
    return drawn


def _markdown(table: list[MeasureRow]) -> list[str]:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    return lines + ["| " + " | ".join(_cells(row)) + " |" for row in table]
