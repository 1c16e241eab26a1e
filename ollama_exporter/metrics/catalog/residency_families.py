# SPDX-License-Identifier: Apache-2.0
"""Section Residency of the catalog: the models that the last successful poll listed."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

RESIDENCY_FAMILIES: Final = (
    Family(
        "ollama_model_loaded",
        "gauge",
        "Whether the model is in memory: 1 if the last poll listed it, 0 if it is known or "
        "expected and was not listed. Absent while the server is down, except 0 for expected "
        "models.",
        MODEL,
    ),
    Family(
        "ollama_model_info",
        "gauge",
        "Details of each resident model (/api/ps) as labels; the value is always 1.",
        ("model", "digest", "family", "format", "parameter_size", "quantization"),
    ),
    Family(
        "ollama_model_memory_bytes",
        "gauge",
        "Memory that the model uses in bytes, GPU memory included (size in /api/ps).",
        MODEL,
    ),
    Family(
        "ollama_model_vram_bytes",
        "gauge",
        "GPU memory that the model uses in bytes, summed over all GPUs (size_vram in /api/ps).",
        MODEL,
    ),
    Family(
        "ollama_model_context_tokens",
        "gauge",
        "Context length of one slot in tokens (context_length in /api/ps).",
        MODEL,
    ),
    Family(
        "ollama_model_expires_timestamp_seconds",
        "gauge",
        "Unix time at which the model expires, by the server's clock (expires_at in /api/ps); "
        "+Inf if never. Not updated while a request runs.",
        MODEL,
    ),
    Family(
        "ollama_model_keep_alive_seconds",
        "gauge",
        "Current keep-alive in seconds, +Inf if the model never expires. Absent until a moving "
        "deadline or a request shows it exactly.",
        MODEL,
    ),
    Family(
        "ollama_model_loaded_timestamp_seconds",
        "gauge",
        "Unix time of the first poll that listed the model since it was loaded.",
        MODEL,
    ),
    Family(
        "ollama_model_last_use_timestamp_seconds",
        "gauge",
        "Unix time at which the last observed request ended, or a slot of the model was last seen "
        "busy. Absent without proxy and slots.",
        MODEL,
    ),
    Family(
        "ollama_model_eviction_rank",
        "gauge",
        "Order in which the server evicts resident models when another one needs memory: 1 is "
        "evicted first. Idle models come before busy ones, then the shortest keep-alive first. "
        "An unknown keep-alive is taken as 5 minutes, or the time left if that is longer.",
        MODEL,
        stability="experimental",
    ),
    Family(
        "ollama_model_expected",
        "gauge",
        "1 for each model that should be in memory according to the configuration.",
        MODEL,
    ),
)
