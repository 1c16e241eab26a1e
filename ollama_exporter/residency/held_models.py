# SPDX-License-Identifier: Apache-2.0
"""Which models go on although a listing lacks them, and which unloads were none."""

from collections.abc import Collection

from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.processes import ProcessEvidence
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.residency.incarnation import Incarnation, Key
from ollama_exporter.residency.poll_unloads import PollUnloads


def held(
    lives: dict[Key, Incarnation],
    missing: Collection[Key],
    poll: Snapshot,
    processes: ProcessEvidence,
    *,
    shared: bool,
) -> set[Key]:
    """Return the models that go on although this poll does not list them.

    Their processes live, or another server behind the same address has them (`shared`). A model of
    another server that is not listed for long is forgotten.
    """
    found = {key for key in missing if processes.holds(key, poll)}
    if shared:
        for key in set(missing) - found:
            if poll.started - lives[key].seen < timings.SHARED_ENTRY:
                found.add(key)
            else:
                del lives[key]
    return found


def take_back(
    unloads: PollUnloads, lives: dict[Key, Incarnation], processes: ProcessEvidence
) -> None:
    """Resume all that is not settled: several servers answer, so nothing shows an unload."""
    for unload in unloads.pending:
        unloads.cancel(unload)
        processes.matching.on_return(unload.life)
        lives.setdefault(unload.key, unload.life)


def is_early(lives: Collection[Incarnation], low: float, high: float) -> bool:
    """Return whether the deadline of a resident model did not come within these bounds."""
    low, high = low - timings.BEHIND_ANOTHER, high + timings.CLOCK_ERROR
    return any(not low <= life.deadline() <= high for life in lives)
