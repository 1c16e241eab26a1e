# SPDX-License-Identifier: Apache-2.0
"""Why was it slow: what requests waited for, who gave up, what is stuck right now."""

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
    share,
    total,
)
from dashboards.build.slow_now import FIRST, in_flight, numbers, stuck, waiting

# What takes a wait apart is said by answers of the native routes; these say all of it or nothing.
WHOLE: Final = "ollama_request_unaccounted_seconds_count"
PARTS: Final = {
    "load": "ollama_request_load_wait_seconds_sum",
    "queue": "ollama_request_unaccounted_seconds_sum",
    "prompt": "ollama_request_prompt_eval_seconds_sum",
    "generation": "ollama_request_eval_seconds_sum",
}
TAKEN_APART: Final = (
    "Blue: waiting for the model to load. Purple: for a free slot, templating, or a reader that "
    "is slow. Yellow: reading the prompt. Green: generating."
)


def slow() -> model.Dashboard:
    """Build it."""
    return dashboard(
        "ollama-slow",
        "Why was it slow: what each wait was made of, who gave up while waiting for what, what is "
        "stuck right now.",
        [
            ("", numbers()),
            ("What waits are made of", [_by_model(), _over_time()]),
            ("First tokens", [_first_by_start(), _first_heat(), _speed()]),
            ("Right now", [waiting(), stuck(), in_flight()]),
            ("Who gave up, what failed", [_aborted(), _outcomes(), _codes()]),
            ("What passes", [_requests(), _bytes(), _log()]),
        ],
        marked=["Mean wait over time", "Stuck scheduler"],
        runbooks={
            "Oldest wait": "OllamaLoadStuck",
            "Waiting for a load right now": "OllamaLoadStuck",
            "Stuck scheduler": "OllamaLoadStuck",
            "First token, warm": "OllamaFirstTokenSlow",
            "Turned away": "OllamaQueueFull",
            "Clients that gave up, by phase": "OllamaLoadsAbandoned",
            "Failures by outcome": "OllamaCrashLoop",
        },
    )


def _by_model() -> Panel:
    whole = total(WHOLE, "model")
    asks = [
        Ask(share(total(metric, "model"), whole), part, "table") for part, metric in PARTS.items()
    ]
    panel = columns(
        "Mean wait by model",
        f"What a request to each model was made of, on average in this time range. {TAKEN_APART} "
        "Good: green is all that one sees.",
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
        "Mean wait over time",
        f"What the average request was made of. {TAKEN_APART} Good: green and level.",
        [Ask(share(rate(metric), rate(WHOLE)), part) for part, metric in PARTS.items()],
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
        "Time to first token by start",
        "Cold waited for a load, warm did not. The scale is logarithmic. Good: warm far below "
        "cold. Both high: it is not the loads, look at the queue.",
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
        "All requests that were streamed. Good: one dark band at the bottom; a second band above "
        "it is the cold starts.",
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
        "How fast answers run once they run. Good: below 0.1 s, faster than one reads. A jump: "
        "more requests at once, or a model that fell back to the CPU.",
        [Ask(quantile(0.95, metric, "model"), "{{model}}")],
        Place(8),
        unit=SECONDS,
        empty=NO_REQUESTS,
    )


def _aborted() -> Panel:
    return bars(
        "Clients that gave up, by phase",
        "What they were waiting for when they left: a load (waiting), the first byte (prefill), "
        "the rest (decode). Good: few. Many waiting: their timeout is shorter than a load, and "
        "each retry begins it anew.",
        [Ask(events("ollama_requests_aborted_total", "phase"), "{{phase}}")],
        Place(8),
        colours=palette.PHASES,
        empty=NO_REQUESTS,
    )


def _outcomes() -> Panel:
    return bars(
        "Failures by outcome",
        "Requests that ended otherwise than with a full answer. Good: none but a few clients that "
        "left. upstream_error and truncated: runners die. queue_full: too many wait.",
        [Ask(events("ollama_request_failures_total", "outcome"), "{{outcome}}")],
        Place(8),
        colours=palette.OUTCOMES,
        empty=NO_REQUESTS,
    )


def _codes() -> Panel:
    return bars(
        "Answers other than 200, by status",
        "404: a model that is not installed. 499: the client left. 503: the queue is full. 5xx: "
        "the server fails. Good: none.",
        [Ask(events("ollama_requests_total", "code", code="!=200", model="=~.*"), "{{code}}")],
        Place(8),
        colours={"404": palette.GREY, "499": "purple", "500": "red", "503": "dark-orange"},
        empty=NO_REQUESTS,
    )


def _requests() -> Panel:
    return lines(
        "Requests by route",
        "Requests that ended. Good: as your work is.",
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
        "Bytes",
        "Bodies of requests and answers. Good: as your work is; a mountain is an upload.",
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
        "By level, where the exporter follows the log. Good: no errors; a burst of warnings shows "
        "that something is wrong before users do.",
        [Ask(events("ollama_log_lines_total", "level"), "{{level}}")],
        Place(8),
        colours={"error": "red", "warn": "yellow", "info": palette.GREY, "debug": palette.FAINT},
        empty="the log is followed where the exporter runs beside Ollama and is told its file",
    )
