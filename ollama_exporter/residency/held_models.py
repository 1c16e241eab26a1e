# SPDX-License-Identifier: Apache-2.0
"""Which models go on although a listing lacks them, and which unloads were none."""

from collections.abc import Collection

from msgspec.structs import replace

from ollama_exporter.protocol.wire import RunningModel
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
        processes.matching.on_return(unload)
        lives.setdefault(unload.key, unload.life)


def resume_returned(
    unloads: PollUnloads,
    lives: dict[Key, Incarnation],
    processes: ProcessEvidence,
    listed: dict[Key, RunningModel],
) -> bool:
    """Resume what is listed again with the very deadline that it had: it was never unloaded.

    Then nothing that left with it and is back was unloaded either. Return whether this disproves a
    restart.
    """
    known = [(unload, listed.get(unload.key)) for unload in unloads.pending]
    disproved = {id(x.gap) for x, model in known if model is not None and x.life.is_back(model)}
    restart = False
    for unload, model in known if disproved else ():
        if id(unload.gap) not in disproved:
            continue
        if unload.gap.restart:
            unload.gap, restart = replace(unload.gap, restart=False), True
        if model is not None and not unload.life.reloaded(model):
            unloads.cancel(unload)
            processes.matching.on_return(unload)
            now = lives.get(unload.key)
            if now is None or now.model.expires_at != model.expires_at:
                lives[unload.key] = unload.life
    return restart


def is_early(lives: Collection[Incarnation], low: float, high: float) -> bool:
    """Return whether the deadline of a resident model did not come within these bounds."""
    low, high = low - timings.BEHIND_ANOTHER, high + timings.CLOCK_ERROR
    return any(not low <= life.deadline() <= high for life in lives)
