# SPDX-License-Identifier: Apache-2.0
"""Overview, first part: what is up, what is resident where."""

from typing import Final

from dashboards.build import palette
from dashboards.build.frame import address
from dashboards.build.panels import (
    BYTES,
    COUNT,
    MOMENT,
    SECONDS,
    SHARE,
    Ask,
    Panel,
    Place,
    judged,
    lines,
    neutral,
    number,
    thresholds,
)
from dashboards.build.promql import (
    EACH,
    RANGE,
    TARGET,
    UNEXPECTED,
    in_effect,
    largest_of,
    or_zero,
    over,
    pick,
    share,
    total,
    total_of,
)
from dashboards.build.tables import Column, rows

NONE_IS_WELL: Final = thresholds(palette.GOOD, (1, palette.BAD))
REQUESTS: Final = "ollama_request_duration_seconds_count"
COLD_SHARE: Final = ((None, palette.GOOD), (0.1, palette.WARN), (0.3, palette.BAD))


def numbers() -> list[Panel]:
    """Build the first row."""
    place = Place(4, 4)
    up, resident = pick("ollama_up"), pick("ollama_model_loaded")
    expected, cold = pick("ollama_model_expected"), "ollama_cold_starts_total"
    return [
        number(
            "Servers answering",
            "Servers that answered the last poll, those that did not, and exporters that "
            "Prometheus itself cannot reach. Good: the last two are 0.",
            [
                Ask(f"sum({up})", "up", "instant"),
                Ask(f"sum({up} == bool 0)", "not answering", "instant"),
                # `up` is of every job of that Prometheus: only those that have an exporter count.
                Ask(
                    f"sum(({pick('up')} == bool 0) and on (job) "
                    f"last_over_time({over('ollama_up', RANGE)}))",
                    "unreachable exporter",
                    "instant",
                ),
            ],
            Place(8, 4),
            unit=COUNT,
            steps=NONE_IS_WELL,
            decimals=0,
        ).override_by_name("up", judged((None, palette.BAD), (1, palette.GOOD))),
        number(
            "Resident models",
            "Models in memory, each counted on every server that holds it, and models that are "
            "expected and absent. Good: none is missing.",
            [
                Ask(f"sum({resident})", "resident", "instant"),
                Ask(
                    or_zero(
                        f"count(({expected} == 1) unless on (job, instance, model) "
                        f"({resident} == 1))"
                    ),
                    "missing",
                    "instant",
                ),
            ],
            place,
            unit=COUNT,
            steps=NONE_IS_WELL,
            decimals=0,
        ).override_by_name("resident", neutral()),
        number(
            "Cold starts",
            "Share of the requests in this time range that had to wait for a load. Good: below "
            "10 %; above, look at Memory against speed.",
            [Ask(share(total(cold), total(REQUESTS)), "", "instant")],
            place,
            unit=SHARE,
            steps=thresholds(palette.GOOD, *COLD_SHARE[1:]),
            empty="no requests",
            decimals=1,
        ),
        number(
            "Waited for loads",
            "Time that all requests of this time range together spent waiting for a model to "
            "load: what cold starts cost people. Good: little beside the hours that people work.",
            [Ask(total("ollama_request_load_wait_seconds_sum", start="=cold"), "", "instant")],
            place,
            unit=SECONDS,
            empty="no cold start",
        ),
        number(
            "Unexpected unloads",
            "Models that left memory in this time range although neither their keep-alive nor "
            f"anybody's wish ended it: {UNEXPECTED.replace('|', ', ')}. Good: 0.",
            [
                Ask(
                    f"round({total('ollama_model_unloads_total', reason=f'=~{UNEXPECTED}')})",
                    "",
                    "instant",
                )
            ],
            place,
            unit=COUNT,
            steps=NONE_IS_WELL,
            decimals=0,
        ),
    ]


def servers() -> Panel:
    """Build the table of servers."""
    memory, vram = pick("ollama_model_memory_bytes"), pick("ollama_model_vram_bytes")
    columns = [
        Column(
            "State",
            largest_of(pick("ollama_up"), *TARGET),
            texts={"1": ("up", palette.GOOD), "0": ("down", palette.BAD)},
            width=70,
        ),
        Column("Models", total_of(pick("ollama_model_loaded"), *TARGET), decimals=0, width=80),
        Column("Memory", total_of(memory, *TARGET), BYTES, decimals=1),
        Column(
            "On GPU", share(total_of(vram, *TARGET), total_of(memory, *TARGET)), SHARE, bar=True
        ),
        Column(
            "Cold starts",
            share(total("ollama_cold_starts_total", *TARGET), total(REQUESTS, *TARGET)),
            SHARE,
            decimals=1,
            steps=COLD_SHARE,
        ),
        Column(
            "Unexpected unloads",
            f"round({total('ollama_model_unloads_total', *TARGET, reason=f'=~{UNEXPECTED}')})",
            decimals=0,
            steps=((None, palette.NEUTRAL), (1, palette.BAD)),
        ),
        Column(
            "Waiting",
            total_of(pick("ollama_requests_waiting_for_load"), *TARGET),
            decimals=0,
            steps=((None, palette.NEUTRAL), (1, palette.WARN)),
        ),
        Column(
            "Started",
            f"1000 * {largest_of(pick('ollama_server_start_time_seconds'), *TARGET)}",
            MOMENT,
        ),
        Column(
            "Last poll",
            f"1000 * {largest_of(pick('ollama_last_poll_success_timestamp_seconds'), *TARGET)}",
            MOMENT,
        ),
    ]
    return rows(
        "Servers",
        "One row for each server, for this time range. Good: up, a poll within the last minute, "
        "on the GPU what belongs there, few cold starts, no unexpected unload.",
        {"instance": "Server"},
        columns,
        Place(24, 7),
        links={"Server": address("ollama-model", instance="Server")},
        sort="Unexpected unloads",
    )


def resident() -> Panel:
    """Build the table of resident models."""
    memory, vram = pick("ollama_model_memory_bytes"), pick("ollama_model_vram_bytes")
    left = f"{largest_of(pick('ollama_model_expires_timestamp_seconds'), *EACH)} - time()"
    now = f"and on (job, instance, model) {memory}"  # advice outlives residency
    columns = [
        Column("Memory", largest_of(memory, *EACH), BYTES, decimals=1, width=85),
        Column("On GPU", largest_of(share(vram, memory), *EACH), SHARE, bar=True, width=100),
        Column("Leaves in", left, SECONDS, decimals=0, never=True, width=80),
        Column(
            "Keep-alive",
            f"{largest_of(in_effect(), *EACH)} {now}",
            SECONDS,
            decimals=0,
            never=True,
            width=85,
        ),
        Column(
            "Advised",
            f"{largest_of(pick('ollama_model_advised_keep_alive_seconds'), *EACH)} {now}",
            SECONDS,
            decimals=0,
            never=True,
            width=85,
        ),
        Column(
            "Rests on gaps",
            f"{largest_of(pick('ollama_model_advice_samples'), *EACH)} {now}",
            decimals=0,
            steps=((None, palette.GREY), (20, palette.NEUTRAL)),
            width=105,
        ),
    ]
    return rows(
        "Resident models, and the keep-alive they should have",
        "What is in memory where, when it goes, and the keep-alive that the idle gaps seen so far "
        "advise. Good: both keep-alives are alike. Grey: fewer than 20 gaps, so do not act on it "
        "yet. A moment that has passed belongs to a model at work.",
        {"instance": "Server", "model": "Model"},
        columns,
        Place(14, 9),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="Memory",
        empty="nothing is resident",
    )


def memory() -> Panel:
    """Build the graph of memory."""
    return lines(
        "Memory by model",
        "Memory that each model takes, over all servers. Good: a level sky-line; saw teeth are "
        "models that drive each other out.",
        [Ask(total_of(pick("ollama_model_memory_bytes"), "model"), "{{model}}")],
        Place(10, 9),
        unit=BYTES,
        stacked=True,
        stepped=True,
        empty="nothing is resident",
    )
