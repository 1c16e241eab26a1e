# SPDX-License-Identifier: Apache-2.0
"""Section Server of the catalog: what polls show of the server itself."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

SERVER_FAMILIES: Final = (
    Family("ollama_up", "gauge", "Whether the last poll of /api/ps succeeded (1) or failed (0)."),
    Family(
        "ollama_version_info",
        "gauge",
        "Version of the Ollama server (/api/version) as a label; the value is always 1.",
        ("version",),
    ),
    Family(
        "ollama_last_poll_success_timestamp_seconds",
        "gauge",
        "Unix time of the last successful poll. The residency series are as of this moment.",
    ),
    Family(
        "ollama_poll_duration_seconds",
        "gauge",
        "Duration of the last poll in seconds, whether it succeeded or failed.",
    ),
    Family("ollama_polls_total", "counter", "Finished polls of /api/ps, failed ones included."),
    Family(
        "ollama_poll_failures_total",
        "counter",
        "Failed polls of /api/ps by reason.",
        ("reason",),
    ),
    Family(
        "ollama_malformed_entries_total",
        "counter",
        "Entries of a listing with a field that could not be read, by path of the listing.",
        ("path",),
    ),
    Family("ollama_restarts_total", "counter", "Detected restarts of the Ollama server."),
    Family(
        "ollama_address_shared",
        "gauge",
        "Whether several servers seem to answer at this address (1), behind a balancer for "
        "example. Unloads are not counted meanwhile.",
        stability="experimental",
    ),
    Family(
        "ollama_models_installed",
        "gauge",
        "Number of installed models (/api/tags), refreshed every 10 minutes.",
    ),
    Family(
        "ollama_model_disk_bytes",
        "gauge",
        "Size of the installed model on disk in bytes (size in /api/tags).",
        MODEL,
    ),
)
