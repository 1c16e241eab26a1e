# SPDX-License-Identifier: Apache-2.0
"""Memory versus speed: what each keep-alive would have cost, evictions, idle memory."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.frame import address, dashboard
from dashboards.build.memory_actions import autopilot, changes, held_back, warm_ups
from dashboards.build.memory_keep_alive import advice, cold_if, gaps, memory_if
from dashboards.build.panels import (
    BYTES,
    COUNT,
    NO_MODEL,
    SHARE,
    Ask,
    Panel,
    Place,
    bars,
    lines,
    number,
    thresholds,
)
from dashboards.build.promql import (
    events,
    largest_of,
    pick,
    share,
    total,
    total_of,
    total_with_new_series,
)
from dashboards.build.tables import Column, rows
from ollama_exporter.residency.events import Reason

UNUSED: Final = 300  # seconds without a request, after which memory counts as idle


def memory() -> model.Dashboard:
    """Build the dashboard."""
    return dashboard(
        "ollama-memory",
        "What each keep-alive would have cost in cold starts and in memory, which model evicts "
        "which, what is idle or on the CPU.",
        [
            ("", _numbers()),
            (
                "What each keep-alive would have cost",
                [cold_if(), memory_if(), advice(), gaps()],
            ),
            ("Evictions and reloads", [_evictions(), _by_whom(), _ping_pong(), _thrash()]),
            ("Where memory is used", [_gpu_share(), _used_and_idle(), _disk()]),
            (
                "What the exporter did",
                [warm_ups(), held_back(), changes(), autopilot()],
            ),
        ],
        marked=["Memory in use and idle"],
        runbooks={
            "On GPU": "OllamaPartialOffload",
            "Evictions": "OllamaUnexpectedUnload",
            "Models that evict each other": "OllamaEvictionPingPong",
            "Reloads for other options": "OllamaReloadThrash",
            "GPU share of each model": "OllamaFellToCPU",
        },
        since="now-24h",
        folded=["What the exporter did"],
    )


def _numbers() -> list[Panel]:
    place, held = Place(4, 4), pick("ollama_model_memory_bytes")
    evicted = total("ollama_model_unloads_total", reason=f"={Reason.EVICTED}")
    thrashed = total("ollama_model_unloads_total", reason=f"={Reason.OPTIONS_CHANGED}")
    return [
        number(
            "Memory in use",
            "Memory of all loaded models now. Good: room is left for one more model.",
            [Ask(f"sum({held})", "", "instant")],
            place,
            unit=BYTES,
            empty="no model is loaded",
        ),
        number(
            "Idle memory",
            "Share of the memory in use whose models had no request for five minutes. Good: low if "
            "other models need the memory. It saves a load only if a request comes before the "
            "keep-alive ends.",
            [Ask(share(_idle(), f"sum({held})"), "", "instant")],
            place,
            unit=SHARE,
            decimals=0,
            empty="no use seen yet",
        ),
        number(
            "On GPU",
            "Share of the memory in use that is on GPUs. Good: 100 %. The rest runs on the CPU, "
            "far slower.",
            [Ask(share(f"sum({pick('ollama_model_vram_bytes')})", f"sum({held})"), "", "instant")],
            place,
            unit=SHARE,
            decimals=0,
            steps=thresholds(palette.BAD, (0.5, palette.WARN), (0.95, palette.GOOD)),
            empty="no model is loaded",
        ),
        number(
            "Cold starts",
            "Share of the requests in this time range that waited for a load. Good: below 10 %.",
            [
                Ask(
                    share(
                        total("ollama_cold_starts_total"),
                        total("ollama_request_duration_seconds_count"),
                    ),
                    "",
                    "instant",
                )
            ],
            place,
            unit=SHARE,
            decimals=1,
            steps=thresholds(palette.GOOD, (0.1, palette.WARN), (0.3, palette.BAD)),
            empty="no requests seen",
        ),
        number(
            "Evictions",
            "Unloads in this time range because another model needed the memory. Good: 0. Models "
            "that evict each other do not fit together, whatever their keep-alive.",
            [Ask(f"round({evicted})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.WARN), (20, palette.BAD)),
            empty=NO_MODEL,
        ),
        number(
            "Reloaded for options",
            "Reloads in this time range because a request had other options, usually another "
            "num_ctx. Good: 0.",
            [Ask(f"round({thrashed})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.WARN), (20, palette.BAD)),
            empty=NO_MODEL,
        ),
    ]


def _evictions() -> Panel:
    return bars(
        "Unloads by reason",
        "Why models were unloaded. Good: only grey. Orange: evictions. Dark yellow: reloads for "
        "other options.",
        [Ask(events("ollama_model_unloads_total", "reason"), "{{reason}}")],
        Place(6, 9),
        colours=palette.REASONS,
        empty=NO_MODEL,
    )


def _by_whom() -> Panel:
    evictions = total_with_new_series("ollama_model_evictions_total", "instance", "model", "by")
    return rows(
        "Which model evicted which",
        "Evictions in this time range, by pair of models. Good: empty.",
        {"instance": "Server", "model": "Evicted", "by": "By"},
        [Column("Times", f"round({evictions}) > 0", decimals=0, width=65)],
        Place(7, 9),
        hidden=(),
        links={"Evicted": address("ollama-model", instance="Server", model="Evicted")},
        sort="Times",
        empty="no eviction",
    )


def _ping_pong() -> Panel:
    there = total_with_new_series("ollama_model_evictions_total", "instance", "model", "by")
    swapped = (
        f'label_replace(label_replace(label_replace({there}, "first", "$1", "model", "(.*)"), '
        '"model", "$1", "by", "(.*)"), "by", "$1", "first", "(.*)")'
    )
    both = f"({there} > 0) and on (instance, model, by) ({swapped} > 0)"
    return rows(
        "Models that evict each other",
        "Pairs that evicted each other in this time range: they do not fit in memory together. "
        "Good: empty. Move one to another server, or use a smaller quantization or context.",
        {"instance": "Server", "model": "Evicted", "by": "By"},
        [Column("Times", f"round({both})", decimals=0, width=65)],
        Place(7, 9),
        hidden=(),
        sort="Times",
        empty="no such pair",
    )


def _thrash() -> Panel:
    reloads = events("ollama_model_unloads_total", "model", reason=f"={Reason.OPTIONS_CHANGED}")
    return bars(
        "Reloads for other options",
        "Loads only because a request had other options. Good: none. Use the same num_ctx in all "
        "clients of a model.",
        [Ask(reloads, "{{model}}")],
        Place(4, 9),
        empty=NO_MODEL,
    )


def _gpu_share() -> Panel:
    held = largest_of(pick("ollama_model_memory_bytes"), "instance", "model")
    vram = largest_of(pick("ollama_model_vram_bytes"), "instance", "model")
    panel = lines(
        "GPU share of each model",
        "Share of each model on GPUs; the ten lowest. Good: 100 %. Below that the model runs "
        "partly on the CPU. 0 after a reload: the GPU was lost.",
        [Ask(f"bottomk(10, {share(vram, held)})", "{{model}} on {{instance}}")],
        Place(10),
        unit=SHARE,
        stepped=True,
        empty="no model is loaded",
    )
    return panel.max(1)


def _used_and_idle() -> Panel:
    held = total_of(pick("ollama_model_memory_bytes"))
    asks = [
        Ask(f"{held} - {_idle()}", "used in the last five minutes"),
        Ask(_idle(), "idle for longer"),
    ]
    return lines(
        "Memory in use and idle",
        "Memory of models that had a request within five minutes, and of those that had none. "
        "Good: no other model needs the idle memory. Models whose use is not seen count as used.",
        asks,
        Place(8),
        unit=BYTES,
        stacked=True,
        stepped=True,
        colours={
            "used in the last five minutes": palette.STATES["loaded"],
            "idle for longer": palette.GREY,
        },
        empty="no model is loaded",
    )


def _idle() -> str:
    idle = f"(time() - {pick('ollama_model_last_use_timestamp_seconds')}) > {UNUSED}"
    held = pick("ollama_model_memory_bytes")
    return f"(sum({held} and on (job, instance, model) ({idle})) or 0 * sum({held}))"


def _disk() -> Panel:
    disk = largest_of(pick("ollama_model_disk_bytes"), "model")
    return rows(
        "Installed models",
        "Size on disk, and the number of servers that have the model. Good: all are in use.",
        {"model": "Model"},
        [
            Column("On disk", disk, BYTES, decimals=1, width=90),
            Column(
                "Servers",
                f"count by (model) ({pick('ollama_model_disk_bytes')})",
                decimals=0,
                width=75,
            ),
        ],
        Place(6),
        hidden=(),
        sort="On disk",
        empty="no installed model seen",
    )
