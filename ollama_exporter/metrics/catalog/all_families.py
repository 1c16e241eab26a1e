# SPDX-License-Identifier: Apache-2.0
"""Every metric family once: the collectors, docs/metrics.md and the tests read it from here."""

from typing import Final

from ollama_exporter.advice.idle_histogram import BOUNDS
from ollama_exporter.metrics.catalog.family import MODEL, Family
from ollama_exporter.metrics.catalog.machine_families import MACHINE_FAMILIES
from ollama_exporter.metrics.catalog.policy_families import ACTING_FAMILIES
from ollama_exporter.metrics.catalog.request_families import REQUEST_FAMILIES

RESIDENCY_BUCKETS: Final = (60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
LOAD_BUCKETS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)

SECTIONS: Final[dict[str, tuple[Family, ...]]] = {
    "Server": (
        Family("ollama_up", "gauge", "1 if the last poll of /api/ps was answered."),
        Family(
            "ollama_version_info",
            "gauge",
            "Constant 1; version as of /api/version, asked rarely.",
            ("version",),
        ),
        Family(
            "ollama_last_poll_success_timestamp_seconds",
            "gauge",
            "Moment of the last answered poll; residency series are as of then.",
        ),
        Family("ollama_poll_duration_seconds", "gauge", "Duration of the last poll."),
        Family("ollama_polls_total", "counter", "Polls of /api/ps that ended."),
        Family(
            "ollama_poll_failures_total",
            "counter",
            "Polls without a usable answer, by reason.",
            ("reason",),
        ),
        Family("ollama_restarts_total", "counter", "Restarts of the server that were noticed."),
        Family("ollama_models_installed", "gauge", "Entries of /api/tags, asked rarely."),
        Family(
            "ollama_model_disk_bytes",
            "gauge",
            "Size of an installed model (size of /api/tags).",
            MODEL,
        ),
    ),
    "Residency": (
        Family(
            "ollama_model_loaded",
            "gauge",
            "1 if the last answered poll listed the model, 0 if it is known or expected and was "
            "not listed. Absent during an outage, except 0 for expected models.",
            MODEL,
        ),
        Family(
            "ollama_model_info",
            "gauge",
            "Constant 1 for each listed model (details of /api/ps).",
            ("model", "digest", "family", "format", "parameter_size", "quantization"),
        ),
        Family("ollama_model_memory_bytes", "gauge", "Memory in use (size of /api/ps).", MODEL),
        Family(
            "ollama_model_vram_bytes",
            "gauge",
            "GPU memory in use, summed over all GPUs (size_vram of /api/ps).",
            MODEL,
        ),
        Family(
            "ollama_model_context_tokens",
            "gauge",
            "Context of one slot (context_length of /api/ps).",
            MODEL,
        ),
        Family(
            "ollama_model_expires_timestamp_seconds",
            "gauge",
            "Deadline as the server last announced it, on its clock (expires_at of /api/ps); "
            "stale while a request runs, +Inf for never.",
            MODEL,
        ),
        Family(
            "ollama_model_keep_alive_seconds",
            "gauge",
            "Keep-alive in effect, +Inf for never; absent unless a sliding deadline or a request "
            "shows it exactly.",
            MODEL,
        ),
        Family(
            "ollama_model_loaded_timestamp_seconds",
            "gauge",
            "First poll that listed this incarnation: the load ended before it.",
            MODEL,
        ),
        Family(
            "ollama_model_last_use_timestamp_seconds",
            "gauge",
            "End of the last request seen; absent where requests are not seen.",
            MODEL,
        ),
        Family(
            "ollama_model_expected",
            "gauge",
            "1 for models that the operator expects to be resident.",
            MODEL,
        ),
    ),
    "Lifecycle": (
        Family("ollama_model_loads_total", "counter", "Absent to resident transitions.", MODEL),
        Family(
            "ollama_model_unloads_total",
            "counter",
            "Unloads, counted once, when the reason is settled.",
            ("model", "reason"),
        ),
        Family(
            "ollama_model_unloads_pending",
            "gauge",
            "Unloads whose reason is not settled yet.",
        ),
        Family(
            "ollama_model_loads_witnessed_total",
            "counter",
            "Loads for which a request or a process was seen: the coverage that reasons rest on.",
            ("source",),
        ),
        Family(
            "ollama_model_last_unload_timestamp_seconds",
            "gauge",
            "Latest moment at which the last unload with this reason can have happened.",
            ("model", "reason"),
        ),
        Family(
            "ollama_model_last_unload_early_seconds",
            "gauge",
            "How long before its deadline, at least, the model left at the last unload with this "
            "reason: 0 if not before, +Inf if it was to stay for ever.",
            ("model", "reason"),
        ),
        Family(
            "ollama_model_evictions_total",
            "counter",
            "Evictions whose evictor is known: `by` is the model that took the room.",
            ("model", "by"),
        ),
        Family(
            "ollama_model_residency_seconds",
            "histogram",
            "Lifetime of an incarnation, from the first poll that listed it.",
            MODEL,
            RESIDENCY_BUCKETS,
        ),
        Family(
            "ollama_model_load_seconds",
            "histogram",
            "Time to load, each load once, where it was measured: from the birth of its process to "
            "the poll that listed it, by the server's log, or by a request that waited for it.",
            MODEL,
            LOAD_BUCKETS,
            source="processes, log or requests",
        ),
        Family(
            "ollama_model_idle_gap_seconds",
            "histogram",
            "How long the model was idle: end of a request to the start of the next one, where "
            "requests are seen; else as deadlines tell it, answering included. Absent as "
            "long as it is kept for ever and requests are not seen.",
            MODEL,
            BOUNDS,
        ),
        Family(
            "ollama_model_idle_gap_truncated_seconds_total",
            "counter",
            "Sum of the smaller of idle gap and le: makes idle memory exact.",
            ("model", "le"),
        ),
        Family(
            "ollama_model_idle_gaps_inferred_total",
            "counter",
            "Idle gaps that deadlines alone tell of: those below the poll interval are missing.",
            MODEL,
        ),
    ),
    "Policy": (
        Family(
            "ollama_model_advised_keep_alive_seconds",
            "gauge",
            "keep_alive that the idle gaps since the start (or those in the state file) argue "
            "for, a GB-hour being worth 2 s of waiting; 0 for unload at once, +Inf for never.",
            MODEL,
        ),
        Family(
            "ollama_model_advice_samples",
            "gauge",
            "Idle gaps that it rests on: below 20 it is a rule of thumb, from 50 on measured.",
            MODEL,
        ),
        Family(
            "ollama_model_advice_load_seconds",
            "gauge",
            "Time to load that it reckons with: the mean that was measured, else an assumption "
            "from the size.",
            MODEL,
        ),
        Family(
            "ollama_model_advice_memory_bytes",
            "gauge",
            "Memory that it reckons with: what the model took when it was last resident.",
            MODEL,
        ),
        Family(
            "ollama_model_last_keep_alive_seconds",
            "gauge",
            "keep_alive in force when the model was last resident, +Inf for never; the roundest "
            "value that deadlines allow. Absent where they do not tell it.",
            MODEL,
        ),
        *ACTING_FAMILIES,
    ),
    "This machine": MACHINE_FAMILIES,
    "Requests": REQUEST_FAMILIES,
    "Exporter": (
        Family(
            "ollama_exporter_build_info",
            "gauge",
            "Constant 1; what runs here.",
            ("version", "revision", "pythonversion"),
        ),
        Family("ollama_exporter_targets", "gauge", "Servers that are watched."),
        Family(
            "ollama_exporter_label_overflow_total",
            "counter",
            "Times that a model was loaded, or found resident, and its name was folded into "
            "`other`: the limit of names was reached, or the name is too long.",
            ("label",),
        ),
        Family(
            "ollama_exporter_recorder_errors_total",
            "counter",
            "Errors inside the exporter while it recorded an event.",
        ),
        Family("ollama_exporter_log_messages_total", "counter", "Log lines by level.", ("level",)),
        Family(
            "ollama_exporter_config_last_reload_successful",
            "gauge",
            "1 if the last reload of the configuration was accepted.",
        ),
        Family(
            "ollama_exporter_config_last_reload_success_timestamp_seconds",
            "gauge",
            "Moment of the last configuration that was accepted.",
        ),
        Family("ollama_scrape_duration_seconds", "gauge", "Time that collecting this scrape took."),
        Family(
            "ollama_scrape_collector_duration_seconds",
            "gauge",
            "Time that a collector took in this scrape.",
            ("collector",),
        ),
        Family(
            "ollama_scrape_collector_success",
            "gauge",
            "1 if a collector succeeded in this scrape.",
            ("collector",),
        ),
    ),
}
FAMILIES: Final[dict[str, Family]] = {
    family.name: family for families in SECTIONS.values() for family in families
}
