# SPDX-License-Identifier: Apache-2.0
"""`replay`: what the tracker makes of a recording."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ollama_exporter.cli.durations import at_least
from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.foreign_text import clean
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.replayer import PollUsed, replay
from ollama_exporter.recordings.server_log import read_server_log
from ollama_exporter.recordings.slot_summary import slot_summary
from ollama_exporter.residency.events import Event, Found, Loaded, Restarted, Unloaded

SHORTEST_INTERVAL = 0.1
SHOWN_AS_SECONDS = 0.05
FEW = 0.5  # share of used polls below which the reason is printed


@click.command(
    epilog="Example: ollama-exporter replay bug.jsonl.gz --without-requests --interval 60"
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--interval",
    callback=at_least(SHORTEST_INTERVAL),
    default="15s",
    show_default=True,
    metavar="DURATION",
    help="Base interval of the poll schedule.",
)
@click.option(
    "--aligned-polls/--no-aligned-polls",
    default=True,
    help="Poll around each known expiry as well (the default).",
)
@click.option("--without-requests", is_flag=True, help="Ignore requests.")
@click.option("--without-processes", is_flag=True, help="Ignore starts and exits of processes.")
@click.option(
    "--log",
    "log_file",
    metavar="LOGFILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Log of the server from the same time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(
    file: Path,
    *,
    interval: float,
    aligned_polls: bool,
    without_requests: bool,
    without_processes: bool,
    log_file: Path | None,
    as_json: bool,
) -> None:
    """Run a recording through the poll schedule and the tracker.

    `ollama-exporter record` writes FILE. The schedule decides which of the recorded polls are
    used, so one recording shows what any interval would have seen. Each load and unload is printed
    with its reason, its time bounds and the evidence. A summary of the slots of each model follows.

    LOGFILE is plain text or gzip. It may be a journal with other logs in it. At debug level it
    names every reason.
    """
    recording = read_recording(file)
    log = () if log_file is None else read_server_log(log_file)
    cadence = Cadence(interval=interval, aligned=aligned_polls)
    polls, reasons = 0, Counter[str]()
    for event in replay(
        recording,
        cadence,
        requests=not without_requests,
        processes=not without_processes,
        log=log,
        jittered=True,
    ):
        polls += isinstance(event, PollUsed)
        if isinstance(event, Unloaded):
            reasons[event.reason.value] += 1
        line = _json(event) if as_json else _text(event)
        if line is not None:
            echo(line)
    if not as_json:
        unloads = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        recorded = len(recording.polls)
        echo(f"{polls} of {recorded} polls used; unloads: {unloads or 'none'}")
        for slots in slot_summary(recording):
            echo(
                f"{clean(slots.model)}: {slots.looks} looks at its slots, busy for "
                f"{slots.busy_seconds:.1f} s, at least {slots.generated_tokens} tokens generated, "
                f"context at most {slots.fill:.0%} full"
            )
        if polls < FEW * recorded:
            echo(f"The schedule left most polls out: an --interval below {interval:g} uses more.")


def _json(event: Event | PollUsed) -> str | None:
    record: dict[str, Any]
    match event:
        case PollUsed():
            record = {"event": "poll", "t": event.t}
        case Loaded():
            record = {
                "event": "loaded",
                "model": event.model.name,
                "reason": None,
                **_bounds(event),
            }
            record["evidence"] = sorted(event.witnessed)
            record |= {"load_seconds": event.load_seconds, "measured": event.measured}
        case Unloaded():
            record = {"event": "unloaded", "model": event.model.name, "reason": event.reason.value}
            record |= _bounds(event) | {"evidence": list(event.evidence), "by": event.by}
            record["sure"] = event.sure
        case _:
            return None
    return json.dumps(record)


def _bounds(event: Loaded | Unloaded) -> dict[str, float]:
    return {
        "not_before": event.not_before,
        "not_after": event.not_after,
        "settled_at": event.settled_at,
    }


def _text(event: Event | PollUsed) -> str | None:
    match event:
        case Found():
            return f"{_clock(event.at)}  resident  {clean(event.model.name)}  at the first poll"
        case Loaded():
            return (
                f"{_clock(event.not_after)}  loaded    {clean(event.model.name)}  {_width(event)}"
            )
        case Restarted():
            return f"{_clock(event.not_after)}  server restarted"
        case Unloaded():
            by = f" by {clean(event.by)}" if event.by else ""
            evidence = "; ".join(event.evidence)
            return (
                f"{_clock(event.not_after)}  unloaded  {clean(event.model.name)}  "
                f"{event.reason}{by}  {_width(event)}  ({evidence}; "
                f"sure {event.sure:.2f})"
            )
        case _:
            return None


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _width(event: Loaded | Unloaded) -> str:
    width = event.not_after - event.not_before
    return f"within {width:.1f} s before" if width >= SHOWN_AS_SECONDS else "at that moment"
