# SPDX-License-Identifier: Apache-2.0
"""Shows advice: a table, or a block for each model on narrow terminals; a cost curve; JSON.

Words and letters carry the meaning; colour only repeats it.
"""

import json
import math
import shlex
from collections.abc import Iterator
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ollama_exporter.advice.keep_alive_advice import GB, Advice, Confidence, CostOutcome
from ollama_exporter.advice.report import Finding, Report
from ollama_exporter.protocol.keepalive import as_number, compact, literal

WIDE: Final = 110  # columns from which on there is a table
HEADINGS: Final = (
    *("requests", "gaps", "cold starts", "estimated", "idle GB-hours", "load", "now", "advised"),
)
ESTIMATED: Final = (
    "Cold starts are counted, whatever caused them. The estimate compares the current keep_alive "
    "with the advised one over the observed idle gaps."
)
CURVE: Final = 34  # columns of the longest bar
BEYOND: Final = 3.0  # times the cheapest: what costs more is cut off
MINUTE: Final = 60.0
HOUR: Final = 3600.0
SURE: Final = {Confidence.MEASURED: "green", Confidence.PROVISIONAL: "yellow"}


def show(report: Report, *, width: int) -> Iterator[RenderableType]:
    """Yield the whole report."""
    yield Text(f"From {report.history.source}.", "dim")
    yield from brief(report, width=width)
    yield from _overriding(report)
    for warning in report.warnings:
        yield Text.assemble(("Note: ", "yellow"), warning)
    yield price_line(report)
    yield from _applying(report)


def brief(report: Report, *, width: int) -> Iterator[RenderableType]:
    """Yield the values and the verdicts only."""
    yield table(report) if width >= WIDE else blocks(report)
    yield Text(ESTIMATED, "dim")
    for group, verdict in report.verdicts:
        where = f"On {group}: " if group else "Overall: "
        yield Text.assemble((where, "bold"), verdict)


def price_line(report: Report) -> Text:
    """Return the price, explained by an example."""
    price = report.price
    return Text(
        f"Price: a GB held for an hour costs as much as {price:g} s of waiting, so an idle hour of "
        f"an 8 GB model costs {8 * price:g} s (--price).",
        "dim",
    )


def table(report: Report) -> Table:
    """Return the table."""
    grouped = any(f.record.group for f in report.findings)
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    drawn.add_column("model", overflow="fold")
    if grouped:
        drawn.add_column("host", overflow="fold")
    for heading in HEADINGS:
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("based on")
    for f in report.findings:
        drawn.add_row(
            Text(f.model),  # not a string: Rich reads markup in those
            *([Text(f.record.group)] if grouped else []),
            "not seen" if f.requests is None else f"{f.requests:.0f}",
            str(f.advice.samples),
            _counted(f),
            _change(f.now.cold_starts, f.then.cold_starts, 0),
            _change(f.now.idle_gb_hours, f.then.idle_gb_hours, 1),
            _load(f),
            _in_force(f),
            Text(literal(f.advice.keep_alive), "bold"),
            _sure(f),
        )
    return drawn


def blocks(report: Report) -> Text:
    """Return a block for each model."""
    text = Text()
    for f in report.findings:
        text.append(f"{f.title}\n", "bold")
        text.append("  advised  ").append(literal(f.advice.keep_alive), "bold")
        text.append(f", now {_in_force(f)}\n  based on ").append_text(_sure(f))
        requests = "not seen" if f.requests is None else f"{f.requests:.0f}"
        text.append(f"\n  requests {requests}, idle gaps {f.advice.samples}, load {_load(f)}\n")
        change = _change(f.now.cold_starts, f.then.cold_starts, 0)
        text.append(f"  cold starts {_counted(f)}, estimated {change}\n")
        text.append(
            f"  idle     {_change(f.now.idle_gb_hours, f.then.idle_gb_hours, 1)} GB-hours\n"
        )
    return text


def curve(finding: Finding, *, width: int) -> Iterator[Text]:
    """Yield the lines that show what each keep_alive would have cost."""
    advice, load = finding.advice, finding.inputs.load_seconds
    gaps = "1 idle gap" if advice.samples == 1 else f"{advice.samples} idle gaps"
    yield Text(
        f"{finding.title}: {gaps}, load {_load(finding)}, "
        f"{finding.inputs.memory_bytes / GB:.1f} GB, break-even after {_time(advice.break_even)}"
    )
    if not advice.samples:
        yield Text("No idle gap has been observed yet: the advice is the break-even time.")
        return
    columns = max(10, min(CURVE, width - 46))
    cheapest = min(outcome.cost for outcome in advice.outcomes)
    longest = max(1e-9, min(max(o.cost for o in advice.outcomes), BEYOND * cheapest))
    header = f"{'keep_alive':>10} {'cost':<{columns}}  {'cold':>6} {'GB-hours':>9}"
    yield Text(header, "dim")
    for outcome in advice.outcomes:
        line = Text(f"{compact(outcome.keep_alive):>10} ")
        line.append_text(_bar(outcome, load, longest, columns))
        line.append(f"  {outcome.cold_starts:6.0f} {outcome.idle_gb_hours:9.1f}")
        marks = _marks(advice, outcome, finding.in_force)
        yield line.append(f"  {marks}" if marks else "", "bold")
    cut = f"; > more than {longest:.3g} s" if any(o.cost > longest for o in advice.outcomes) else ""
    yield Text(f"Cost in seconds of waiting: W for loads, M for memory{cut}.", "dim")
    why = "decided by the gaps" if advice.by_data else "nearest to the break-even time"
    yield Text.assemble(f"Advised: {literal(advice.keep_alive)} ({why}; ", _sure(finding), ").")


def _bar(outcome: CostOutcome, load: float, longest: float, columns: int) -> Text:
    waiting = outcome.cold_starts * load
    whole = round(min(1.0, outcome.cost / longest) * columns)
    first = min(whole, round(min(1.0, waiting / longest) * columns))
    bar = Text("W" * first, "red").append("M" * (whole - first), "blue")
    if outcome.cost > longest * (1 + 1e-9):
        bar = bar[:-1].append(">", "bold")
    bar.append(" " * (columns - len(bar)))
    return bar


def _marks(advice: Advice, outcome: CostOutcome, in_force: float) -> str:
    marks = []
    if outcome.keep_alive == advice.keep_alive:
        marks.append("advised")
    elif math.isclose(outcome.cost, advice.advised.cost, rel_tol=1e-9, abs_tol=1e-9):
        marks.append("costs the same")
    if outcome.keep_alive == in_force:
        marks.append("now")
    return "<- " + ", ".join(marks) if marks else ""


def _overriding(report: Report) -> Iterator[Text]:
    for f in report.findings:
        if f.own_share:
            classes = {k: v for k, v in f.record.keep_alives.items() if v and k != "absent"}
            own = ", ".join(f"{name} {count:.0f}" for name, count in sorted(classes.items()))
            yield Text(
                f"{f.title}: {100 * f.own_share:.0f} % of requests carry their own "
                f"keep_alive ({own}). It overrides OLLAMA_KEEP_ALIVE until the model is unloaded."
            )


def _applying(report: Report) -> Iterator[Text]:
    best = report.best
    if best is None or not best.model.isprintable():
        return
    value, model = literal(best.advice.keep_alive), json.dumps(best.model, ensure_ascii=False)
    flag = "-1s" if value == "-1" else compact(best.advice.keep_alive)  # the flag needs a unit
    yield Text("To apply, for example:", "bold")
    for where, how in (
        ("a request", f'{{"model": {model}, "keep_alive": {value}, …}}'),
        ("ollama-python", f"client.chat(model={model}, keep_alive={value}, …)"),
        ("ollama-js", f"ollama.chat({{ model: {model}, keep_alive: {value}, … }})"),
        ("LangChain", f"ChatOllama(model={model}, keep_alive={value})"),
        ("ollama run", f"ollama run --keepalive {flag} {shlex.quote(best.model)}"),
        ("the server", f"OLLAMA_KEEP_ALIVE={compact(report.for_all)}, one value for all models"),
        (
            "the proxy",
            f"defaults: {{{model}: {{keep-alive: {compact(best.advice.keep_alive)}}}}}",
        ),
    ):
        yield Text(f"  {where:<15}{how}")
    yield Text("Requests to /v1 cannot carry a keep_alive: for them only the last two work.", "dim")


def _sure(finding: Finding) -> Text:
    advice = finding.advice
    text = Text(advice.confidence.value, SURE.get(advice.confidence, "dim"))
    if finding.changes and advice.samples:
        text.append(", a clear saving" if finding.sure else ", may be chance")
    return text


def _counted(finding: Finding) -> str:
    return "not counted" if finding.cold_starts is None else f"{finding.cold_starts:.0f}"


def _change(now: float, then: float, digits: int) -> str:
    return f"{now:.{digits}f} -> {then:.{digits}f}"


def _load(finding: Finding) -> str:
    guessed = "" if finding.record.load_is_measured else "~"
    return f"{guessed}{finding.inputs.load_seconds:.1f} s"


def _in_force(finding: Finding) -> str:
    text = compact(finding.in_force)
    return text if finding.in_force_known else f"{text}?"


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "any time"
    return compact(float(round(seconds / MINUTE) * MINUTE if seconds >= HOUR else round(seconds)))


# -- for programs ----------------------------------------------------------------------------------


def document(report: Report) -> dict[str, Any]:
    """Return the document of `--json`; -1 seconds means never."""
    return {
        "source": report.history.source,
        "span_seconds": report.history.span,
        "price_seconds_per_gb_hour": report.price,
        "verdicts": [{"group": group, "verdict": text} for group, text in report.verdicts],
        "keep_alive_for_all": compact(report.for_all),
        "warnings": list(report.warnings),
        "models": [_entry(finding) for finding in report.findings],
    }


def _entry(f: Finding) -> dict[str, Any]:
    return {
        "model": f.model,
        "group": f.record.group,
        "keep_alive": compact(f.advice.keep_alive),
        "keep_alive_seconds": as_number(f.advice.keep_alive),
        "confidence": f.advice.confidence.value,
        "decided_by": "gaps" if f.advice.by_data else "break-even",
        "gaps": f.advice.samples,
        "gaps_from_requests": f.record.seen,
        "requests": f.requests,
        "cold_starts_counted": f.cold_starts,
        "requests_with_own_keep_alive": f.own_share,
        "load_seconds": f.inputs.load_seconds,
        "load_measured": f.record.load_is_measured,
        "memory_bytes": f.inputs.memory_bytes,
        "break_even_seconds": as_number(f.advice.break_even),
        "now": _outcome(f.now) | {"known": f.in_force_known},
        "advised": _outcome(f.then),
        "saves_surely": f.sure,
        "candidates": [_outcome(outcome) for outcome in f.advice.outcomes],
    }


def _outcome(outcome: CostOutcome) -> dict[str, Any]:
    return {
        "keep_alive_seconds": as_number(outcome.keep_alive),
        "cold_starts": round(outcome.cold_starts, 3),
        "idle_gb_hours": round(outcome.idle_gb_hours, 4),
        "cost_seconds": round(outcome.cost, 3),
    }
