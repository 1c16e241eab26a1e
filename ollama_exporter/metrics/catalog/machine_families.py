# SPDX-License-Identifier: Apache-2.0
"""Section This machine of the catalog: what the server's processes and its log show."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

PROCESSES: Final = "processes"
LOG: Final = "log"

MACHINE_FAMILIES: Final = (
    Family(
        "ollama_model_runner_up",
        "gauge",
        "Whether the runner process of the listed model is alive: 0 means that it exited and the "
        "next request waits for a load. Absent if processes are not visible or the server is "
        "down.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_model_loading",
        "gauge",
        "Whether the model is being loaded: 1 while its runner process exists and no poll has "
        "listed it yet.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_model_load_started_timestamp_seconds",
        "gauge",
        "Unix time at which the runner process of the load in progress started. Absent if the "
        "model is not being loaded.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_model_load_progress_ratio",
        "gauge",
        "Share of the model's files that the runner of the load in progress has read: a lower "
        "bound, from the bytes it read or its memory. Absent if the model is not being loaded.",
        MODEL,
        source=PROCESSES,
        stability="experimental",
    ),
    Family(
        "ollama_runner_resident_memory_bytes",
        "gauge",
        "System memory used by the model's runner process in bytes; GPU memory is not included.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_runner_cpu_seconds_total",
        "counter",
        "CPU time used by the model's runner process in seconds; starts at 0 with each load.",
        MODEL,
        source=PROCESSES,
    ),
    Family(
        "ollama_server_start_time_seconds",
        "gauge",
        "Unix time at which the server process started. Absent if it does not run or is not "
        "visible.",
        source=PROCESSES,
    ),
    Family(
        "ollama_log_lines_total",
        "counter",
        "Lines read from the server's log by level; `other`: lines of runners and of the HTTP "
        "access log.",
        ("level",),
        source=LOG,
        stability="experimental",
    ),
    Family(
        "ollama_log_understood",
        "gauge",
        "Whether the format of the server's log is known (1) or not (0). Absent until a line of "
        "the server was read.",
        source=LOG,
        stability="experimental",
    ),
    Family(
        "ollama_log_contradictions_total",
        "counter",
        "Lines of the server's log that polls contradict. An increase suggests that a new version "
        "of Ollama words its log differently.",
        source=LOG,
        stability="experimental",
    ),
)
