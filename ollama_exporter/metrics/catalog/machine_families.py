# SPDX-License-Identifier: Apache-2.0
"""The section This machine of the catalogue: what processes and the log of the server show."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

PROCESSES: Final = "processes"
LOG: Final = "log"

MACHINE_FAMILIES: Final = (
    Family(
        "ollama_model_runner_up",
        "gauge",
        "1 if the listed model's process lives; 0: it is listed and its process is dead, so that "
        "the next request waits for a load. Absent where it cannot be seen, and in an outage.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_model_loading",
        "gauge",
        "1 while the model's process exists and it is not listed yet: it is being loaded.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_model_load_started_timestamp_seconds",
        "gauge",
        "Birth of that process; absent while the model is not being loaded.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_runner_resident_memory_bytes",
        "gauge",
        "Memory of the machine that the model's process holds (of a GPU's none is counted).",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_runner_cpu_seconds_total",
        "counter",
        "CPU that the model's process has used since its birth; begins anew with each load.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_server_start_time_seconds",
        "gauge",
        "Birth of the server's process; absent while there is none, or it cannot be seen.",
        source=PROCESSES,
    ),
    Family(
        "ollama_log_lines_total",
        "counter",
        "Lines read from the server's log, by level; `other` are those of runners and of requests.",
        ("level",),
        source=LOG,
    ),
    Family(
        "ollama_log_contradictions_total",
        "counter",
        "Lines of the server's log that polls contradict: its wording may have changed.",
        source=LOG,
    ),
)
