# SPDX-License-Identifier: Apache-2.0
"""When to poll next: design in docs/unload-reasons.md, section on polling. Pure."""

from dataclasses import dataclass

from ollama_exporter.residency.events import View


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often to poll. Seconds."""

    interval: float = 15.0
    aligned: bool = True  # extra polls around each known deadline


def next_poll(
    cadence: Cadence,
    view: View,
    *,
    last_started: float,
    failures: int,
    asked: float | None = None,
    jitter: float = 0.0,
) -> float:
    """Return the moment of the next poll, on the timeline of the facts.

    `failures`: failed polls in a row (0: the last one was answered). `asked`: when a request or a
    process said that something changed. `jitter`: in [0, 1), drawn by the caller.
    """
    raise NotImplementedError
