# SPDX-License-Identifier: Apache-2.0
"""Memory versus speed, its last row: what the exporter does to servers."""

from typing import Final

from dashboards.build import palette
from dashboards.build.frame import address
from dashboards.build.panels import (
    SECONDS,
    Ask,
    Panel,
    Place,
    bars,
    lines,
)
from dashboards.build.promql import (
    events,
    largest_of,
    pick,
)
from dashboards.build.tables import Column, rows

NOT_ENABLED: Final = "not enabled in the configuration"


def warm_ups() -> Panel:
    """Build the graph of loads by keep-warm."""
    asks = [
        Ask(events("ollama_warmups_total"), "loaded"),
        Ask(events("ollama_warmup_failures_total"), "failed"),
        Ask(events("ollama_keep_alive_renewals_total", "by"), "keep-alive extended by {{by}}"),
    ]
    return bars(
        "Warm-ups and renewals",
        "Loads that the exporter started, and keep-alives that it extended, as configured. Good: "
        "few, and none fails.",
        asks,
        Place(6, 7),
        colours={"loaded": palette.GOOD, "failed": palette.BAD},
        empty=NOT_ENABLED,
    )


def held_back() -> Panel:
    """Build the table of what is held back."""
    held = pick("ollama_warmup_held")
    return rows(
        "Keep-warm on hold",
        "Models that keep-warm should load and does not load now, with the reason. Good: empty.",
        {"instance": "Server", "model": "Model", "why": "Why"},
        [
            Column(
                "On hold",
                largest_of(held, "instance", "model", "why"),
                texts={"1": ("now", palette.WARN)},
                width=60,
            )
        ],
        Place(6, 7),
        hidden=(),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        empty="nothing is on hold",
    )


def changes() -> Panel:
    """Build the graph of changed requests."""
    asks = [
        Ask(events("ollama_request_changes_total", "change"), "{{change}}"),
        Ask(events("ollama_autopilot_changes_total"), "changed by the autopilot"),
    ]
    return bars(
        "Requests changed by the proxy",
        "What the proxy's defaults set or capped, and how often the autopilot changed a "
        "keep-alive. Good: few caps. Many caps: clients try to keep models loaded.",
        asks,
        Place(6, 7),
        empty=NOT_ENABLED,
    )


def autopilot() -> Panel:
    """Build the graph of what the autopilot chose."""
    chosen = largest_of(f"({pick('ollama_autopilot_keep_alive_seconds')} < +Inf)", "model")
    return lines(
        "Keep-alive set by the autopilot",
        "The keep-alive for requests that carry none; logarithmic scale. Good: steady for days.",
        [Ask(chosen, "{{model}}")],
        Place(6, 7),
        unit=SECONDS,
        stepped=True,
        logarithmic=True,
        empty=NOT_ENABLED,
    )
