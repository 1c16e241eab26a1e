# SPDX-License-Identifier: Apache-2.0
"""Memory against speed: what the exporter does by itself."""

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

NOT_TOLD: Final = "the exporter was not told to act"


def warm_ups() -> Panel:
    """Build the graph of loads by itself."""
    asks = [
        Ask(events("ollama_warmups_total"), "loaded"),
        Ask(events("ollama_warmup_failures_total"), "failed"),
        Ask(events("ollama_keep_alive_renewals_total", "by"), "keep-alive lifted by {{by}}"),
    ]
    return bars(
        "Warm-ups and renewals",
        "Loads that the exporter began by itself, and keep-alives that it lifted, where it was "
        "told to. Good: none fails; loads as often as something expected was missing.",
        asks,
        Place(6, 7),
        colours={"loaded": palette.GOOD, "failed": palette.BAD},
        empty=NOT_TOLD,
    )


def held_back() -> Panel:
    """Build the table of what is held back."""
    held = pick("ollama_warmup_held")
    return rows(
        "Expected, and not warmed: why",
        "Models that keep-warm should have loaded and does not, with its reason. Good: empty.",
        {"instance": "Server", "model": "Model", "why": "Why"},
        [
            Column(
                "Held",
                largest_of(held, "instance", "model", "why"),
                texts={"1": ("now", palette.WARN)},
                width=60,
            )
        ],
        Place(6, 7),
        hidden=(),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        empty="none",
    )


def changes() -> Panel:
    """Build the graph of changed requests."""
    asks = [
        Ask(events("ollama_request_changes_total", "change"), "{{change}}"),
        Ask(events("ollama_autopilot_changes_total"), "autopilot chose anew"),
    ]
    return bars(
        "Requests that the proxy changed",
        "What the defaults in the proxy set or capped, and how often the autopilot chose another "
        "keep-alive. Good: caps are rare; many are clients that want to pin models.",
        asks,
        Place(6, 7),
        empty=NOT_TOLD,
    )


def autopilot() -> Panel:
    """Build the graph of what the autopilot chose."""
    chosen = largest_of(f"({pick('ollama_autopilot_keep_alive_seconds')} < +Inf)", "model")
    return lines(
        "Keep-alive by the autopilot",
        "What it gives to requests that carry none; the scale is logarithmic. Good: steady for "
        "days.",
        [Ask(chosen, "{{model}}")],
        Place(6, 7),
        unit=SECONDS,
        stepped=True,
        logarithmic=True,
        empty=NOT_TOLD,
    )
