# SPDX-License-Identifier: Apache-2.0
"""Section Requests of the catalog: what the proxy or the in-process shim observes."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

# OpenTelemetry's conventions for generative AI up to 81.92 s; beyond, loads need longer bounds.
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
        "Finished requests by status code; 499 if the client left before the answer began. "
        "`model` is empty if the request names no model.",
        ("model", "route", "code"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_failures_total",
        "counter",
        "Finished requests without a complete answer, by outcome.",
        ("model", "route", "outcome"),
        source=REQUESTS,
    ),
    Family(
        "ollama_requests_aborted_total",
        "counter",
        "Requests whose client disconnected early, by what it was waiting for.",
        ("model", "phase"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_finish_reasons_total",
        "counter",
        "Complete answers by finish reason (done_reason or its equivalent); `length`: cut short.",
        ("model", "finish"),
        source=REQUESTS,
    ),
    Family(
        "ollama_requests_in_flight",
        "gauge",
        "Number of requests in progress.",
        ("route",),
        source=REQUESTS,
    ),
    Family(
        "ollama_requests_waiting_for_load",
        "gauge",
        "Number of requests that are waiting for their model to be loaded.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_oldest_wait_timestamp_seconds",
        "gauge",
        "Unix time at which the oldest request waiting for a load began. Absent if none waits.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_cold_starts_total",
        "counter",
        "Requests that had to wait for their model to be loaded.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_duration_seconds",
        "histogram",
        "Duration of a request in seconds, from its first byte to the end of its answer. Requests "
        "whose client left are included.",
        START,
        DURATION_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_time_to_first_token_seconds",
        "histogram",
        "Time in seconds from a request's first byte to the first content of its streamed answer.",
        START,
        FIRST_TOKEN_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_load_wait_seconds",
        "histogram",
        "Time in seconds that a request waited for a runner (load_duration, or all of a preload), "
        "with queueing and without the upload of the body. Every waiting request counts.",
        START,
        WAIT_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_prompt_eval_seconds",
        "histogram",
        "Time in seconds to evaluate the uncached tokens of the prompt (prompt_eval_duration).",
        MODEL,
        PART_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_eval_seconds",
        "histogram",
        "Time in seconds to generate the answer, from the end of the prompt to the last token "
        "(eval_duration).",
        MODEL,
        DURATION_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_unaccounted_seconds",
        "histogram",
        "Total time in seconds minus load, prompt and generation: waiting for a slot, templating, "
        "a slow client.",
        MODEL,
        PART_BUCKETS,
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_request_time_per_output_token_seconds",
        "histogram",
        "Mean time between two tokens of an answer in seconds; answers of one token do not count.",
        MODEL,
        TOKEN_BUCKETS,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_prompt_tokens_total",
        "counter",
        "Prompt tokens, cached ones included, as reported in answers.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_cached_prompt_tokens_total",
        "counter",
        "Cached prompt tokens, as reported in answers.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_output_tokens_total",
        "counter",
        "Generated tokens, as reported in answers.",
        MODEL,
        source=REQUESTS,
    ),
    Family(
        "ollama_request_keep_alive_total",
        "counter",
        "Requests by the kind of keep_alive they carried, which overrides the server's default. "
        "`refused`: the server answers 400.",
        ("model", "class"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_options_total",
        "counter",
        "Requests by whether they carried options that can force a reload.",
        ("model", "class"),
        source=REQUESTS,
    ),
    Family(
        "ollama_request_bytes_total",
        "counter",
        "Size of the bodies of finished requests in bytes.",
        ("route",),
        source=REQUESTS,
    ),
    Family(
        "ollama_response_bytes_total",
        "counter",
        "Size of the answers of finished requests in bytes.",
        ("route",),
        source=REQUESTS,
    ),
)
