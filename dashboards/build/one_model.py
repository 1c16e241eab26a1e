# SPDX-License-Identifier: Apache-2.0
"""Model: when one model was in memory and why it left, what its requests waited for."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.frame import dashboard
from dashboards.build.panels import (
    BYTES,
    COUNT,
    MOMENT,
    NO_REQUESTS,
    SECONDS,
    SHARE,
    TOKENS_PER_SECOND,
    Ask,
    Panel,
    Place,
    bars,
    colour,
    heat,
    lines,
    number,
    ranking,
    states,
    thresholds,
)
from dashboards.build.promql import (
    EACH,
    RANGE,
    buckets,
    events,
    largest_of,
    mean,
    pick,
    quantile,
    rate,
    share,
    total,
    total_of,
)
from dashboards.build.tables import Column, rows

DURATION: Final = "ollama_request_duration_seconds"
WAIT: Final = "ollama_request_load_wait_seconds"
COLD_SHARE: Final = thresholds(palette.GOOD, (0.1, palette.WARN), (0.3, palette.BAD))


def one_model() -> model.Dashboard:
    """Build it."""
    return dashboard(
        "ollama-model",
        "One model: when it was in memory and why it left, how long until it goes, what its "
        "requests waited for, how fast it is. Choose it above.",
        [
            ("", _numbers()),
            ("In memory", [_states(), _countdown(), _keep_alive(), _unloads()]),
            ("Cold against warm", [_cold(), _warm(), _waits(), _first_tokens()]),
            ("At work", [_speed(), _tokens(), _queue(), _context()]),
            ("Who asks how", [_who_sends(), _options(), _finishes()]),
            ("What it is", [_what(), _lifetimes(), _memory(), _processor()]),
        ],
        marked=["In memory or not", "Time until it is dropped"],
        runbooks={
            "In memory or not": "OllamaUnexpectedUnload",
            "Cold starts": "OllamaColdStartShareHigh",
            "Wait for a load": "OllamaLoadTimeRegressed",
            "Speed of generation": "OllamaFellToCPU",
            "Context": "OllamaReloadThrash",
            "keep_alive that requests carry": "OllamaKeepAliveOverridden",
        },
        marks=("Unexpected unloads", "Reloads and restarts", "Expired and stopped"),
    )


def _numbers() -> list[Panel]:
    place, loads = Place(4, 4), "ollama_model_loads_total"
    return [
        number(
            "Servers that hold it",
            "Servers that have the chosen models in memory now. Good: all that should.",
            [Ask(f"sum({pick('ollama_model_loaded')})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
        ),
        number(
            "Last used",
            "End of the last request seen. Good: recent, or the memory is held for nobody.",
            [
                Ask(
                    f"1000 * {largest_of(pick('ollama_model_last_use_timestamp_seconds'))}",
                    "",
                    "instant",
                )
            ],
            place,
            unit=MOMENT,
            empty="not seen",
        ),
        number(
            "Loads",
            "Times that it was loaded in this time range. Good: about once a day; in the "
            "hundreds, it is driven out again and again.",
            [Ask(f"round({total(loads)})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
        ),
        number(
            "A load takes",
            "Mean time to load in this time range, where it was measured. It is what one cold "
            "start costs. Good: no more than last week; the first load of the day reads from disk.",
            [Ask(mean("ollama_model_load_seconds", window=RANGE), "", "instant")],
            place,
            unit=SECONDS,
            empty="not measured",
        ),
        number(
            "Cold starts",
            "Share of its requests in this time range that waited for a load. Good: below 10 %.",
            [
                Ask(
                    share(total("ollama_cold_starts_total"), total(f"{DURATION}_count")),
                    "",
                    "instant",
                )
            ],
            place,
            unit=SHARE,
            steps=COLD_SHARE,
            empty="no requests",
            decimals=1,
        ),
        number(
            "First token",
            "Median time to the first token, cold and warm, in this time range: what being in "
            "memory is worth. Good: warm below a second.",
            [
                Ask(
                    quantile(
                        0.5,
                        "ollama_request_time_to_first_token_seconds",
                        window=RANGE,
                        start=f"={start}",
                    ),
                    start,
                    "instant",
                )
                for start in ("cold", "warm")
            ],
            place,
            unit=SECONDS,
            empty="no requests",
        ),
    ]


def _states() -> Panel:
    loaded, loading = pick("ollama_model_loaded"), pick("ollama_model_loading")
    dead = pick("ollama_model_runner_up")
    # The rarer state first: `or` takes the first that has the series.
    expression = " or ".join(
        largest_of(part, "instance", "model")
        for part in (f"3 * ({dead} == bool 0) > 0", f"2 * ({loading} == 1)", loaded)
    )
    return states(
        "In memory or not",
        "Green: resident. Blue: its process loads (seen where the exporter runs beside Ollama). "
        "Red: listed, but its process is dead. Marks say why it left. Good: long green bars.",
        [Ask(expression, "{{model}} on {{instance}}")],
        Place(24, 8),
        of=palette.STATES,
    )


def _countdown() -> Panel:
    left = f"{pick('ollama_model_expires_timestamp_seconds')} - time()"
    soonest = largest_of(f"({left} < +Inf)", "instance", "model")
    return lines(
        "Time until it is dropped",
        "Time to the deadline that the server last announced, the ten soonest. Each request lifts "
        "it. Falls to 0: it expired; breaks off above 0: something drove it out. Good: it is "
        "lifted before it gets there. Models that never expire are not drawn, and a deadline that "
        "passed belongs to a model at work.",
        [Ask(f"bottomk(10, {soonest})", "{{model}} on {{instance}}")],
        Place(8, 9),
        unit=SECONDS,
        empty="nothing resident has a deadline",
    )


def _keep_alive() -> Panel:
    asks = [
        Ask(
            largest_of(f"({pick('ollama_model_keep_alive_seconds')} < +Inf)", "model"),
            "{{model}} in effect",
        ),
        Ask(
            largest_of(f"({pick('ollama_model_advised_keep_alive_seconds')} < +Inf)", "model"),
            "{{model}} advised",
        ),
    ]
    panel = lines(
        "Keep-alive in effect and advised",
        "The keep-alive that governs it now, and (dashed) the one that its idle gaps advise. The "
        "scale is logarithmic. Good: close together. Jumps of the first are clients that bring "
        "their own. Never is not drawn.",
        asks,
        Place(8, 9),
        unit=SECONDS,
        stepped=True,
        logarithmic=True,
        empty="not known",
    )
    dashed = model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
    return panel.override_by_regexp("/advised$/", [colour(palette.GOOD), dashed])


def _unloads() -> Panel:
    return bars(
        "Unloads by reason",
        "Why it left. Good: grey, the keep-alive's or somebody's will.",
        [Ask(events("ollama_model_unloads_total", "reason"), "{{reason}}")],
        Place(8, 9),
        colours=palette.REASONS,
    )


def _cold() -> Panel:
    return heat(
        "Duration of cold requests",
        "Requests that waited for a load, by how long they took altogether. Good: few, and low. "
        "The distance to the picture beside it is the price of a cold start.",
        Ask(buckets(DURATION, start="=cold"), "{{le}}", "heatmap"),
        Place(12),
        unit=SECONDS,
        scheme="Blues",
        empty="no cold request",
    )


def _warm() -> Panel:
    return heat(
        "Duration of warm requests",
        "Requests that found the model in memory, by how long they took altogether. Good: a dense "
        "band that stays where it is.",
        Ask(buckets(DURATION, start="=warm"), "{{le}}", "heatmap"),
        Place(12),
        unit=SECONDS,
        scheme="Oranges",
        empty="no warm request",
    )


def _waits() -> Panel:
    asks = [
        Ask(quantile(0.95, WAIT, start="=cold"), "95th percentile, cold"),
        Ask(quantile(0.5, WAIT, start="=cold"), "median, cold"),
        Ask(mean("ollama_model_load_seconds"), "mean load"),
    ]
    return lines(
        "Wait for a load",
        "How long cold requests waited for a runner, and how long loads took. Good: the waits are "
        "little longer than the load; far longer, loads queue behind each other.",
        asks,
        Place(12),
        unit=SECONDS,
        colours={
            "95th percentile, cold": "dark-blue",
            "median, cold": "light-blue",
            "mean load": palette.GREY,
        },
        empty="no cold request",
    )


def _first_tokens() -> Panel:
    first = "ollama_request_time_to_first_token_seconds"
    asks = [
        Ask(quantile(0.95, first, start="=cold"), "cold"),
        Ask(quantile(0.95, first, start="=warm"), "warm"),
    ]
    return lines(
        "Time to first token (95th percentile)",
        "What 19 of 20 users waited less than, cold and warm. The scale is logarithmic. Good: warm "
        "below a second.",
        asks,
        Place(12),
        unit=SECONDS,
        colours=palette.STARTS,
        logarithmic=True,
        empty=NO_REQUESTS,
    )


def _speed() -> Panel:
    tokens = rate("ollama_request_output_tokens_total", "instance", "model")
    spent = rate("ollama_request_eval_seconds_sum", "instance", "model")
    return lines(
        "Speed of generation",
        "Tokens per second of one answer while it is generated, the ten slowest. Good: level. A "
        "drop to a tenth: it fell back to the CPU, see its GPU share.",
        [Ask(f"bottomk(10, {share(tokens, spent)})", "{{model}} on {{instance}}")],
        Place(6),
        unit=TOKENS_PER_SECOND,
        empty=NO_REQUESTS,
    )


def _tokens() -> Panel:
    asks = [
        Ask(rate("ollama_request_output_tokens_total"), "generated"),
        Ask(rate("ollama_request_prompt_tokens_total"), "read"),
        Ask(rate("ollama_request_cached_prompt_tokens_total"), "read from cache"),
    ]
    return lines(
        "Tokens",
        "Tokens per second over all servers, counted when a request ends. Good: as your work is; "
        "much read and little cached is a prompt cache that is lost at each load.",
        asks,
        Place(6),
        unit=TOKENS_PER_SECOND,
        colours={
            "generated": palette.PARTS["generation"],
            "read": palette.PARTS["prompt"],
            "read from cache": palette.GREY,
        },
        empty=NO_REQUESTS,
    )


def _queue() -> Panel:
    asks = [
        Ask(total_of(pick("ollama_requests_waiting_for_load"), "model"), "{{model}}: for a load"),
        Ask(rate("ollama_request_unaccounted_seconds_sum", "model"), "{{model}}: for a slot"),
    ]
    return lines(
        "Requests that wait",
        "Requests that wait for the model to load, and the mean number that waits for a free slot "
        "or a slow reader. Good: 0. Slots: OLLAMA_NUM_PARALLEL.",
        asks,
        Place(6),
        unit=COUNT,
        empty=NO_REQUESTS,
    )


def _context() -> Panel:
    largest = largest_of(pick("ollama_model_context_tokens"), "instance", "model")
    return lines(
        "Context",
        "Tokens of context that it was loaded with, the ten largest. Good: one level line; a line "
        "that jumps means clients that reload it from each other with different num_ctx.",
        [Ask(f"topk(10, {largest})", "{{model}} on {{instance}}")],
        Place(6),
        unit=COUNT,
        stepped=True,
        empty="nothing is resident",
    )


def _who_sends() -> Panel:
    return bars(
        "keep_alive that requests carry",
        "absent: the server's own holds. finite and never: a client overrides the operator. zero: "
        "the model goes at once. Good: absent, or what you want.",
        [Ask(events("ollama_request_keep_alive_total", "class"), "{{class}}")],
        Place(8),
        colours=palette.KEEP_ALIVES,
        empty=NO_REQUESTS,
    )


def _options() -> Panel:
    return bars(
        "Options that can force a reload",
        "Requests that name num_ctx or other options that the runner must be started with. Good: "
        "all alike, else each reloads the model for itself.",
        [Ask(events("ollama_request_options_total", "class"), "{{class}}")],
        Place(8),
        colours={"absent": palette.GREY, "num_ctx": "dark-yellow", "other": "dark-orange"},
        empty=NO_REQUESTS,
    )


def _finishes() -> Panel:
    return bars(
        "Why answers ended",
        "stop: complete. length: cut off at the token limit. Good: stop and tool.",
        [Ask(events("ollama_request_finish_reasons_total", "finish"), "{{finish}}")],
        Place(8),
        colours={
            "stop": "green",
            "length": "dark-orange",
            "tool": "semi-dark-purple",
            "load": palette.COLD,
        },
        empty=NO_REQUESTS,
    )


def _what() -> Panel:
    names = ("digest", "family", "parameter_size", "quantization")
    headings = ("Digest", "Family", "Parameters", "Quantization")
    info = largest_of(pick("ollama_model_info"), *EACH, *names)
    columns = [
        Column(
            "Loaded", f"1000 * {_of_info('ollama_model_loaded_timestamp_seconds', info)}", MOMENT
        ),
        Column("Memory", _of_info("ollama_model_memory_bytes", info), BYTES, decimals=1, width=80),
        Column("Context", _of_info("ollama_model_context_tokens", info), decimals=0, width=75),
    ]
    return rows(
        "What is loaded",
        "Details of what is resident. Good: one digest on all servers.",
        {"instance": "Server", "model": "Model", **dict(zip(names, headings, strict=True))},
        columns,
        Place(16, 8),
        empty="nothing is resident",
    )


def _of_info(metric: str, info: str) -> str:
    value = largest_of(pick(metric), *EACH)
    return f"{info} * on (job, instance, model) group_left () {value}"


def _memory() -> Panel:
    asks = [
        Ask(total_of(pick("ollama_model_memory_bytes")), "as Ollama plans"),
        Ask(total_of(pick("ollama_model_vram_bytes")), "of that on GPU"),
        Ask(total_of(pick("ollama_runner_resident_memory_bytes")), "resident, of its process"),
    ]
    return lines(
        "Memory",
        "What Ollama says it takes, how much of that lies on GPUs, and what its processes really "
        "hold of main memory. Good: all on the GPU.",
        asks,
        Place(12, 7),
        unit=BYTES,
        stepped=True,
        empty="nothing is resident",
    )


def _processor() -> Panel:
    return lines(
        "Processor",
        "Cores that its runners keep busy. Good: below one on a GPU; many: it computes on the CPU.",
        [Ask(rate("ollama_runner_cpu_seconds_total", "model"), "{{model}}")],
        Place(12, 7),
        unit=COUNT,
        empty="processes are seen where the exporter runs beside Ollama",
    )


def _lifetimes() -> Panel:
    stays = "ollama_model_residency_seconds"
    median = quantile(0.5, stays, "model", window=RANGE)
    asks = [Ask(f"sort_desc(topk(10, {median} >= 0))", "{{model}}", "instant")]
    return ranking(
        "It stays",
        "Median time from load to unload in this time range. Good: far longer than a load takes.",
        asks,
        Place(8),
        unit=SECONDS,
        empty="none left",
    )
