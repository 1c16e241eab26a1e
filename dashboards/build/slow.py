# SPDX-License-Identifier: Apache-2.0
"""Why was it slow: what requests waited for, which were aborted, what is stuck now."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.charts import columns, heat
from dashboards.build.frame import dashboard
from dashboards.build.panels import (
    BYTES_PER_SECOND,
    NO_REQUESTS,
    PER_SECOND,
    SECONDS,
    Ask,
    Panel,
    Place,
    bars,
    lines,
)
from dashboards.build.promql import (
    buckets,
    events,
    quantile,
    rate,
    rounded,
    share,
    total,
)
from dashboards.build.slow_now import FIRST, in_flight, numbers, stuck, waiting

# Only answers of the native routes have the parts of a wait, and they have all or none.
WHOLE: Final = "ollama_request_unaccounted_seconds_count"
PARTS: Final = {
    "load": "ollama_request_load_wait_seconds_sum",
    "queue": "ollama_request_unaccounted_seconds_sum",
    "prompt": "ollama_request_prompt_eval_seconds_sum",
    "generation": "ollama_request_eval_seconds_sum",
}
TAKEN_APART: Final = (
    "Blue: waiting for the load. Purple: waiting for a slot, or for a client that reads slowly. "
    "Yellow: reading the prompt. Green: generating the answer."
)


def slow() -> model.Dashboard:
    """Build the dashboard."""
    return dashboard(
        "ollama-slow",
        "Where the time of requests went, in which phase clients left, and what is stuck now.",
        [
            ("", numbers()),
            ("Where the time goes", [_by_model(), _over_time()]),
            (
                "Time to first token, and between tokens",
                [_first_by_start(), _first_heat(), _speed()],
            ),
            ("Right now", [waiting(), stuck(), in_flight()]),
            ("Aborts and failures", [_aborted(), _outcomes(), _codes()]),
            ("Traffic", [_requests(), _bytes(), _log()]),
        ],
        marked=["Mean duration over time", "Age of the oldest wait"],
        runbooks={
            "Oldest wait": "OllamaLoadStuck",
            "Waiting for a load, by model": "OllamaLoadStuck",
            "Age of the oldest wait": "OllamaLoadStuck",
            "Time to first token, warm": "OllamaFirstTokenSlow",
            "Rejected: queue full": "OllamaQueueFull",
            "Aborted requests by phase": "OllamaLoadsAbandoned",
            "Failed requests by outcome": "OllamaCrashLoop",
        },
    )


def _by_model() -> Panel:
    whole = total(WHOLE, "model")
    asks = [
        Ask(rounded(share(total(metric, "model"), whole)), part, "table")
        for part, metric in PARTS.items()
    ]
    panel = columns(
        "Mean duration by model",
        f"The parts of an average request to each model in this time range. {TAKEN_APART} "
        "Good: almost only green.",
        asks,
        Place(10, 10),
        x="model",
        unit=SECONDS,
        stacked=True,
        horizontal=True,
        colours=palette.PARTS,
        empty=NO_REQUESTS,
    )
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {
                    "model": 0,
                    **{f"Value #{letter}": at for at, letter in enumerate("ABCD", start=1)},
                },
                "renameByName": {
                    f"Value #{letter}": part for letter, part in zip("ABCD", PARTS, strict=True)
                },
            },
        )
    )
    return panel


def _over_time() -> Panel:
    return lines(
        "Mean duration over time",
        f"The parts of an average request. {TAKEN_APART} Good: almost only green, and level.",
        [Ask(rounded(share(rate(metric), rate(WHOLE))), part) for part, metric in PARTS.items()],
        Place(14, 10),
        unit=SECONDS,
        stacked=True,
        colours=palette.PARTS,
        empty=NO_REQUESTS,
    )


def _first_by_start() -> Panel:
    asks = [
        Ask(quantile(0.95, FIRST, start="=cold"), "cold, 95th percentile"),
        Ask(quantile(0.5, FIRST, start="=cold"), "cold, median"),
        Ask(quantile(0.95, FIRST, start="=warm"), "warm, 95th percentile"),
        Ask(quantile(0.5, FIRST, start="=warm"), "warm, median"),
    ]
    return lines(
        "Time to first token, cold and warm",
        "Cold requests waited for a load, warm ones did not; logarithmic scale. Good: warm far "
        "below cold. Both high: loads are not the cause, look at the queue.",
        asks,
        Place(8),
        unit=SECONDS,
        logarithmic=True,
        colours={
            "cold, 95th percentile": "dark-blue",
            "cold, median": "light-blue",
            "warm, 95th percentile": "dark-orange",
            "warm, median": "light-orange",
        },
        empty=NO_REQUESTS,
    )


def _first_heat() -> Panel:
    return heat(
        "Time to first token",
        "All streamed requests; darker means more. Good: one dark band at the bottom. A second "
        "band above it: cold starts.",
        Ask(buckets(FIRST), "{{le}}", "heatmap"),
        Place(8),
        unit=SECONDS,
        scheme="Blues",
        empty=NO_REQUESTS,
    )


def _speed() -> Panel:
    metric = "ollama_request_time_per_output_token_seconds"
    return lines(
        "Time between tokens (95th percentile)",
        "Time between two tokens of an answer. Good: below 0.1 s, faster than people read. A "
        "jump: more parallel requests, or a model on the CPU.",
        [Ask(quantile(0.95, metric, "model"), "{{model}}")],
        Place(8),
        unit=SECONDS,
        empty=NO_REQUESTS,
    )


def _aborted() -> Panel:
    return bars(
        "Aborted requests by phase",
        "What clients were waiting for when they left: a load (waiting), the first byte "
        "(prefill), the rest (decode). Good: few. Many in waiting: the client's timeout is "
        "shorter than a load, and each retry starts the load again.",
        [Ask(events("ollama_requests_aborted_total", "phase"), "{{phase}}")],
        Place(8),
        colours=palette.PHASES,
        empty=NO_REQUESTS,
    )


def _outcomes() -> Panel:
    return bars(
        "Failed requests by outcome",
        "Requests that got no complete answer. Good: none, or a few clients that left. "
        "upstream_error, truncated: runners crash. queue_full: too many requests wait.",
        [Ask(events("ollama_request_failures_total", "outcome"), "{{outcome}}")],
        Place(8),
        colours=palette.OUTCOMES,
        empty=NO_REQUESTS,
    )


def _codes() -> Panel:
    return bars(
        "Error answers by status",
        "All answers but 200. Good: none. 404: the model is not installed. 499: the client left. "
        "503: the queue is full. Other 5xx: the server failed.",
        [Ask(events("ollama_requests_total", "code", code="!=200", model="=~.*"), "{{code}}")],
        Place(8),
        colours={"404": palette.GREY, "499": "purple", "500": "red", "503": "dark-orange"},
        empty=NO_REQUESTS,
    )


def _requests() -> Panel:
    return lines(
        "Requests by route",
        "Finished requests per second. Good: follows your workload.",
        [Ask(rate("ollama_requests_total", "route", model="=~.*"), "{{route}}")],
        Place(8),
        unit=PER_SECOND,
        stacked=True,
        empty=NO_REQUESTS,
    )


def _bytes() -> Panel:
    asks = [
        Ask(rate("ollama_request_bytes_total"), "sent by clients"),
        Ask(rate("ollama_response_bytes_total"), "sent to clients"),
    ]
    return lines(
        "Bytes of requests and answers",
        "Bodies of requests and answers. Good: follows your workload. A peak: an upload.",
        asks,
        Place(8),
        unit=BYTES_PER_SECOND,
        colours={
            "sent by clients": palette.PARTS["prompt"],
            "sent to clients": palette.PARTS["generation"],
        },
        empty=NO_REQUESTS,
    )


def _log() -> Panel:
    return bars(
        "Lines of the server's log",
        "Lines by level, if the exporter follows the log. Good: no errors. A burst of warnings "
        "shows a problem before users notice it.",
        [Ask(events("ollama_log_lines_total", "level"), "{{level}}")],
        Place(8),
        colours={"error": "red", "warn": "yellow", "info": palette.GREY, "debug": palette.FAINT},
        empty="no log is followed: set --ollama.log",
    )
