# SPDX-License-Identifier: Apache-2.0
"""Section Exporter of the catalog: the exporter about itself."""

from typing import Final

from ollama_exporter.metrics.catalog.family import Family

EXPORTER_FAMILIES: Final = (
    Family(
        "ollama_exporter_build_info",
        "gauge",
        "Version and revision of the exporter and its Python version as labels; the value is "
        "always 1.",
        ("version", "revision", "pythonversion"),
    ),
    Family("ollama_exporter_targets", "gauge", "Number of Ollama servers that are watched."),
    Family(
        "ollama_exporter_target_files_rejected",
        "gauge",
        "Files in --targets-dir that were rejected. The targets that they had before stay.",
    ),
    Family(
        "ollama_exporter_probes_refused_total",
        "counter",
        "Probes of a URL that were refused: not in --probe.allow, or too many such targets.",
    ),
    Family(
        "ollama_exporter_poll_delay_seconds",
        "histogram",
        "How many seconds late polls start, with several targets.",
        buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
        stability="experimental",
    ),
    Family(
        "ollama_exporter_label_overflow_total",
        "counter",
        "Loads, and models resident at the start, that were counted under the label `other` "
        "because the limit of names was reached or the name is too long.",
        ("label",),
    ),
    Family(
        "ollama_exporter_recorder_errors_total",
        "counter",
        "Internal errors of the exporter while it recorded a poll, a request or an event.",
    ),
    Family(
        "ollama_exporter_credential_read_errors_total",
        "counter",
        "Failed reads of a file that holds a token or a certificate, while the proxy runs. Files "
        "are read once a second.",
        ("setting",),
    ),
    Family(
        "ollama_exporter_logins_refused_total",
        "counter",
        "Requests to the exporter's own port with an unknown user or a wrong password.",
    ),
    Family(
        "ollama_exporter_requests_limited_total",
        "counter",
        "Requests to the exporter's own port that were refused because of the rate limit, or "
        "because too many logins were waiting.",
    ),
    Family(
        "ollama_exporter_certificate_expiry_timestamp_seconds",
        "gauge",
        "Unix time at which the TLS certificate of a web configuration file expires; the earliest, "
        "if there are two.",
    ),
    Family(
        "ollama_exporter_log_messages_total",
        "counter",
        "Log lines that the exporter wrote, by level.",
        ("level",),
    ),
    Family(
        "ollama_exporter_config_last_reload_successful",
        "gauge",
        "Whether the last reload of the configuration succeeded (1) or failed (0).",
    ),
    Family(
        "ollama_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "Unix time of the last successful load of the configuration.",
    ),
    Family(
        "ollama_scrape_duration_seconds",
        "gauge",
        "Time to collect all families of this scrape in seconds.",
    ),
    Family(
        "ollama_scrape_collector_duration_seconds",
        "gauge",
        "Duration of a collector in this scrape in seconds.",
        ("collector",),
    ),
    Family(
        "ollama_scrape_collector_success",
        "gauge",
        "Whether a collector succeeded (1) or failed (0) in this scrape.",
        ("collector",),
    ),
)
