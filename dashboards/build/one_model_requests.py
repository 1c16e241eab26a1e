# SPDX-License-Identifier: Apache-2.0
"""Model, its middle rows: cold and warm requests, speed, queue."""

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
    rounded,
    share,
    total_of,
)

WAIT: Final = "ollama_request_load_wait_seconds"
DURATION: Final = "ollama_request_duration_seconds"


def cold() -> Panel:
    """Build the heat map of cold requests."""
    return heat(
        "Duration of cold requests",
        "Total duration of requests that waited for a load. Good: few and short. The difference "
        "from warm requests is the price of a cold start.",
        Ask(buckets(DURATION, start="=cold"), "{{le}}", "heatmap"),
        Place(12),
        unit=SECONDS,
        scheme="Blues",
        empty="no cold request seen",
    )


def warm() -> Panel:
    """Build the heat map of warm requests."""
    return heat(
        "Duration of warm requests",
        "Total duration of requests that found the model in memory. Good: a dense band that does "
        "not move.",
        Ask(buckets(DURATION, start="=warm"), "{{le}}", "heatmap"),
        Place(12),
        unit=SECONDS,
        scheme="Oranges",
        empty="no warm request seen",
    )


def waits() -> Panel:
    """Build the graph of waits for loads."""
    asks = [
        Ask(quantile(0.95, WAIT, start="=cold"), "wait, 95th percentile"),
        Ask(quantile(0.5, WAIT, start="=cold"), "wait, median"),
        Ask(mean("ollama_model_load_seconds"), "load, mean"),
    ]
    return lines(
        "Waiting time for a load",
        "How long cold requests waited, and how long loads took. Good: waits are hardly longer "
        "than the loads. Much longer: loads queue behind each other.",
        asks,
        Place(12),
        unit=SECONDS,
        colours={
            "wait, 95th percentile": "dark-blue",
            "wait, median": "light-blue",
            "load, mean": palette.GREY,
        },
        empty="no cold request seen",
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
        "19 of 20 requests got their first token within this time; logarithmic scale. Good: warm "
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
        "Generation speed of a request",
        "Tokens per second that one request gets while its answer is generated; the ten slowest. "
        "Good: a level line. A drop to a tenth: the model runs on the CPU.",
        [Ask(f"bottomk(10, {share(tokens, spent)})", "{{model}} on {{instance}}")],
        Place(6),
        unit=TOKENS_PER_SECOND,
        empty=NO_REQUESTS,
    )


def tokens() -> Panel:
    """Build the graph of tokens."""
    asks = [
        Ask(rate("ollama_request_output_tokens_total"), "answers"),
        Ask(rate("ollama_request_prompt_tokens_total"), "prompts"),
        Ask(rate("ollama_request_cached_prompt_tokens_total"), "prompts, from cache"),
    ]
    return lines(
        "Token throughput of requests",
        "Tokens per second over all servers, counted when a request ends. Good: follows your "
        "workload. Little from the cache: each load loses the prompt cache.",
        asks,
        Place(6),
        unit=TOKENS_PER_SECOND,
        colours={
            "answers": palette.PARTS["generation"],
            "prompts": palette.PARTS["prompt"],
            "prompts, from cache": palette.GREY,
        },
        empty=NO_REQUESTS,
    )


def queue() -> Panel:
    """Build the graph of requests that wait."""
    asks = [
        Ask(total_of(pick("ollama_requests_waiting_for_load"), "model"), "{{model}}, for a load"),
        Ask(
            rounded(rate("ollama_request_unaccounted_seconds_sum", "model")),
            "{{model}}, for a slot",
        ),
    ]
    return lines(
        "Waiting requests",
        "Requests that wait for a load, and the mean number that waits for a free slot or for a "
        "client that reads slowly. Good: 0. OLLAMA_NUM_PARALLEL sets the slots.",
        asks,
        Place(6),
        unit=COUNT,
        empty=NO_REQUESTS,
    )


def context() -> Panel:
    """Build the graph of contexts."""
    largest = largest_of(pick("ollama_model_context_tokens"), "instance", "model")
    return lines(
        "Context size",
        "Tokens of context with which a model is loaded; the ten largest. Good: level lines. "
        "Jumps: clients that send different num_ctx make the model reload.",
        [Ask(f"topk(10, {largest})", "{{model}} on {{instance}}")],
        Place(6),
        unit=COUNT,
        stepped=True,
        empty="no model is loaded",
    )
