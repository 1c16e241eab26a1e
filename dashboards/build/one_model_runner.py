# SPDX-License-Identifier: Apache-2.0
"""Model, the row of its runner: slots, context and tokens, which need no proxy."""

from typing import Final

from dashboards.build.panels import (
    COUNT,
    SHARE,
    TOKENS_PER_SECOND,
    Ask,
    Panel,
    Place,
    lines,
)
from dashboards.build.promql import RATE, over, pick, rate, share, total_of

NO_RUNNER: Final = "no runner seen: needs the exporter on Ollama's machine, and Ollama 0.30"
NO_COUNTERS: Final = "not counted: needs LLAMA_ARG_ENDPOINT_METRICS=1 in Ollama's environment"
ON: Final = ("instance", "model")


def slots() -> Panel:
    """Build the graph of busy slots."""
    asks = [
        Ask(total_of(pick("ollama_model_slots_busy"), "model"), "{{model}}, busy"),
        Ask(total_of(pick("ollama_model_slots"), "model"), "{{model}}, all"),
    ]
    return lines(
        "Slots",
        "Slots that work on a request, and all slots. Good: some are free; if all are busy, "
        "further requests wait.",
        asks,
        Place(8),
        unit=COUNT,
        stepped=True,
        empty=NO_RUNNER,
    )


def fill() -> Panel:
    """Build the graph of the fullest contexts."""
    used = _largest("ollama_model_context_used_tokens")
    most = _largest("ollama_model_context_used_max_tokens")
    room = f"min by ({', '.join(ON)}) ({pick('ollama_model_slot_context_tokens')})"
    return lines(
        "Context used",
        "How full the context of the fullest slot is now, and the maximum since the load. Good: "
        "below 90 %; a full context loses its beginning.",
        [
            Ask(f"topk(5, {share(used, room)})", "{{model}} on {{instance}}"),
            Ask(f"topk(5, {share(most, room)})", "{{model}} on {{instance}}, maximum"),
        ],
        Place(8),
        unit=SHARE,
        empty=NO_RUNNER,
    )


def generated() -> Panel:
    """Build the graph of tokens per second."""
    return lines(
        "Token throughput of the runner",
        "Generated tokens per second, including requests that bypass the proxy; a lower bound "
        "without the runner's own counters. Good: follows your workload.",
        [
            Ask(
                f"{rate('ollama_runner_generated_tokens_total', 'model')}"
                f" or {rate('ollama_model_observed_generated_tokens_total', 'model')}",
                "{{model}}",
            )
        ],
        Place(8),
        unit=TOKENS_PER_SECOND,
        empty=NO_RUNNER,
    )


def cache_hits() -> Panel:
    """Build the graph of the prompt cache's hits."""
    cached = rate("ollama_runner_cached_prompt_tokens_total", "model")
    read = rate("ollama_runner_prompt_tokens_total", "model")
    return lines(
        "Prompt cache hits",
        "Share of prompt tokens that came from the cache. Good: high in conversations. It falls to "
        "0 with each load.",
        [Ask(share(cached, f"({cached} + {read})"), "{{model}}")],
        Place(12),
        unit=SHARE,
        empty=NO_COUNTERS,
    )


def idle_share() -> Panel:
    """Build the graph of time in memory without work."""
    worked = f"max by ({', '.join(ON)}) (rate({over('ollama_model_busy_seconds_total', RATE)}))"
    loaded = f"avg_over_time({over('ollama_model_loaded', RATE)})"
    resident = f"max by ({', '.join(ON)}) ({loaded})"
    return lines(
        "Idle share of the time in memory",
        "Share of the time in memory in which a model did nothing. Good: low where memory is "
        "scarce. The advised keep_alive weighs it against cold starts.",
        [Ask(f"clamp_min(1 - {share(worked, resident)}, 0)", "{{model}} on {{instance}}")],
        Place(12),
        unit=SHARE,
        empty=NO_RUNNER,
    )


def _largest(metric: str) -> str:
    return f"max by ({', '.join(ON)}) ({pick(metric)})"
