# SPDX-License-Identifier: Apache-2.0
"""`advise`: which keep_alive would have been right for each model."""

import difflib
import json
from typing import Final

import click
from msgspec.structs import replace

from ollama_exporter.advice.exporter_source import (
    from_all_targets,
    from_exporter,
    from_target,
)
from ollama_exporter.advice.model_usage import UsageHistory
from ollama_exporter.advice.prometheus_source import HistoryQuery, from_prometheus, label, window
from ollama_exporter.advice.report import Finding, Report, report
from ollama_exporter.bounded_client import BoundedClient, Credentials
from ollama_exporter.cli.exporter_options import HERE, with_credentials
from ollama_exporter.cli.present.advice_table import curve, document, price_line, show
from ollama_exporter.cli.present.terminal import TerminalConsole, echo
from ollama_exporter.errors import ConfigError, SourceError
from ollama_exporter.protocol.model_names import match_key, normalise

ALL: Final = "all"
PRESETS: Final = {"latency": 0.5, "balanced": 2.0, "memory": 8.0, "free": 0.0}
HIGHEST_PRICE: Final = 1e6


@click.command(
    epilog="\b\nExamples:\n"
    "  ollama-exporter advise                       the exporter on this machine\n"
    "  ollama-exporter advise --explain mistral     what each value would have cost\n"
    "  ollama-exporter advise --target all          every server of a fleet\n"
    "  ollama-exporter advise --prometheus http://prometheus:9090 --by instance\n"
)
@click.argument("url", default=HERE, metavar="[URL]")
@click.option("--prometheus", metavar="URL", help="Read Prometheus (or Thanos, Mimir) instead.")
@click.option(
    "--window",
    "past",
    default="14d",
    show_default=True,
    metavar="DURATION",
    help="How far back to look in Prometheus.",
)
@click.option(
    "--target",
    metavar="NAME|all",
    help="Which server, if the exporter watches several: a name, or all, each on its own.",
)
@click.option(
    "--by",
    default="",
    metavar="LABEL",
    help="Advise for each value of this label, such as instance.",
)
@click.option(
    "--price",
    default="balanced",
    metavar="PRICE",
    show_default=True,
    help="What a GB-hour is worth in seconds of waiting: a number, or latency (0.5), balanced (2), "
    "memory (8), free (0). At 2, holding 8 GB idle for an hour costs as much as a wait of 16 s.",
)
@click.option("--explain", metavar="MODEL", help="Draw the cost of each keep_alive for this model.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@with_credentials("the exporter or Prometheus")
def command(
    url: str,
    *,
    prometheus: str | None,
    past: str,
    by: str,
    target: str | None,
    credentials: Credentials,
    price: str,
    explain: str | None,
    as_json: bool,
) -> None:
    """Show which keep_alive would have been right for each model, and why.

    Reads the counters of a running exporter (URL; default: the one of this machine), or the history
    that Prometheus has of a fleet. Exits with 1 if there is no history.
    """
    weight = _price(price)
    errors, client = TerminalConsole(stderr=True), BoundedClient(credentials)
    if prometheus is None:
        if by:
            raise ConfigError("by", by, "only together with --prometheus")
        with errors.status(f"Asking {url} …"):
            history = _asked(client, _url("URL", url), target)
    elif target is not None:
        raise ConfigError("target", target, "only without --prometheus; there, use --by instance")
    else:
        asking = HistoryQuery(window(past), label(by) if by else "")
        where = _url("prometheus", prometheus)
        with errors.status(f"Asking {where} …"):
            history = from_prometheus(client, where, asking)
    _print_advice(history, price=weight, explain=explain, as_json=as_json)


def _print_advice(
    history: UsageHistory, *, price: float, explain: str | None, as_json: bool
) -> None:
    """Print the advice on all models, or on one. Raises SourceError if there is none to give."""
    found = report(history, price=price)
    if not found.findings:
        raise SourceError(_nothing(history))
    chosen = _chosen(found, explain) if explain else None
    if as_json:
        echo(json.dumps(document(_only(found, chosen)), indent=2))
        return
    console = TerminalConsole()
    if chosen is None:
        for part in show(found, width=console.width):
            console.print(part)
        return
    for finding in chosen:
        for line in curve(finding, width=console.width):
            console.print(line, soft_wrap=True)
    console.print(price_line(found))


def _asked(client: BoundedClient, url: str, target: str | None) -> UsageHistory:
    if target is None:
        return from_exporter(client, url)
    return from_all_targets(client, url) if target == ALL else from_target(client, url, target)


def _price(text: str) -> float:
    """Accept a preset or a number. Raises ConfigError."""
    try:
        value = PRESETS[text] if text in PRESETS else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= HIGHEST_PRICE:
        words = ", ".join(PRESETS)
        accepted = f"accepted: seconds of waiting for a GB-hour from 0, or one of {words}"
        raise ConfigError("price", text, accepted)
    return value


def _url(name: str, text: str) -> str:
    written = text if "://" in text else f"http://{text}"
    if not written.startswith(("http://", "https://")) or any(c.isspace() for c in written):
        raise ConfigError(name, text, "accepted: http://HOST:PORT or https://…")
    return written


def _nothing(history: UsageHistory) -> str:
    return f"No model has been resident yet ({history.source}), so there is no advice."


def _chosen(found: Report, name: str) -> tuple[Finding, ...]:
    """Return what is known of a model, on each host. Raises ConfigError for an unknown one."""
    known = sorted({finding.model for finding in found.findings})
    by_lower = {each.lower(): each for each in known}
    model = by_lower.get(match_key(name))
    if model is None:
        close = difflib.get_close_matches(normalise(name), known, n=3, cutoff=0.7) or known[:20]
        raise ConfigError("explain", name, f"known models: {', '.join(close)}")
    return tuple(finding for finding in found.findings if finding.model == model)


def _only(found: Report, chosen: tuple[Finding, ...] | None) -> Report:
    return found if chosen is None else replace(found, findings=chosen)
