# SPDX-License-Identifier: Apache-2.0
"""Model, what it is: details, memory, processor, lifetimes."""

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
    total_of,
)
from dashboards.build.tables import Column, rows


def what() -> Panel:
    """Build the table of what is loaded."""
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
        "What is loaded",
        "Details of what is resident. Good: one digest on all servers.",
        {"instance": "Server", "model": "Model", **dict(zip(names, headings, strict=True))},
        columns,
        Place(16, 8),
        empty="nothing is resident",
    )


def _of_info(metric: str, info: str) -> str:
    value = largest_of(pick(metric), *EACH)
    return f"{info} * on (job, instance, model) group_left () {value}"


def memory() -> Panel:
    """Build the graph of memory."""
    asks = [
        Ask(total_of(pick("ollama_model_memory_bytes")), "as Ollama plans"),
        Ask(total_of(pick("ollama_model_vram_bytes")), "of that on GPU"),
        Ask(total_of(pick("ollama_runner_resident_memory_bytes")), "resident, of its process"),
    ]
    return lines(
        "Memory",
        "What Ollama says it takes, how much of that lies on GPUs, and what its processes really "
        "hold of main memory. Good: all on the GPU.",
        asks,
        Place(12, 7),
        unit=BYTES,
        stepped=True,
        empty="nothing is resident",
    )


def processor() -> Panel:
    """Build the graph of busy cores."""
    return lines(
        "Processor",
        "Cores that its runners keep busy. Good: below one on a GPU; many: it computes on the CPU.",
        [Ask(rate("ollama_runner_cpu_seconds_total", "model"), "{{model}}")],
        Place(12, 7),
        unit=COUNT,
        empty="processes are seen where the exporter runs beside Ollama",
    )


def lifetimes() -> Panel:
    """Build the ranking of lifetimes."""
    stays = "ollama_model_residency_seconds"
    median = quantile(0.5, stays, "model", window=RANGE)
    asks = [Ask(f"sort_desc(topk(10, {median} >= 0))", "{{model}}", "instant")]
    return ranking(
        "It stays",
        "Median time from load to unload in this time range. Good: far longer than a load takes.",
        asks,
        Place(8),
        unit=SECONDS,
        empty="none left",
    )
