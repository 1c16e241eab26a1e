# SPDX-License-Identifier: Apache-2.0
"""Section Runners of the catalog: what the runners' own HTTP ports show."""

from typing import Final

from ollama_exporter.metrics.catalog.family import MODEL, Family

SLOTS: Final = "slots"
COUNTERS: Final = "runner counters"

RUNNER_FAMILIES: Final = (
    Family(
        "ollama_model_slots",
        "gauge",
        "Requests that the model's runner can process at the same time (OLLAMA_NUM_PARALLEL). "
        "Absent if its slots are not visible.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_slots_busy",
        "gauge",
        "Busy slots of the model when last sampled. If all slots are busy, further requests wait "
        "inside Ollama.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_slot_context_tokens",
        "gauge",
        "Context of one slot of the model in tokens: prompt and answer of one request must fit.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_context_used_tokens",
        "gauge",
        "Tokens of prompt and answer in the fullest busy slot of the model when last sampled; 0 if "
        "every slot is idle.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_context_used_max_tokens",
        "gauge",
        "Highest number of tokens sampled in a busy slot of the model since it was loaded.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_prompt_cache_tokens",
        "gauge",
        "Tokens that idle slots of the model keep for prompts with the same beginning.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_runner_info",
        "gauge",
        "Settings of the model's runner, from its command line, as labels; the value is always 1.",
        (
            *MODEL,
            "kv_cache_type",
            "flash_attention",
            "batch",
            "gpu_layers",
            "context_shift",
            "speculative",
            "build",
        ),
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_busy_seconds_total",
        "counter",
        "Seconds in which at least one slot of the model was busy, sampled every 2 to 5 s.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_slot_seconds_total",
        "counter",
        "Seconds of all slots of the model by state (busy, idle), sampled every 2 to 5 s.",
        (*MODEL, "state"),
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_observed_generated_tokens_total",
        "counter",
        "Generated tokens of the model, sampled at its slots every 2 to 5 s: a lower bound, "
        "because short answers between two samples are missed.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_model_context_shifts_total",
        "counter",
        "Times a running request of the model filled its context and the runner dropped the oldest "
        "part of it: a lower bound, sampled at the slots.",
        MODEL,
        source=SLOTS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_prompt_tokens_total",
        "counter",
        "Prompt tokens that the model's runners processed, without those from the prompt cache.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_cached_prompt_tokens_total",
        "counter",
        "Prompt tokens that the model's runners took from the prompt cache.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_prompt_seconds_total",
        "counter",
        "Seconds that the model's runners spent on prompts.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_generated_tokens_total",
        "counter",
        "Tokens that the model's runners generated; counted when a request ends.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_generated_seconds_total",
        "counter",
        "Seconds that the model's runners spent on generating.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_draft_tokens_total",
        "counter",
        "Tokens that speculative decoding of the model's runners proposed.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
    Family(
        "ollama_runner_accepted_draft_tokens_total",
        "counter",
        "Proposed tokens that the model accepted.",
        MODEL,
        source=COUNTERS,
        stability="experimental",
    ),
)
