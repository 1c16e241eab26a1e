# SPDX-License-Identifier: Apache-2.0
"""Section Lifecycle of the catalog: loads, unloads with their reasons, and idle gaps."""

from typing import Final

from ollama_exporter.advice.idle_histogram import BOUNDS
from ollama_exporter.metrics.catalog.family import MODEL, Family

RESIDENCY_BUCKETS: Final = (60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
LOAD_BUCKETS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 600)

LOAD_UNLOAD_FAMILIES: Final = (
    Family("ollama_model_loads_total", "counter", "Times the model was loaded into memory.", MODEL),
    Family(
        "ollama_model_unloads_total",
        "counter",
        "Times the model was unloaded, by reason. Counted when the reason is final.",
        ("model", "reason"),
    ),
    Family(
        "ollama_model_unexpected_unloads_total",
        "counter",
        "Times the model was evicted, crashed or ran out of memory, if that reason has a "
        "confidence of at least 0.8. Alerts use it.",
        ("model", "reason"),
    ),
    Family(
        "ollama_model_unloads_pending",
        "gauge",
        "Number of unloads whose reason is not final yet.",
    ),
    Family(
        "ollama_model_loads_witnessed_total",
        "counter",
        "Loads that a request or a process confirmed, by source. Their share of all loads tells "
        "how much of the traffic is seen.",
        ("source",),
        stability="experimental",
    ),
    Family(
        "ollama_model_last_unload_timestamp_seconds",
        "gauge",
        "Unix time of the last unload with this reason (the latest possible moment).",
        ("model", "reason"),
    ),
    Family(
        "ollama_model_last_unload_early_seconds",
        "gauge",
        "How many seconds before the model's deadline the last unload with this reason happened, "
        "at least: 0 if it was not early, +Inf if the model had no deadline.",
        ("model", "reason"),
    ),
    Family(
        "ollama_model_evictions_total",
        "counter",
        "Evictions of the model, if it is known which model (`by`) took its memory.",
        ("model", "by"),
    ),
    Family(
        "ollama_model_residency_seconds",
        "histogram",
        "Time that the model stayed in memory in seconds, from the first poll that listed it to "
        "its unload.",
        MODEL,
        RESIDENCY_BUCKETS,
    ),
    Family(
        "ollama_model_load_seconds",
        "histogram",
        "Load time in seconds, one observation for each measured load: from the start of the "
        "runner process to the poll that listed the model, as the server's log states it, or as "
        "measured by a request that waited for it.",
        MODEL,
        LOAD_BUCKETS,
        source="processes, log or requests",
    ),
    Family(
        "ollama_model_idle_gap_seconds",
        "histogram",
        "Idle time between two uses of the model in seconds: from the end of a request to the "
        "start of the next. Without a proxy or shim it is inferred from deadlines and includes "
        "the time to answer; it is then absent while the model never expires.",
        MODEL,
        BOUNDS,
    ),
    Family(
        "ollama_model_idle_gap_truncated_seconds_total",
        "counter",
        "Sum of min(idle gap, le) in seconds: the idle time that a keep-alive of le would have "
        "kept the model in memory.",
        ("model", "le"),
        stability="experimental",
    ),
    Family(
        "ollama_model_idle_gaps_inferred_total",
        "counter",
        "Idle gaps inferred from deadlines alone; gaps shorter than the poll interval are missing.",
        MODEL,
        stability="experimental",
    ),
)
