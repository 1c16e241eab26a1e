# SPDX-License-Identifier: Apache-2.0
"""Model, its work: cold against warm, speed, queue."""

from typing import Final

from dashboards.build import palette
from dashboards.build.charts import heat
from dashboards.build.panels import (
    COUNT,
    NO_REQUESTS,
    SECONDS,
    TOKENS_PER_SECOND,
    Ask,
    Panel,
    Place,
    lines,
)
from dashboards.build.promql import (
    buckets,
    largest_of,
    mean,
    pick,
    quantile,
    rate,
    share,
    total_of,
)

WAIT: Final = "ollama_request_load_wait_seconds"
DURATION: Final = "ollama_request_duration_seconds"


def cold() -> Panel:
    """Build the heat map of cold requests."""
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


def warm() -> Panel:
    """Build the heat map of warm requests."""
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


def waits() -> Panel:
    """Build the graph of waits for loads."""
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


def first_tokens() -> Panel:
    """Build the graph of first tokens."""
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


def speed() -> Panel:
    """Build the graph of tokens per second of one answer."""
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


def tokens() -> Panel:
    """Build the graph of tokens."""
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


def queue() -> Panel:
    """Build the graph of requests that wait."""
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


def context() -> Panel:
    """Build the graph of contexts."""
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
