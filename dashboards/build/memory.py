# SPDX-License-Identifier: Apache-2.0
"""Memory against speed: what each keep-alive would have cost, who drives whom out, what is idle."""

from typing import Final

from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.frame import address, dashboard
from dashboards.build.panels import (
    BYTES,
    COUNT,
    NO_REQUESTS,
    SECONDS,
    SHARE,
    Ask,
    Panel,
    Place,
    bars,
    columns,
    heat,
    lines,
    number,
    thresholds,
)
from dashboards.build.promql import (
    EACH,
    RANGE,
    buckets,
    events,
    largest_of,
    over,
    pick,
    share,
    total,
    total_of,
    total_with_births,
)
from dashboards.build.tables import Column, rows
from ollama_exporter.residency.events import Reason

GAP: Final = "ollama_model_idle_gap_seconds"
IDLE: Final = "ollama_model_idle_gap_truncated_seconds_total"
UNUSED: Final = 300  # seconds without a request, after which memory counts as idle
NEVER: Final = "1e+15"  # stands for never: sorts behind every bound and reads "never"
NOT_TOLD: Final = "the exporter was not told to act"
GIB_HOUR: Final = 2**30 * 3600


def memory() -> model.Dashboard:
    """Build it."""
    return dashboard(
        "ollama-memory",
        "Memory against speed: what each keep-alive would have cost in cold starts and in memory, "
        "who drives whom out, what lies idle or on the CPU.",
        [
            ("", _numbers()),
            (
                "What each keep-alive would have cost",
                [_cold_if(), _memory_if(), _advice(), _gaps()],
            ),
            ("Who drives whom out", [_evictions(), _by_whom(), _ping_pong(), _thrash()]),
            ("What lies where", [_gpu_share(), _used_and_idle(), _disk()]),
            (
                "What the exporter does by itself",
                [_warm_ups(), _held_back(), _changes(), _autopilot()],
            ),
        ],
        marked=["Memory in use and idle"],
        runbooks={
            "On GPU": "OllamaPartialOffload",
            "Evictions": "OllamaUnexpectedUnload",
            "Ping-pong": "OllamaEvictionPingPong",
            "Reloads for options": "OllamaReloadThrash",
            "GPU share of each model": "OllamaFellToCPU",
        },
        since="now-24h",
        folded=["What the exporter does by itself"],
    )


def _numbers() -> list[Panel]:
    place, held = Place(4, 4), pick("ollama_model_memory_bytes")
    evicted = total("ollama_model_unloads_total", reason=f"={Reason.EVICTED}")
    thrashed = total("ollama_model_unloads_total", reason=f"={Reason.OPTIONS_CHANGED}")
    return [
        number(
            "Held",
            "Memory that models hold now. Good: less than there is, with room for one more model.",
            [Ask(f"sum({held})", "", "instant")],
            place,
            unit=BYTES,
            empty="nothing is resident",
        ),
        number(
            "Held for nobody",
            "Share of that memory whose model had no request for five minutes. It buys speed only "
            "if the next request comes before the keep-alive ends. Good: as you decide.",
            [Ask(share(_idle(), f"sum({held})"), "", "instant")],
            place,
            unit=SHARE,
            decimals=0,
            empty="not known",
        ),
        number(
            "On GPU",
            "Share of the held memory that lies on GPUs. Good: 100 %; what lies beside computes "
            "many times slower.",
            [Ask(share(f"sum({pick('ollama_model_vram_bytes')})", f"sum({held})"), "", "instant")],
            place,
            unit=SHARE,
            decimals=0,
            steps=thresholds(palette.BAD, (0.5, palette.WARN), (0.95, palette.GOOD)),
            empty="nothing is resident",
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
            empty="no requests",
        ),
        number(
            "Evictions",
            "Models in this time range that left because another one needed the room. Good: 0; "
            "else they do not fit together, and no keep-alive changes that.",
            [Ask(f"round({evicted})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.WARN), (20, palette.BAD)),
        ),
        number(
            "Reloaded for options",
            "Models in this time range that were loaded again because a request named other "
            "options, above all another num_ctx. Good: 0.",
            [Ask(f"round({thrashed})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            steps=thresholds(palette.GOOD, (1, palette.WARN), (20, palette.BAD)),
        ),
    ]


def _cold_if() -> Panel:
    count = total_of(_gained(f"{GAP}_count"))
    warm = total_of(_gained(f"{GAP}_bucket", le="!=+Inf"), "le")
    return _by_keep_alive(
        "Cold starts that each keep-alive would have cost",
        "For every pause between two requests seen in this time range: it is a cold start for each "
        "keep-alive that is shorter. Good: choose the value behind which the bars hardly fall. "
        "Evictions come on top.",
        _row(count, "0"),
        f'label_replace(scalar({count}) - {warm}, "le", "$1", "le", "(.*)")',
        _row(f"0 * {count}", NEVER),
        unit=COUNT,
        name="cold starts",
        colour=palette.COLD,
    )


def _memory_if() -> Panel:
    held = largest_of(f"max_over_time({over('ollama_model_memory_bytes', RANGE)})", *EACH)
    on = "* on (job, instance, model) group_left ()"
    whole = total_of(f"{_gained(f'{GAP}_sum')} {on} {held}")
    cut = total_of(f"{_gained(IDLE)} {on} {held}", "le")
    return _by_keep_alive(
        "Idle memory that each keep-alive would have cost",
        "GiB times hours that models would have stayed in memory without being used, in this time "
        "range. Good: choose the value before which the bars hardly rise.",
        _row(f"0 * {whole}", "0"),
        f"{cut} / {GIB_HOUR}",
        _row(f"{whole} / {GIB_HOUR}", NEVER),
        unit=COUNT,
        name="GiB hours",
        colour=palette.WARM,
    )


def _by_keep_alive(
    title: str,
    says: str,
    *rows_of: str,
    unit: str,
    name: str,
    colour: str,
) -> Panel:
    panel = columns(
        title,
        says,
        [Ask(" or ".join(rows_of), name, "table")],
        Place(12, 9),
        x="keep-alive",
        unit=unit,
        colours={name: colour},
        empty=NO_REQUESTS,
    )
    panel.with_transformation(
        model.DataTransformerConfig(
            "convertFieldType",
            options={
                "conversions": [{"targetField": "le", "destinationType": "number"}],
                "fields": {},
            },
        )
    )
    panel.with_transformation(
        model.DataTransformerConfig("sortBy", options={"fields": {}, "sort": [{"field": "le"}]})
    )
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {"le": 0, "Value": 1},
                "renameByName": {"le": "keep-alive", "Value": name},
            },
        )
    )
    ends = [
        {"type": "value", "options": {"0": {"text": "0", "index": 0}}},
        {
            "type": "range",
            "options": {"from": 1e14, "to": None, "result": {"text": "never", "index": 1}},
        },
    ]
    panel.override_by_name(
        "keep-alive",
        [
            model.DynamicConfigValue("unit", SECONDS),
            model.DynamicConfigValue("mappings", ends),
        ],
    )
    return panel.show_value(values.VisibilityMode.AUTO).x_tick_label_spacing(0)


def _row(expression: str, le: str) -> str:
    """Give a lone number its place among the keep-alives."""
    return f'label_replace({expression}, "le", "{le}", "", "")'


def _gained(metric: str, **matchers: str) -> str:
    return f"increase({over(metric, RANGE, **matchers)})"


def _advice() -> Panel:
    gaps = total(f"{GAP}_count", *EACH)
    columns_ = [
        Column("Pauses", f"round({gaps})", decimals=0, width=70),
        Column(
            "Median pause",
            f"histogram_quantile(0.5, {total(f'{GAP}_bucket', 'le', *EACH)})",
            SECONDS,
            decimals=0,
            width=110,
        ),
        Column(
            "In effect",
            largest_of(pick("ollama_model_keep_alive_seconds"), *EACH),
            SECONDS,
            decimals=0,
            never=True,
            width=80,
        ),
        Column(
            "Advised",
            largest_of(pick("ollama_model_advised_keep_alive_seconds"), *EACH),
            SECONDS,
            decimals=0,
            never=True,
            width=80,
        ),
        Column(
            "Rests on",
            largest_of(pick("ollama_model_advice_samples"), *EACH),
            decimals=0,
            steps=((None, palette.GREY), (20, palette.NEUTRAL)),
            width=75,
        ),
        Column(
            "Cold starts",
            f"round({total('ollama_cold_starts_total', *EACH)})",
            decimals=0,
            width=90,
        ),
        Column(
            "A load takes",
            share(
                total("ollama_model_load_seconds_sum", *EACH),
                total("ollama_model_load_seconds_count", *EACH),
            ),
            SECONDS,
            decimals=1,
            width=100,
        ),
    ]
    return rows(
        "Keep-alive in effect and advised",
        "What each model's pauses were like, the keep-alive that governs it, the one that would "
        "cost least, and what it rests on (grey: fewer than 20 pauses, wait). Good: both alike.",
        {"instance": "Server", "model": "Model"},
        columns_,
        Place(14, 8),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="Cold starts",
        empty=NO_REQUESTS,
    )


def _gaps() -> Panel:
    return heat(
        "Pauses between requests",
        "How long models were idle before the next request. A keep-alive above a band keeps it "
        "warm; one below pays for nothing. Good: bands that are apart.",
        Ask(buckets(GAP), "{{le}}", "heatmap"),
        Place(10),
        unit=SECONDS,
        scheme="Purples",
        empty=NO_REQUESTS,
    )


def _evictions() -> Panel:
    return bars(
        "Unloads by reason",
        "Why models left memory. Good: grey. Orange is lack of room, dark yellow is reloads for "
        "options.",
        [Ask(events("ollama_model_unloads_total", "reason"), "{{reason}}")],
        Place(6, 9),
        colours=palette.REASONS,
    )


def _by_whom() -> Panel:
    evictions = total_with_births("ollama_model_evictions_total", "instance", "model", "by")
    return rows(
        "Evictions by whom",
        "Who took whose room in this time range. Good: empty.",
        {"instance": "Server", "model": "Driven out", "by": "By"},
        [Column("Times", f"round({evictions}) > 0", decimals=0, width=65)],
        Place(7, 9),
        hidden=(),
        links={"Driven out": address("ollama-model", instance="Server", model="Driven out")},
        sort="Times",
        empty="nobody was driven out",
    )


def _ping_pong() -> Panel:
    there = total_with_births("ollama_model_evictions_total", "instance", "model", "by")
    swapped = (
        f'label_replace(label_replace(label_replace({there}, "first", "$1", "model", "(.*)"), '
        '"model", "$1", "by", "(.*)"), "by", "$1", "first", "(.*)")'
    )
    both = f"({there} > 0) and on (instance, model, by) ({swapped} > 0)"
    return rows(
        "Ping-pong",
        "Pairs that drive each other out in this time range: they do not fit together. Good: "
        "empty. Move one to another server, choose a smaller quantization, or a smaller context.",
        {"instance": "Server", "model": "Driven out", "by": "By"},
        [Column("Times", f"round({both})", decimals=0, width=65)],
        Place(7, 9),
        hidden=(),
        sort="Times",
        empty="no pair",
    )


def _thrash() -> Panel:
    reloads = events("ollama_model_unloads_total", "model", reason=f"={Reason.OPTIONS_CHANGED}")
    return bars(
        "Reloads for options",
        "Loads only because a request named other options. Good: none. Give all clients of a "
        "model the same num_ctx.",
        [Ask(reloads, "{{model}}")],
        Place(4, 9),
    )


def _gpu_share() -> Panel:
    held = largest_of(pick("ollama_model_memory_bytes"), "instance", "model")
    vram = largest_of(pick("ollama_model_vram_bytes"), "instance", "model")
    panel = lines(
        "GPU share of each model",
        "How much of a model lies on GPUs, the ten lowest. Good: 100 %. Below, it runs partly on "
        "the CPU; 0 after a reload, the GPU was lost.",
        [Ask(f"bottomk(10, {share(vram, held)})", "{{model}} on {{instance}}")],
        Place(10),
        unit=SHARE,
        stepped=True,
        empty="nothing is resident",
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
        "Good: idle memory that nobody else waits for. Models whose use is not seen count as used.",
        asks,
        Place(8),
        unit=BYTES,
        stacked=True,
        stepped=True,
        colours={
            "used in the last five minutes": palette.STATES["resident"],
            "idle for longer": palette.GREY,
        },
        empty="nothing is resident",
    )


def _idle() -> str:
    idle = f"(time() - {pick('ollama_model_last_use_timestamp_seconds')}) > {UNUSED}"
    held = pick("ollama_model_memory_bytes")
    return f"(sum({held} and on (job, instance, model) ({idle})) or 0 * sum({held}))"


def _disk() -> Panel:
    disk = largest_of(pick("ollama_model_disk_bytes"), "model")
    return rows(
        "Installed models",
        "Size on disk, and on how many servers. Good: what lies here is used.",
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
    )


def _warm_ups() -> Panel:
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


def _held_back() -> Panel:
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


def _changes() -> Panel:
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


def _autopilot() -> Panel:
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
