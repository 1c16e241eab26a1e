# SPDX-License-Identifier: Apache-2.0
"""Overview, its first rows: numbers, servers, loaded models, memory."""

from typing import Final

from dashboards.build import palette
from dashboards.build.frame import address
from dashboards.build.panels import (
    BYTES,
    COUNT,
    MOMENT,
    NO_EXPORTER,
    NO_MODEL,
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
    advised,
    in_effect,
    largest_of,
    or_zero,
    over,
    pick,
    share,
    total,
    total_of,
)
from dashboards.build.tables import TOO_FEW, Column, rows

ZERO_IS_GOOD: Final = thresholds(palette.GOOD, (1, palette.BAD))
REQUESTS: Final = "ollama_request_duration_seconds_count"
COLD_SHARE: Final = ((None, palette.GOOD), (0.1, palette.WARN), (0.3, palette.BAD))


def numbers() -> list[Panel]:
    """Build the first row."""
    place = Place(4, 4)
    up, loaded = pick("ollama_up"), pick("ollama_model_loaded")
    expected, cold = pick("ollama_model_expected"), "ollama_cold_starts_total"
    return [
        number(
            "Servers answering",
            "Servers that answered the last poll, servers that did not, and exporters that "
            "Prometheus cannot reach. Good: the last two are 0.",
            [
                Ask(f"sum({up})", "up", "instant"),
                Ask(f"sum({up} == bool 0)", "not answering", "instant"),
                # Every job has an `up`: count only jobs with an Ollama exporter.
                Ask(
                    f"sum(({pick('up')} == bool 0) and on (job) "
                    f"last_over_time({over('ollama_up', RANGE)}))",
                    "unreachable exporter",
                    "instant",
                ),
            ],
            Place(8, 4),
            unit=COUNT,
            steps=ZERO_IS_GOOD,
            decimals=0,
            empty=NO_EXPORTER,
        ).override_by_name("up", judged((None, palette.BAD), (1, palette.GOOD))),
        number(
            "Loaded models",
            "Models in memory, counted on each server, and expected models that are not loaded. "
            "Good: none is missing.",
            [
                Ask(f"sum({loaded})", "loaded", "instant"),
                Ask(
                    or_zero(
                        f"count(({expected} == 1) unless on (job, instance, model) ({loaded} == 1))"
                    ),
                    "missing",
                    "instant",
                ),
            ],
            place,
            unit=COUNT,
            steps=ZERO_IS_GOOD,
            decimals=0,
            empty=NO_EXPORTER,
        ).override_by_name("loaded", neutral()),
        number(
            "Cold starts",
            "Share of the requests in this time range that waited for a load. Good: below 10 %. "
            "If it is higher, see Memory versus speed.",
            [Ask(share(total(cold), total(REQUESTS)), "", "instant")],
            place,
            unit=SHARE,
            steps=thresholds(palette.GOOD, *COLD_SHARE[1:]),
            empty="no requests seen",
            decimals=1,
        ),
        number(
            "Time lost to cold starts",
            "Total time that requests in this time range waited for a load. Good: minutes, not "
            "hours.",
            [Ask(total("ollama_request_load_wait_seconds_sum", start="=cold"), "", "instant")],
            place,
            unit=SECONDS,
            empty="no cold start seen",
        ),
        number(
            "Unexpected unloads",
            "Unloads in this time range that nobody asked for "
            f"({UNEXPECTED.replace('|', ', ')}). Good: 0.",
            [
                Ask(
                    f"round({total('ollama_model_unloads_total', reason=f'=~{UNEXPECTED}')})",
                    "",
                    "instant",
                )
            ],
            place,
            unit=COUNT,
            steps=ZERO_IS_GOOD,
            decimals=0,
            empty=NO_MODEL,
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
        "One row per server, for this time range. Good: up, a poll within the last minute, all "
        "memory on the GPU, few cold starts, no unexpected unload.",
        {"instance": "Server"},
        columns,
        Place(24, 7),
        links={"Server": address("ollama-model", instance="Server")},
        sort="Unexpected unloads",
        empty=NO_EXPORTER,
    )


def resident() -> Panel:
    """Build the table of loaded models."""
    memory, vram = pick("ollama_model_memory_bytes"), pick("ollama_model_vram_bytes")
    left = f"{largest_of(pick('ollama_model_expires_timestamp_seconds'), *EACH)} - time()"
    now = f"and on (job, instance, model) {memory}"  # advice outlives residency
    columns = [
        Column("Memory", largest_of(memory, *EACH), BYTES, decimals=1, width=85),
        Column("On GPU", largest_of(share(vram, memory), *EACH), SHARE, bar=True, width=100),
        Column("Leaves in", left, SECONDS, decimals=0, never=True, past="in use", width=80),
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
            f"{largest_of(advised(), *EACH)} {now}",
            SECONDS,
            decimals=0,
            never=True,
            empty=TOO_FEW,
            width=85,
        ),
        Column(
            "Idle gaps used",
            f"{largest_of(pick('ollama_model_advice_samples'), *EACH)} {now}",
            decimals=0,
            steps=((None, palette.GREY), (20, palette.NEUTRAL)),
            width=105,
        ),
    ]
    return rows(
        "Loaded models and their keep-alive",
        "What is in memory, for how long, and the keep-alive that the idle gaps between "
        "requests suggest (not yet: fewer than 20). Good: both keep-alives are similar. In use: "
        "the deadline moves when the running request ends.",
        {"instance": "Server", "model": "Model"},
        columns,
        Place(14, 9),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="Memory",
        empty="no model is loaded",
    )


def memory() -> Panel:
    """Build the graph of memory."""
    return lines(
        "Memory by model",
        "Memory of each model, summed over all servers. Good: level lines. A saw-tooth pattern: "
        "models that evict each other.",
        [Ask(total_of(pick("ollama_model_memory_bytes"), "model"), "{{model}}")],
        Place(10, 9),
        unit=BYTES,
        stacked=True,
        stepped=True,
        empty="no model is loaded",
    )
