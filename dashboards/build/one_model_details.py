# SPDX-License-Identifier: Apache-2.0
"""Model, its last row: details, time in memory, memory, processor."""

from dashboards.build.panels import (
    BYTES,
    COUNT,
    MOMENT,
    SECONDS,
    Ask,
    Panel,
    Place,
    lines,
    ranking,
)
from dashboards.build.promql import (
    EACH,
    RANGE,
    largest_of,
    pick,
    quantile,
    rate,
    rounded,
    total_of,
)
from dashboards.build.tables import Column, rows


def what() -> Panel:
    """Build the table of details."""
    names = ("digest", "family", "parameter_size", "quantization")
    headings = ("Digest", "Family", "Parameters", "Quantization")
    info = largest_of(pick("ollama_model_info"), *EACH, *names)
    columns = [
        Column(
            "Loaded", f"1000 * {_of_info('ollama_model_loaded_timestamp_seconds', info)}", MOMENT
        ),
        Column("Memory", _of_info("ollama_model_memory_bytes", info), BYTES, decimals=1, width=80),
        Column("Context", _of_info("ollama_model_context_tokens", info), decimals=0, width=75),
    ]
    return rows(
        "Details of loaded models",
        "What each server has loaded. Good: the same digest on all servers.",
        {"instance": "Server", "model": "Model", **dict(zip(names, headings, strict=True))},
        columns,
        Place(16, 8),
        empty="no model is loaded",
    )


def _of_info(metric: str, info: str) -> str:
    value = largest_of(pick(metric), *EACH)
    return f"{info} * on (job, instance, model) group_left () {value}"


def memory() -> Panel:
    """Build the graph of memory."""
    asks = [
        Ask(total_of(pick("ollama_model_memory_bytes")), "Ollama's estimate"),
        Ask(total_of(pick("ollama_model_vram_bytes")), "of it, on GPUs"),
        Ask(total_of(pick("ollama_runner_resident_memory_bytes")), "system memory"),
    ]
    return lines(
        "Memory",
        "Ollama's estimate, the part of it on GPUs, and the system memory that the runners use. "
        "Good: all of the estimate is on GPUs.",
        asks,
        Place(12, 7),
        unit=BYTES,
        stepped=True,
        empty="no model is loaded",
    )


def processor() -> Panel:
    """Build the graph of busy cores."""
    return lines(
        "CPU cores in use",
        "CPU cores that the runners keep busy. Good: below one on a GPU. Many: the model runs on "
        "the CPU.",
        [Ask(rounded(rate("ollama_runner_cpu_seconds_total", "model")), "{{model}}")],
        Place(12, 7),
        unit=COUNT,
        empty="needs the exporter on Ollama's machine",
    )


def lifetimes() -> Panel:
    """Build the ranking of times in memory."""
    stays = "ollama_model_residency_seconds"
    median = quantile(0.5, stays, "model", window=RANGE)
    asks = [Ask(f"sort_desc(topk(10, {median} >= 0))", "{{model}}", "instant")]
    return ranking(
        "Time in memory",
        "Median time from load to unload in this time range. Good: far longer than a load takes.",
        asks,
        Place(8),
        unit=SECONDS,
        empty="no unload seen",
    )
