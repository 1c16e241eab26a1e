# SPDX-License-Identifier: Apache-2.0
"""Overview: which servers are up, what is loaded where, what it costs, what went wrong."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.frame import address, dashboard
from dashboards.build.overview_fleet import (
    REQUESTS,
    ZERO_IS_GOOD,
    memory,
    numbers,
    resident,
    servers,
)
from dashboards.build.panels import (
    COUNT,
    MOMENT,
    NO_EXPORTER,
    NO_MODEL,
    NO_REQUESTS,
    PER_SECOND,
    SECONDS,
    Ask,
    Panel,
    Place,
    bars,
    lines,
    neutral,
    number,
    ranking,
    thresholds,
)
from dashboards.build.promql import (
    RANGE,
    UNEXPECTED,
    events,
    largest_of,
    pick,
    quantile,
    rate,
    total,
)
from dashboards.build.tables import Column, rows
from ollama_exporter.residency.events import Reason

MANY: Final = 15  # rows of a ranking


def overview() -> model.Dashboard:
    """Build the dashboard."""
    return dashboard(
        "ollama-overview",
        "A fleet at a glance: which servers are up, what is loaded where, what cold starts cost, "
        "which models left memory unexpectedly.",
        [
            ("", numbers()),
            ("Servers and models", [servers(), resident(), memory()]),
            ("Cost of cold starts", [_cold_starts(), _traffic(), _slowest()]),
            ("What went wrong", [_unloads(), _latest(), _failures(), _restarts()]),
            ("Exporters", _exporter()),
        ],
        marked=["Memory by model"],
        runbooks={
            "Servers answering": "OllamaDown",
            "Loaded models": "OllamaExpectedModelAbsent",
            "Cold starts": "OllamaColdStartShareHigh",
            "Unexpected unloads": "OllamaUnexpectedUnload",
            "Latest unexpected unloads": "OllamaUnexpectedUnload",
            "Slowest time to first token (95th percentile)": "OllamaFirstTokenSlow",
            "Restarts and failed polls": "OllamaRestarting",
            "Exporter errors": "OllamaExporterRecorderErrors",
            "State of the exporters": "OllamaExporterReloadFailed",
        },
    )


def _cold_starts() -> Panel:
    return bars(
        "Cold starts by model",
        "Requests that waited for a load. Good: one per model in the morning, few later. Many for "
        "one model: its keep-alive is too short, or other models evict it.",
        [Ask(events("ollama_cold_starts_total", "model"), "{{model}}")],
        Place(8),
        empty=NO_REQUESTS,
    )


def _traffic() -> Panel:
    asks = [
        Ask(rate(REQUESTS, "start"), "{{start}}"),
    ]
    return lines(
        "Cold and warm requests",
        "Finished requests: cold ones waited for a load, warm ones did not. Good: cold is a thin "
        "line.",
        asks,
        Place(8),
        unit=PER_SECOND,
        stacked=True,
        colours=palette.STARTS,
        empty=NO_REQUESTS,
    )


def _slowest() -> Panel:
    first = quantile(
        0.95, "ollama_request_time_to_first_token_seconds", "model", "instance", window=RANGE
    )
    return ranking(
        "Slowest time to first token (95th percentile)",
        "19 of 20 requests in this time range got their first token within this time; the slowest "
        "models and servers. Good: below your objective, 10 s by default.",
        [Ask(f"sort_desc(topk({MANY}, {first} >= 0))", "{{model}} on {{instance}}", "instant")],
        Place(8),
        unit=SECONDS,
        steps=thresholds(palette.GOOD, (5, palette.WARN), (10, palette.BAD)),
        empty=NO_REQUESTS,
    )


def _unloads() -> Panel:
    return bars(
        "Unloads by reason",
        "All unloads. Good: only grey, which is an expired keep-alive or a stop.",
        [Ask(events("ollama_model_unloads_total", "reason"), "{{reason}}")],
        Place(10),
        colours=palette.REASONS,
        empty=NO_MODEL,
    )


def _latest() -> Panel:
    labels = ("instance", "model", "reason")
    reasons = f"=~{UNEXPECTED}"
    moments = pick("ollama_model_last_unload_timestamp_seconds", reason=reasons)
    early = pick("ollama_model_last_unload_early_seconds", reason=reasons)
    times = total("ollama_model_unloads_total", *labels, reason=reasons)
    return rows(
        "Latest unexpected unloads",
        "The last unload of each model for each reason, how long before its deadline (never: it "
        "had none), and how often in this time range. Good: empty, or long ago. Memory versus "
        "speed shows which model evicted it.",
        {"instance": "Server", "model": "Model", "reason": "Reason"},
        [
            Column("When", f"1000 * {largest_of(moments, *labels)}", MOMENT),
            Column(
                "Early by",
                largest_of(early, *labels),
                SECONDS,
                decimals=0,
                never=True,
                width=100,
            ),
            Column(
                "Times",
                f"round({times}) and on (instance, model, reason) {moments}",
                decimals=0,
                width=80,
            ),
        ],
        Place(14),
        hidden=(),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="When",
        empty="no unexpected unload",
    )


def _failures() -> Panel:
    return bars(
        "Failed requests by outcome",
        "Requests that got no complete answer. Good: none, or a few clients that left.",
        [Ask(events("ollama_request_failures_total", "outcome"), "{{outcome}}")],
        Place(12, 7),
        colours=palette.OUTCOMES,
        empty=NO_REQUESTS,
    )


def _restarts() -> Panel:
    asks = [
        Ask(events("ollama_restarts_total"), "server restarted"),
        Ask(events("ollama_poll_failures_total", "reason"), "poll failed: {{reason}}"),
    ]
    return bars(
        "Restarts and failed polls",
        "Restarts of servers, and polls that got no usable answer. Good: none. Timeouts: the "
        "server hangs. Refused: it is down.",
        asks,
        Place(12, 7),
        colours={
            "server restarted": palette.REASONS[Reason.SERVER_RESTARTED],
            "poll failed: refused": palette.GREY,
            "poll failed: timeout": "dark-orange",
        },
        empty=NO_EXPORTER,
    )


def _exporter() -> list[Panel]:
    place = Place(6, 7)
    polls = f"max by (instance) ({pick('ollama_poll_duration_seconds')})"
    scrapes = f"max by (instance) ({pick('ollama_scrape_duration_seconds')})"
    return [
        lines(
            "Slowest polls and scrapes",
            "The three slowest polls of servers and the three slowest scrapes of exporters. Good: "
            "milliseconds. A poll may take five seconds while a model is unloaded.",
            [
                Ask(f"topk(3, {polls})", "poll of {{instance}}"),
                Ask(f"topk(3, {scrapes})", "scrape of {{instance}}"),
            ],
            place,
            unit=SECONDS,
            empty=NO_EXPORTER,
        ),
        bars(
            "Exporter errors",
            "Errors of the request recorder, warnings and errors in the exporter's log, names "
            "counted as `other`, and lines of the server's log that polls contradict. Good: none.",
            [
                Ask(events("ollama_exporter_recorder_errors_total"), "recorder errors"),
                Ask(
                    events("ollama_exporter_log_messages_total", "level", level="=~warn.*|error"),
                    "log: {{level}}",
                ),
                Ask(
                    events("ollama_exporter_label_overflow_total", "label"),
                    "{{label}} counted as other",
                ),
                Ask(events("ollama_log_contradictions_total"), "log contradicted"),
            ],
            place,
            empty=NO_EXPORTER,
        ),
        number(
            "State of the exporters",
            "Exporters whose last reload failed, collectors that failed in the last scrape, and "
            "unloads whose reason is not known yet. Good: all are 0, the last one after seconds.",
            [
                Ask(
                    f"sum({pick('ollama_exporter_config_last_reload_successful')} == bool 0)",
                    "reload failed",
                    "instant",
                ),
                Ask(
                    f"sum({pick('ollama_scrape_collector_success')} == bool 0)",
                    "collectors failed",
                    "instant",
                ),
                Ask(f"sum({pick('ollama_model_unloads_pending')})", "reasons pending", "instant"),
            ],
            place,
            unit=COUNT,
            steps=ZERO_IS_GOOD,
            decimals=0,
            empty=NO_EXPORTER,
        ).override_by_name("reasons pending", neutral()),
        rows(
            "Versions",
            "Versions of servers and exporters in use. Good: one of each.",
            {"version": "Version"},
            [
                Column(
                    "Servers", f"count by (version) ({pick('ollama_version_info')})", decimals=0
                ),
                Column(
                    "Exporters",
                    f"count by (version) ({pick('ollama_exporter_build_info')})",
                    decimals=0,
                ),
            ],
            place,
            hidden=(),
            empty=NO_EXPORTER,
        ),
    ]
