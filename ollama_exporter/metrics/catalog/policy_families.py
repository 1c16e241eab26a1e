# SPDX-License-Identifier: Apache-2.0
"""Section Policy of the catalog: what the exporter advises, and what it does to its server."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

POLICY_FAMILIES: Final = (
    Family(
        "ollama_model_advised_keep_alive_seconds",
        "gauge",
        "Advised keep-alive in seconds, from the idle gaps since the start or in the state file, "
        "if a GB-hour costs as much as 2 s of waiting. 0: unload at once, +Inf: never unload.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_advice_samples",
        "gauge",
        "Number of idle gaps behind the advice: below 20 a rule of thumb, from 50 on measured.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_advice_load_seconds",
        "gauge",
        "Load time in seconds that the advice assumes: the mean of all measured loads, or else an "
        "estimate from the model's size.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_advice_loads",
        "gauge",
        "Number of measured loads behind ollama_model_advice_load_seconds; 0 if it is an estimate.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_advice_since_timestamp_seconds",
        "gauge",
        "Unix time since which the idle gaps behind the advice are counted. A state file carries "
        "them over restarts.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_advice_memory_bytes",
        "gauge",
        "Memory in bytes that the advice assumes: what the model used when it was last resident.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_last_keep_alive_seconds",
        "gauge",
        "Keep-alive in seconds when the model was last resident, as precise as deadlines show it; "
        "+Inf if it never expired. Absent if deadlines do not show it.",
        MODEL,
    ),
    Family("ollama_warmups_total", "counter", "Successful loads by keep-warm.", MODEL),
    Family(
        "ollama_warmup_failures_total",
        "counter",
        "Failed loads and renewals by keep-warm.",
        MODEL,
    ),
    Family(
        "ollama_warmup_held",
        "gauge",
        "1 for each keep-warm model that is not resident and not being loaded, by reason (`why`).",
        ("model", "why"),
        stability="experimental",
    ),
    Family(
        "ollama_keep_alive_renewals_total",
        "counter",
        "Times the keep-alive of a resident model was extended, by the feature that did it.",
        ("model", "by"),
    ),
    Family(
        "ollama_request_changes_total",
        "counter",
        "Requests that the proxy changed, by what it set.",
        ("model", "change"),
    ),
    Family(
        "ollama_autopilot_keep_alive_seconds",
        "gauge",
        "Keep-alive in seconds that the autopilot sets on requests that carry none.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_autopilot_changes_total",
        "counter",
        "Times the autopilot changed the keep-alive of the model.",
        MODEL,
        stability="experimental",
    ),
)
