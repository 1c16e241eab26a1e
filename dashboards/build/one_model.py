# SPDX-License-Identifier: Apache-2.0
"""Model: when one model was in memory, why it left, what its requests waited for."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.charts import states
from dashboards.build.frame import dashboard
from dashboards.build.one_model_details import lifetimes, memory, processor, what
from dashboards.build.one_model_requests import (
    DURATION,
    cold,
    context,
    first_tokens,
    queue,
    speed,
    tokens,
    waits,
    warm,
)
from dashboards.build.one_model_runner import cache_hits, fill, generated, held_for_nothing, slots
from dashboards.build.panels import (
    COUNT,
    MOMENT,
    NO_REQUESTS,
    SECONDS,
    SHARE,
    Ask,
    Panel,
    Place,
    bars,
    colour,
    lines,
    number,
    thresholds,
)
from dashboards.build.promql import (
    RANGE,
    advised,
    events,
    in_effect,
    largest_of,
    mean,
    pick,
    quantile,
    share,
    total,
)

COLD_SHARE: Final = thresholds(palette.GOOD, (0.1, palette.WARN), (0.3, palette.BAD))


def one_model() -> model.Dashboard:
    """Build the dashboard."""
    return dashboard(
        "ollama-model",
        "One model: when it was in memory and why it left, when it leaves next, what its requests "
        "waited for, how fast it is. Choose it above.",
        [
            ("", _numbers()),
            ("In memory", [_states(), _countdown(), _keep_alive(), _unloads()]),
            ("Cold against warm", [cold(), warm(), waits(), first_tokens()]),
            ("Speed and queue", [speed(), tokens(), queue(), context()]),
            ("Its runner", [slots(), fill(), generated(), cache_hits(), held_for_nothing()]),
            ("What clients send", [_who_sends(), _options(), _finishes()]),
            ("Model details", [what(), lifetimes(), memory(), processor()]),
        ],
        marked=["In memory or not", "Time until it leaves"],
        runbooks={
            "In memory or not": "OllamaUnexpectedUnload",
            "Cold starts": "OllamaColdStartShareHigh",
            "Wait for a load": "OllamaLoadTimeRegressed",
            "Speed of generation": "OllamaFellToCPU",
            "Context": "OllamaReloadThrash",
            "Slots": "OllamaSlotsBusy",
            "Context used": "OllamaContextFull",
            "keep_alive that requests carry": "OllamaKeepAliveOverridden",
        },
        marks=("Unexpected unloads", "Reloads and restarts", "Expired and stopped"),
    )


def _numbers() -> list[Panel]:
    place, loads = Place(4, 4), "ollama_model_loads_total"
    return [
        number(
            "Servers with it in memory",
            "Servers that have the chosen models in memory now. Good: all servers that should.",
            [Ask(f"sum({pick('ollama_model_loaded')})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
        ),
        number(
            "Last used",
            "End of the last request seen. Good: recent; otherwise its memory is idle.",
            [
                Ask(
                    f"1000 * {largest_of(pick('ollama_model_last_use_timestamp_seconds'))}",
                    "",
                    "instant",
                )
            ],
            place,
            unit=MOMENT,
            empty="no use seen yet",
        ),
        number(
            "Loads",
            "Loads in this time range. Good: about one a day. Hundreds: it is evicted or reloaded "
            "repeatedly.",
            [Ask(f"round({total(loads)})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
        ),
        number(
            "Load time",
            "Mean measured load time in this time range: what one cold start costs. Good: not "
            "longer than last week. The first load of the day reads from disk.",
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
            "Median time to the first token in this time range, cold and warm. Good: warm below a "
            "second.",
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
    # The rarer state comes first: `or` uses the first one with that series.
    expression = " or ".join(
        largest_of(part, "instance", "model")
        for part in (f"3 * ({dead} == bool 0) > 0", f"2 * ({loading} == 1)", loaded)
    )
    return states(
        "In memory or not",
        "Green: resident. Blue: loading (seen if the exporter runs beside Ollama). Red: listed, "
        "but its process is dead. Annotations give the reasons of unloads. Good: long green bars.",
        [Ask(expression, "{{model}} on {{instance}}")],
        Place(24, 8),
        of=palette.STATES,
    )


def _countdown() -> Panel:
    left = f"{pick('ollama_model_expires_timestamp_seconds')} - time()"
    soonest = largest_of(f"({left} < +Inf)", "instance", "model")
    return lines(
        "Time until it leaves",
        "Time to the current deadline, the ten soonest. Each request extends it. Falls to 0: the "
        "model expired. Ends above 0: it left early. Good: extended before it reaches 0. Models "
        "without a deadline are not drawn; at 0 a model is still in use.",
        [Ask(f"bottomk(10, {soonest})", "{{model}} on {{instance}}")],
        Place(8, 9),
        unit=SECONDS,
        empty="no loaded model has a deadline",
    )


def _keep_alive() -> Panel:
    asks = [
        Ask(
            largest_of(f"({in_effect()} < +Inf)", "model"),
            "{{model}} in effect",
        ),
        Ask(
            largest_of(f"({advised()} < +Inf)", "model"),
            "{{model}} advised",
        ),
    ]
    panel = lines(
        "Keep-alive in effect and advised",
        "The keep-alive in effect, and (dashed) the advised one, on a logarithmic scale. Good: "
        "close together. Jumps of the first come from clients that send their own. Never is not "
        "drawn.",
        asks,
        Place(8, 9),
        unit=SECONDS,
        stepped=True,
        logarithmic=True,
        empty="no keep-alive seen yet",
    )
    dashed = model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
    return panel.override_by_regexp("/advised$/", [colour(palette.GOOD), dashed])


def _unloads() -> Panel:
    return bars(
        "Unloads by reason",
        "Why it left. Good: only grey, which is its keep-alive or a stop.",
        [Ask(events("ollama_model_unloads_total", "reason"), "{{reason}}")],
        Place(8, 9),
        colours=palette.REASONS,
    )


def _who_sends() -> Panel:
    return bars(
        "keep_alive that requests carry",
        "absent: the server's own applies. finite, never: a client overrides the operator. zero: "
        "the model is unloaded at once. refused: Ollama answers 400, mostly because a string has "
        "no unit. Good: absent, or what you want; never refused.",
        [Ask(events("ollama_request_keep_alive_total", "class"), "{{class}}")],
        Place(8),
        colours=palette.KEEP_ALIVES,
        empty=NO_REQUESTS,
    )


def _options() -> Panel:
    return bars(
        "Options that can force a reload",
        "Requests with num_ctx or other options that a runner is started with. Good: all the "
        "same; otherwise each of them reloads the model.",
        [Ask(events("ollama_request_options_total", "class"), "{{class}}")],
        Place(8),
        colours={"absent": palette.GREY, "num_ctx": "dark-yellow", "other": "dark-orange"},
        empty=NO_REQUESTS,
    )


def _finishes() -> Panel:
    return bars(
        "Why answers ended",
        "stop: complete. length: cut off at the token limit. Good: only stop and tool.",
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
