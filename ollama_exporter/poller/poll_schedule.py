# SPDX-License-Identifier: Apache-2.0
"""When to poll next. Pure. docs/unload-reasons.md explains what each extra poll is for.

Extra polls lie where the list is about to change, so that an unload is seen between two polls that
tell its reason: on both sides of a deadline, after a removal that another one delayed, more often
while models are being evicted, and at once when a request or a process says so.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from ollama_exporter.residency.events import View
from ollama_exporter.residency.timings import BEHIND_ANOTHER
from ollama_exporter.residency.tolerances import Tolerances

AFTER_REMOVAL: Final = 0.2  # the poll after the latest moment at which a removal may come
BURST_INTERVAL: Final = 5.0
BURST_TIME: Final = 600.0  # after an early unload: a model that was evicted is evicted again
LEAST_GAP: Final = 1.0  # between polls that a request asks for
LEAST_ALIGNED_GAP: Final = 0.4
LEAST_URGENT_GAP: Final = 0.4  # an exit says most if the listing at that moment is known
AFTER_EXIT: Final = 0.02
AFTER_REQUEST: Final = 0.05  # the server needs a moment to act on what the request announced
BACK_OFF: Final = 2.0  # after the first failure, doubled by each further one
JITTER: Final = 0.05  # share of the interval: a fleet must not poll in step
EVIDENCE_WINDOW: Final = 60.0  # seconds for which evidence of a reason is waited for at least,
EVIDENCE_POLLS: Final = 3  # and at least this many intervals of the polls


def window_for(interval: float) -> float:
    """Return for how long evidence is waited for, at this interval of the polls. Seconds."""
    return max(EVIDENCE_WINDOW, EVIDENCE_POLLS * interval)


class Cadence(Struct, frozen=True):
    """How often to poll. Seconds."""

    interval: float = 15.0
    aligned: bool = True  # extra polls around each known deadline
    spread: float = JITTER  # share of the time to the next try, after a failed poll
    tolerances: Tolerances = Tolerances()


def next_poll(
    cadence: Cadence, view: View, *, last_started: float, failures: int, jitter: float = 0.0
) -> float:
    """Return the moment of the next poll, on the timeline of the facts.

    `failures`: failed polls in a row; 0 if the last one was answered. `jitter`: in [0, 1), drawn by
    the caller; 0 gives the exact schedule.
    """
    step = cadence.interval
    if failures:
        step = min(step, BACK_OFF * 2.0 ** min(failures - 1, 16))
        return last_started + step * (1 - cadence.spread * jitter)
    if view.last_early is not None and last_started < view.last_early + BURST_TIME:
        step = min(step, BURST_INTERVAL)
    due = last_started + step * (1 - JITTER * jitter)
    if cadence.aligned:
        due = min(
            [due, *_aligned(view.deadlines, last_started + LEAST_ALIGNED_GAP, cadence.tolerances)]
        )
    if view.poll_requested_at is not None:
        due = min(due, max(view.poll_requested_at + AFTER_REQUEST, last_started + LEAST_GAP))
    if view.urgent is not None:
        due = min(due, max(view.urgent + AFTER_EXIT, last_started + LEAST_URGENT_GAP))
    return due


def _aligned(deadlines: Iterable[float], after: float, tolerances: Tolerances) -> Iterable[float]:
    """Yield the moments around known deadlines that are still to come."""
    offsets = (
        -tolerances.before_deadline,
        tolerances.after_deadline,
        BEHIND_ANOTHER + AFTER_REMOVAL,
    )
    for deadline in deadlines:
        for offset in offsets:
            if deadline + offset > after:
                yield deadline + offset
