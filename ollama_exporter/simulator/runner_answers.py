# SPDX-License-Identifier: Apache-2.0
"""What a runner's own port answers, in the shape of llama.cpp b10488. Pure.

`params` and `/props` are long and say nothing of the work; here they are cut to a few fields.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from ollama_exporter.simulator.runner_slots import RunnerSlots, SimulatedSlot

BUILD: Final = "b10488-simulated"
PARAMS: Final[Mapping[str, Any]] = {
    "seed": 4294967295,
    "temperature": 0.800000011920929,
    "top_k": 40,
    "top_p": 0.8999999761581421,
    "n_keep": 4,
    "n_discard": 0,
    "stream": True,
    "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc"],
    "lora": [],
}
LOADING: Final = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'
NOT_ENABLED: Final = (
    b'{"error":{"code":501,"message":"This server does not support metrics endpoint. '
    b'Start it with `--metrics`","type":"not_supported_error"}}'
)
NOT_FOUND: Final = b'{"error":{"message":"File Not Found","type":"not_found_error","code":404}}'
_COUNTERS: Final = (
    ("prompt_tokens_total", "Number of prompt tokens processed, excluding cached tokens"),
    ("prompt_tokens_cached_total", "Number of prompt tokens reused from the cache"),
    ("prompt_seconds_total", "Total time spent processing prompts"),
    ("tokens_predicted_total", "Number of generation tokens processed"),
    ("tokens_predicted_seconds_total", "Total time spent generating tokens"),
    ("n_decode_total", "Total number of llama_decode() calls"),
    ("n_tokens_max", "Largest observed sequence length (prompt + generation)"),
    ("spec_decode_num_draft_tokens_total", "Speculative: Total draft tokens generated"),
    ("spec_decode_num_accepted_tokens_total", "Speculative: Total draft tokens accepted"),
    ("spec_decode_num_drafts_total", "Speculative: Total verification steps"),
)
_GAUGES: Final = (
    ("requests_processing", "Number of requests processing"),
    ("requests_deferred", "Number of requests deferred"),
)


def slots_answer(runner: RunnerSlots, *, with_prompts: bool) -> bytes:
    """Return the body of `/slots`. `with_prompts`: as with LLAMA_SERVER_SLOTS_DEBUG=1."""
    return _json([_slot(slot, with_prompts=with_prompts) for slot in runner.slots])


def _slot(slot: SimulatedSlot, *, with_prompts: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": slot.number,
        "n_ctx": slot.context,
        "speculative": False,
        "is_processing": slot.busy,
    }
    if slot.task is None:
        return found
    found |= {
        "id_task": slot.task,
        "n_prompt_tokens": slot.held,
        "n_prompt_tokens_processed": slot.processed,
        "n_prompt_tokens_cache": slot.cached,
        "params": dict(PARAMS),
        "next_token": [
            {
                "has_next_token": slot.busy,
                "has_new_line": False,
                "n_remain": -1,
                "n_decoded": slot.decoded,
            }
        ],
    }
    if with_prompts:
        found |= {"prompt": slot.prompt, "generated": f"an answer to {slot.prompt}"}
    return found


def metrics_answer(runner: RunnerSlots) -> bytes:
    """Return the body of `/metrics`, in the text format of Prometheus."""
    totals = runner.totals
    counted = (
        totals.prompt,
        totals.cached,
        totals.prompt_seconds,
        totals.generated,
        totals.generated_seconds,
        totals.decodes,
        totals.longest,
        0,
        0,
        0,
    )
    lines = []
    rows = (("counter", _COUNTERS, counted), ("gauge", _GAUGES, (runner.busy, 0)))
    for kind, names, values in rows:
        for (name, text), value in zip(names, values, strict=True):
            lines.append(f"# HELP llamacpp:{name} {text}\n# TYPE llamacpp:{name} {kind}\n")
            lines.append(f"llamacpp:{name} {value}\n")
    return "".join(lines).encode()


def props_answer(runner: RunnerSlots, weights: str) -> bytes:
    """Return the body of `/props`."""
    return _json(
        {
            "default_generation_settings": {"params": dict(PARAMS), "n_ctx": runner.context},
            "total_slots": runner.count,
            "model_path": weights,
            "endpoint_slots": True,
            "build_info": BUILD,
            "is_sleeping": False,
        }
    )


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
