# SPDX-License-Identifier: Apache-2.0
"""The section Requests of the catalogue: what a shim fills."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

# The conventions of OpenTelemetry for generative AI, up to where a load outgrows them.
DURATION_BUCKETS: Final = (
    *(0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(180, 420, 900, 1800),
)
FIRST_TOKEN_BUCKETS: Final = (0.02, 0.04, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
WAIT_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)
PART_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
TOKEN_BUCKETS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
START: Final = ("model", "start")
REQUESTS: Final = "requests"

REQUEST_FAMILIES: Final = (
    Family(
        "ollama_requests_total",
        "counter",
        "Requests that ended, by status of the answer; 499: the client left before there was "
        "one. `model` is empty where a request names none.",
        ("model", "route", "code"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_failures_total",
        "counter",
        "Requests that ended otherwise than with a full answer.",
        ("model", "route", "outcome"),
        source=REQUESTS,
    ),
    Family(
        "ollama_requests_aborted_total",
        "counter",
        "Requests whose client left, by what it was waiting for.",
        ("model", "phase"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_finish_reasons_total",
        "counter",
        "Why answers ended (done_reason and its like); `length` is a truncated one.",
        ("model", "finish"),
        source=REQUESTS,
    ),
    Family(
        "ollama_requests_in_flight",
        "gauge",
        "Requests that were begun and have not ended.",
        ("route",),
        source=REQUESTS,
    ),
    Family(
        "ollama_requests_waiting_for_load",
        "gauge",
        "Requests without a first byte whose model was not resident when they came.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_oldest_wait_timestamp_seconds",
        "gauge",
        "Begin of the oldest request that waits for a load; absent while none does.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_cold_starts_total",
        "counter",
        "Requests that had to wait for a load.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_duration_seconds",
        "histogram",
        "From a request's first byte to the end of its answer, clients that left included.",
        START,
        DURATION_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_time_to_first_token_seconds",
        "histogram",
        "From a request's first byte to the first content of its streamed answer.",
        START,
        FIRST_TOKEN_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_load_wait_seconds",
        "histogram",
        "Wait for a runner, queueing included and the upload of the body taken off "
        "(load_duration, or all of a preload). Each of many waiting requests counts.",
        START,
        WAIT_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_prompt_eval_seconds",
        "histogram",
        "Prompt evaluation, of tokens that were not cached (prompt_eval_duration).",
        MODEL,
        PART_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_eval_seconds",
        "histogram",
        "Generation, from the end of the prompt to the last token (eval_duration).",
        MODEL,
        DURATION_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_unaccounted_seconds",
        "histogram",
        "Total less load, prompt and generation: wait for a slot, templating, a slow reader.",
        MODEL,
        PART_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_time_per_output_token_seconds",
        "histogram",
        "Mean time between the tokens of an answer of two or more.",
        MODEL,
        TOKEN_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_prompt_tokens_total",
        "counter",
        "Tokens of prompts, cached ones included, where answers say.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_cached_prompt_tokens_total",
        "counter",
        "Tokens of prompts that were cached, where answers say.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_output_tokens_total",
        "counter",
        "Tokens that were generated, where answers say.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_keep_alive_total",
        "counter",
        "The keep_alive that requests carried: who overrides the operator.",
        ("model", "class"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_options_total",
        "counter",
        "Requests by the options able to force a reload that they name.",
        ("model", "class"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_bytes_total",
        "counter",
        "Bytes of the bodies of requests that ended.",
        ("route",),
        source=REQUESTS,
    ),
    Family(
        "ollama_response_bytes_total",
        "counter",
        "Bytes of the bodies of their answers.",
        ("route",),
        source=REQUESTS,
    ),
)
