# SPDX-License-Identifier: Apache-2.0
"""Whether what was started took the room that an exit left, and whether it needed it."""

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess
from ollama_exporter.residency.facts import LogKind


def answers(case: ExitEvidence, newborn: RunnerProcess) -> bool | None:
    """Return whether that runner was started because of this exit. None: it cannot be known."""
    gap = newborn.born - case.exited.at
    if case.occupied(newborn):
        return False
    if abs(gap) <= timings.SAME_MOMENT and not case.exits.memory_wait.none:
        # Something else woke the scheduler. If this room let it go on, it was needed.
        return not needed_no_room(case, newborn)
    cpu = case.exited.life.model.size_vram == 0
    waited = case.waited(max(0.0, gap), cpu=cpu)
    return False if waited is None and needed_no_room(case, newborn) else waited


def needed_no_room(case: ExitEvidence, newborn: RunnerProcess | None) -> bool:
    """Return whether what was started is known to fit beside this one and the others.

    If nothing was started: whether the largest model that was ever listed is.
    """
    newcomer = None
    if newborn is None and not case.server_exited_soon:
        newcomer = max(case.shown.values(), key=lambda model: model.size, default=None)
    elif newborn is not None and newborn.weights != case.exited.runner.weights:
        newcomer = case.shown.get(newborn.weights)
    held = _beside(case)
    if held is None or newcomer is None:
        return False
    return case.room.fits([*held, case.life.model], [newcomer])


def needed_more(case: ExitEvidence, follower: ProcessExit) -> bool | None:
    """Return whether what took the follower's room is not known to fit into this one's.

    None: it is still loading, and its size shows when it is listed.
    """
    low, high = follower.at - timings.LOGGED_WITH, follower.at + timings.LOGGED_WITH
    if case.log.moments(LogKind.ROOM_WANTED, low, high):
        return True
    newcomer = next((m for m in case.shown.values() if m.name == follower.by), None)
    if newcomer is None:
        loading = any(follower.by in case.runners.names(r.weights) for r in case.runners.living)
        return None if loading else False
    held = _beside(case)
    return held is None or not case.room.fits(held, [newcomer])


def _beside(case: ExitEvidence) -> list[RunningModel] | None:
    """Return what else was in memory as it exited. None: not known of all of it."""
    exited = case.exited
    held = [case.shown.get(r.weights) for r in case.runners.all if r.lived(exited.at)]
    return None if None in held else [model for model in held if model is not None]
