# SPDX-License-Identifier: Apache-2.0
"""The counters of a runner's `GET /metrics`, which exist with LLAMA_ARG_ENDPOINT_METRICS=1. Pure.

They move when a request ends, and start at 0 with each runner.
"""

import math
from dataclasses import dataclass, fields
from typing import Final

PREFIX: Final = b"llamacpp:"
LARGEST: Final = 1e15  # seconds or tokens; a larger number is not a counter of a runner


@dataclass(frozen=True, slots=True)
class RunnerCounters:
    """Totals since the runner started: tokens, and seconds."""

    prompt_tokens: float = 0.0  # without those from the cache
    cached_prompt_tokens: float = 0.0
    prompt_seconds: float = 0.0
    generated_tokens: float = 0.0
    generated_seconds: float = 0.0
    draft_tokens: float = 0.0  # of speculative decoding
    accepted_draft_tokens: float = 0.0

    def since(self, earlier: "RunnerCounters") -> "RunnerCounters":
        """Return what was added since an earlier answer of the same runner; never negative."""
        return RunnerCounters(
            *(
                max(0.0, getattr(self, each.name) - getattr(earlier, each.name))
                for each in fields(self)
            )
        )

    def plus(self, more: "RunnerCounters") -> "RunnerCounters":
        """Return the sum of both."""
        return RunnerCounters(
            *(getattr(self, each.name) + getattr(more, each.name) for each in fields(self))
        )


NAMES: Final = {
    b"prompt_tokens_total": "prompt_tokens",
    b"prompt_tokens_cached_total": "cached_prompt_tokens",
    b"prompt_seconds_total": "prompt_seconds",
    b"tokens_predicted_total": "generated_tokens",
    b"tokens_predicted_seconds_total": "generated_seconds",
    b"spec_decode_num_draft_tokens_total": "draft_tokens",
    b"spec_decode_num_accepted_tokens_total": "accepted_draft_tokens",
}
NEEDED: Final = frozenset({"prompt_tokens", "generated_tokens"})


def decode_counters(body: bytes) -> RunnerCounters | None:
    """Return the counters of an answer; None: it is not one. Reads each line once."""
    found: dict[str, float] = {}
    for line in body.splitlines():
        if not line.startswith(PREFIX):
            continue
        name, _, text = line[len(PREFIX) :].partition(b" ")
        field = NAMES.get(name)
        value = _value(text) if field is not None else None
        if field is not None and value is not None:
            found[field] = value
    return RunnerCounters(**found) if found.keys() >= NEEDED else None


def _value(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value < LARGEST else None
