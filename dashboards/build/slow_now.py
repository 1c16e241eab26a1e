# SPDX-License-Identifier: Apache-2.0
"""Why was it slow, right now: numbers, waiting requests, stuck loads."""

from typing import Final

from dashboards.build import palette
from dashboards.build.frame import address
from dashboards.build.panels import (
    COUNT,
    NO_EXPORTER,
    NO_REQUESTS,
    SECONDS,
    SHARE,
    Ask,
    Panel,
    Place,
    lines,
    number,
    thresholds,
)
from dashboards.build.promql import (
    EACH,
    RANGE,
    largest_of,
    or_zero,
    pick,
    quantile,
    share,
    since,
    total,
    total_of,
)
from dashboards.build.tables import Column, rows

STUCK: Final = 120.0  # seconds; almost every load is shorter
FIRST: Final = "ollama_request_time_to_first_token_seconds"


def numbers() -> list[Panel]:
    """Build the first row."""
    place, oldest = Place(4, 4), since("ollama_request_oldest_wait_timestamp_seconds")
    return [
        number(
            "Waiting for a load",
            "Requests that wait for a model to load. Good: 0, or a few for less than a minute.",
            [Ask(or_zero(f"sum({pick('ollama_requests_waiting_for_load')})"), "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.WARN), (10, palette.BAD)),
            empty=NO_EXPORTER,
        ),
        number(
            "Oldest wait",
            "How long the oldest request has waited for a load. Good: less than a load takes. More "
            "than two minutes while no model loads: the scheduler is stuck.",
            [Ask(largest_of(oldest), "", "instant")],
            place,
            unit=SECONDS,
            empty="no waiting request seen",
            steps=thresholds(palette.GOOD, (60, palette.WARN), (STUCK, palette.BAD)),
        ),
        number(
            "Time to first token, warm",
            "19 of 20 requests that found the model in memory, in this time range, got their first "
            "token within this time. Good: below a second.",
            [Ask(quantile(0.95, FIRST, window=RANGE, start="=warm"), "", "instant")],
            place,
            unit=SECONDS,
            empty="no warm request seen",
        ),
        number(
            "Time to first token, cold",
            "19 of 20 requests that waited for a load, in this time range, got their first token "
            "within this time. Good: hardly longer than a load takes. Longer: loads wait for each "
            "other.",
            [Ask(quantile(0.95, FIRST, window=RANGE, start="=cold"), "", "instant")],
            place,
            unit=SECONDS,
            empty="no cold request seen",
        ),
        number(
            "Aborted by clients",
            "Share of the requests in this time range whose client left before the answer was "
            "complete. Good: below 1 %.",
            [
                Ask(
                    share(
                        total("ollama_requests_aborted_total"),
                        total("ollama_request_duration_seconds_count"),
                    ),
                    "",
                    "instant",
                )
            ],
            place,
            unit=SHARE,
            empty="no requests seen",
            decimals=1,
            steps=thresholds(palette.GOOD, (0.01, palette.WARN), (0.05, palette.BAD)),
        ),
        number(
            "Rejected: queue full",
            "Requests in this time range that the server rejected because its queue was full. "
            "Good: 0. OLLAMA_MAX_QUEUE sets its length.",
            [
                Ask(
                    f"round({total('ollama_request_failures_total', outcome='=queue_full')})",
                    "",
                    "instant",
                )
            ],
            place,
            unit=COUNT,
            empty="no requests seen",
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.BAD)),
        ),
    ]


def waiting() -> Panel:
    """Build the table of waiting requests."""
    oldest = largest_of(since("ollama_request_oldest_wait_timestamp_seconds"), *EACH)
    begun = largest_of(since("ollama_model_load_started_timestamp_seconds"), *EACH)
    return rows(
        "Waiting for a load, by model",
        "Waiting requests, how long the oldest has waited, how long the model has been loading, "
        "and how much of it is read (if the exporter runs beside Ollama). Good: empty. A wait that "
        "grows without a load: stuck, or queued behind another load.",
        {"instance": "Server", "model": "Model"},
        [
            Column(
                "Requests",
                f"{largest_of(pick('ollama_requests_waiting_for_load'), *EACH)} > 0",
                decimals=0,
            ),
            Column(
                "Oldest",
                oldest,
                SECONDS,
                decimals=0,
                steps=((None, palette.GOOD), (60, palette.WARN), (STUCK, palette.BAD)),
            ),
            Column("Loading for", begun, SECONDS, decimals=0),
            Column(
                "Loaded",
                largest_of(pick("ollama_model_load_progress_ratio"), *EACH),
                SHARE,
                decimals=0,
            ),
        ],
        Place(8),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="Oldest",
        empty="no waiting request seen",
    )


def stuck() -> Panel:
    """Build the graph of the oldest waits."""
    oldest = since("ollama_request_oldest_wait_timestamp_seconds")
    asks = [
        Ask(f"topk(5, {largest_of(oldest, 'instance')})", "{{instance}}"),
    ]
    return lines(
        "Age of the oldest wait",
        "How long the oldest request has waited for a load; the five worst servers. Good: short "
        "peaks. A straight ramp beyond the dashed line while no model loads: the scheduler is "
        "stuck, so stop the busy model or restart the server.",
        asks,
        Place(8),
        unit=SECONDS,
        limit=STUCK,
        empty="no waiting request seen",
    )


def in_flight() -> Panel:
    """Build the graph of requests in progress."""
    asks = [
        Ask(total_of(pick("ollama_requests_in_flight"), "route"), "{{route}}"),
    ]
    return lines(
        "Requests in progress",
        "Requests that the server is processing, by route. Good: returns to 0. A constant level: "
        "slow clients, or requests that hang.",
        asks,
        Place(8),
        unit=COUNT,
        stacked=True,
        empty=NO_REQUESTS,
    )
