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
from dashboards.build.one_model_runner import cache_hits, fill, generated, idle_share, slots
from dashboards.build.panels import (
    COUNT,
    MOMENT,
    NO_MODEL,
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
    until,
)

COLD_SHARE: Final = thresholds(palette.GOOD, (0.1, palette.WARN), (0.3, palette.BAD))


def one_model() -> model.Dashboard:
    """Build the dashboard."""
    return dashboard(
        "ollama-model",
        "When a model was in memory and why it was unloaded, when it unloads next, what its "
        "requests waited for, and how fast it is. Choose the model above.",
        [
            ("", _numbers()),
            (
                "In memory",
                [_states(), _countdown(), _keep_alive(), _unloads()],
            ),
            ("Cold and warm requests", [cold(), warm(), waits(), first_tokens()]),
            ("Speed and queue", [speed(), tokens(), queue(), context()]),
            (
                "Runner: slots, context, tokens",
                [slots(), fill(), generated(), cache_hits(), idle_share()],
            ),
            ("What clients send", [_who_sends(), _options(), _finishes()]),
            ("Model details", [what(), lifetimes(), memory(), processor()]),
        ],
        marked=["When models were loaded", "Time until unload"],
        runbooks={
            "When models were loaded": "OllamaUnexpectedUnload",
            "Cold starts": "OllamaColdStartShareHigh",
            "Waiting time for a load": "OllamaLoadTimeRegressed",
            "Generation speed of a request": "OllamaFellToCPU",
            "Context size": "OllamaReloadThrash",
            "Slots": "OllamaSlotsBusy",
            "Context used": "OllamaContextFull",
            "keep_alive in requests": "OllamaKeepAliveOverridden",
        },
        marks=("Unexpected unloads", "Reloads and restarts", "Expired and stopped"),
    )


def _numbers() -> list[Panel]:
    place, loads = Place(4, 4), "ollama_model_loads_total"
    return [
        number(
            "Loaded on servers",
            "Servers that have the chosen models in memory now. Good: all servers that should.",
            [Ask(f"sum({pick('ollama_model_loaded')})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            empty=NO_MODEL,
        ),
        number(
            "Last used",
            "When the last seen request ended. Good: recent; otherwise the memory is idle.",
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
            "Loads in this time range. Good: about one a day. Hundreds: the model is evicted or "
            "reloaded again and again.",
            [Ask(f"round({total(loads)})", "", "instant")],
            place,
            unit=COUNT,
            decimals=0,
            empty=NO_MODEL,
        ),
        number(
            "Load time",
            "Mean load time in this time range, which is what a cold start costs. Good: no longer "
            "than last week. The first load of the day reads from disk.",
            [Ask(mean("ollama_model_load_seconds", window=RANGE), "", "instant")],
            place,
            unit=SECONDS,
            empty="no load measured",
        ),
        number(
            "Cold starts",
            "Share of the requests in this time range that waited for a load. Good: below 10 %.",
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
            empty="no requests seen",
            decimals=1,
        ),
        number(
            "Time to first token",
            "Median of cold and of warm requests in this time range. Good: warm below a second.",
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
            empty="no requests seen",
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
        "When models were loaded",
        "Green: loaded. Blue: loading (seen if the exporter runs beside Ollama). Red: the process "
        "died, and Ollama still lists the model. Marks give the reasons for unloads. Good: long "
        "green bars.",
        [Ask(expression, "{{model}} on {{instance}}")],
        Place(24, 8),
        of=palette.STATES,
    )


def _countdown() -> Panel:
    left = until("ollama_model_expires_timestamp_seconds")
    soonest = largest_of(f"({left} < +Inf)", "instance", "model")
    return lines(
        "Time until unload",
        "Time left of the keep-alive, for the ten models that unload soonest; each request starts "
        "it anew. Good: requests come before it reaches 0. Ends at 0: expired. Ends above 0: "
        "unloaded early. Stays at 0: in use. Models that never unload are not drawn.",
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
        "Current and advised keep-alive",
        "The current keep-alive and, dashed, the advised one (from 20 idle gaps on); logarithmic "
        "scale. Good: close together. Jumps come from clients that send their own keep_alive. "
        "Never is not drawn.",
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
        "Why the model was unloaded. Good: only grey, which is an expired keep-alive or a stop.",
        [Ask(events("ollama_model_unloads_total", "reason"), "{{reason}}")],
        Place(8, 9),
        colours=palette.REASONS,
        empty=NO_MODEL,
    )


def _who_sends() -> Panel:
    return bars(
        "keep_alive in requests",
        "absent: the server's default applies. finite, never: the client overrides it. zero: the "
        "model unloads at once. refused: Ollama answers 400, mostly because a string has no unit. "
        "Good: only absent, or what you agreed with your clients.",
        [Ask(events("ollama_request_keep_alive_total", "class"), "{{class}}")],
        Place(8),
        colours=palette.KEEP_ALIVES,
        empty=NO_REQUESTS,
    )


def _options() -> Panel:
    return bars(
        "Options that can force a reload",
        "Requests with num_ctx or other options with which a model is loaded. Good: the same in "
        "all requests; each change reloads the model.",
        [Ask(events("ollama_request_options_total", "class"), "{{class}}")],
        Place(8),
        colours={"absent": palette.GREY, "num_ctx": "dark-yellow", "other": "dark-orange"},
        empty=NO_REQUESTS,
    )


def _finishes() -> Panel:
    return bars(
        "Why answers ended",
        "stop: complete. tool: a tool is called. length: cut off at the token limit. load: only "
        "loaded the model. Good: only stop and tool.",
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
