# SPDX-License-Identifier: Apache-2.0
"""Section Policy of the catalogue: what the exporter did to its server."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

ACTING_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "ollama_warmups_total", "counter", "Loads by keep-warm that ended with the model.", MODEL
    ),
    Family(
        "ollama_warmup_failures_total",
        "counter",
        "Loads and renewals by keep-warm that failed.",
        MODEL,
    ),
    Family(
        "ollama_warmup_held",
        "gauge",
        "1 for models of keep-warm that should be resident, are not, and are not loaded now: why.",
        ("model", "why"),
    ),
    Family(
        "ollama_keep_alive_renewals_total",
        "counter",
        "Times that a resident model was given a longer keep-alive, by whose wish.",
        ("model", "by"),
    ),
    Family(
        "ollama_request_changes_total",
        "counter",
        "Requests in which the proxy set something, by what it was.",
        ("model", "change"),
    ),
    Family(
        "ollama_autopilot_keep_alive_seconds",
        "gauge",
        "The keep-alive that the autopilot gives to requests that carry none.",
        MODEL,
    ),
    Family(
        "ollama_autopilot_changes_total", "counter", "Times that the autopilot changed it.", MODEL
    ),
)
