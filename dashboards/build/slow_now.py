# SPDX-License-Identifier: Apache-2.0
"""Why was it slow, right now: numbers, waiting requests, stuck loads."""

from typing import Final

from dashboards.build import palette
from dashboards.build.frame import address
from dashboards.build.panels import (
    COUNT,
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
    total,
    total_of,
)
from dashboards.build.tables import Column, rows

STUCK: Final = 120.0  # seconds; almost every load is shorter
FIRST: Final = "ollama_request_time_to_first_token_seconds"


def numbers() -> list[Panel]:
    """Build the first row."""
    place, oldest = Place(4, 4), pick("ollama_request_oldest_wait_timestamp_seconds")
    return [
        number(
            "Waiting for a load",
            "Requests that wait for a model to load. Good: 0, or a few for less than a minute.",
            [Ask(or_zero(f"sum({pick('ollama_requests_waiting_for_load')})"), "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.WARN), (10, palette.BAD)),
        ),
        number(
            "Oldest wait",
            "Age of the oldest request that waits for a load. Good: less than a load takes. More "
            "than two minutes while no model loads: the scheduler is stuck.",
            [Ask(f"max(time() - {oldest})", "", "instant")],
            place,
            unit=SECONDS,
            empty="no request waits",
            steps=thresholds(palette.GOOD, (60, palette.WARN), (STUCK, palette.BAD)),
        ),
        number(
            "First token, warm",
            "95th percentile in this time range, of requests that found the model in memory. "
            "Good: below a second.",
            [Ask(quantile(0.95, FIRST, window=RANGE, start="=warm"), "", "instant")],
            place,
            unit=SECONDS,
            empty="no warm request",
        ),
        number(
            "First token, cold",
            "95th percentile in this time range, of requests that waited for a load. Good: as "
            "long as a load takes. Longer: loads wait for each other.",
            [Ask(quantile(0.95, FIRST, window=RANGE, start="=cold"), "", "instant")],
            place,
            unit=SECONDS,
            empty="no cold request",
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
            empty="no requests",
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
            empty=NO_REQUESTS,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.BAD)),
        ),
    ]


def waiting() -> Panel:
    """Build the table of waiting requests."""
    oldest = largest_of(f"time() - {pick('ollama_request_oldest_wait_timestamp_seconds')}", *EACH)
    begun = largest_of(f"time() - {pick('ollama_model_load_started_timestamp_seconds')}", *EACH)
    return rows(
        "Waiting for a load, by model",
        "Requests that wait, for how long the model has been loading and how much of it is read "
        "(seen if the exporter runs beside Ollama). Good: empty. A wait that grows without a load: "
        "stuck, or queued behind another load.",
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
                "Read",
                largest_of(pick("ollama_model_load_progress_ratio"), *EACH),
                SHARE,
                decimals=0,
            ),
        ],
        Place(8),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="Oldest",
        empty="no request waits",
    )


def stuck() -> Panel:
    """Build the graph of the oldest waits."""
    oldest = f"time() - {pick('ollama_request_oldest_wait_timestamp_seconds')}"
    asks = [
        Ask(f"topk(5, {largest_of(oldest, 'instance')})", "oldest wait on {{instance}}"),
    ]
    return lines(
        "Stuck scheduler",
        "Age of the oldest wait for a load, the five worst servers. Good: short saw teeth. A "
        "straight ramp beyond the dashed line while the server answers polls and no model loads "
        "means a stuck scheduler: stop the busy model or restart the server.",
        asks,
        Place(8),
        unit=SECONDS,
        limit=STUCK,
        empty="no request waited",
    )


def in_flight() -> Panel:
    """Build the graph of requests in progress."""
    asks = [
        Ask(total_of(pick("ollama_requests_in_flight"), "route"), "{{route}}"),
    ]
    return lines(
        "Requests in progress",
        "Requests in progress, by route. Good: goes down again. A level that stays: slow readers, "
        "or no answers.",
        asks,
        Place(8),
        unit=COUNT,
        stacked=True,
        empty=NO_REQUESTS,
    )
