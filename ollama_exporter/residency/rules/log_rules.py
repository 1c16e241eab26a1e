# SPDX-License-Identifier: Apache-2.0
"""What the log says of a runner's death, as rules of `causes.py`."""

from typing import Final

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.exit_evidence import ANSWERED_BY, LOGGED, ExitEvidence
from ollama_exporter.residency.evidence.log_lines import EVIDENCE
from ollama_exporter.residency.evidence.runner_processes import SAME
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.rules.poll_rules import WAIT, Opinion, Verdict

SAME_LINE: Final = 0.03  # seconds between a death and the line that was written with it


def the_log_named_it(scene: ExitEvidence) -> Opinion:
    """At debug level the log tells every decision."""
    journal, death = scene.journal, scene.death
    if not journal.detailed:
        return None
    if death.listed_dead:
        return _condemned_already(scene)
    if scene.ending is None:
        return WAIT if journal.behind(death.at + LOGGED, scene.now) else None
    reason = scene.ending.reason
    if reason is Reason.EVICTED:
        return _evicted(scene, EVIDENCE[reason])
    return Verdict(reason, (EVIDENCE[reason],))


def _condemned_already(scene: ExitEvidence) -> Opinion:
    """It crashed, but was to go anyway as soon as its requests ended."""
    death = scene.death
    reason = scene.journal.condemned(death.runner.weights, death.at - SAME)
    if reason in (Reason.EVICTED, Reason.OPTIONS_CHANGED):
        return Verdict(reason, (EVIDENCE[reason],))
    return None


def _evicted(scene: ExitEvidence, evidence: str) -> Opinion:
    """Name who took the room: what is started next."""
    death, newborn = scene.death, scene.newcomer
    if newborn is None and scene.now < death.at + 2 * ANSWERED_BY:
        return WAIT
    names = [] if newborn is None else scene.runners.names(newborn)
    if newborn is not None and not names and not scene.over:
        return WAIT  # new weights, perhaps of its own name: the server will be asked
    if death.name in names and newborn != death.runner.weights:
        return Verdict(Reason.REPLACED, (evidence,), by=death.name)
    return Verdict(Reason.EVICTED, (evidence,), by=names[0] if names else None)


def the_log_told_of_its_end(scene: ExitEvidence) -> Opinion:
    """At the default level: an out-of-memory of these weights, a crash, or room that was wanted."""
    death, at = scene.death, scene.death.at
    if scene.journal.behind(at + LOGGED, scene.now):
        return WAIT
    ran_out = scene.logged(LogKind.OUT_OF_MEMORY, LOGGED)
    if any(line.weights == death.runner.weights for line in ran_out):
        return Verdict(Reason.OUT_OF_MEMORY, (EVIDENCE[Reason.OUT_OF_MEMORY],))
    if scene.logged(LogKind.RUNNER_DIED, SAME_LINE) and not ran_out:
        return Verdict(Reason.CRASHED, ("the log: a runner died by itself",))
    return None


def room_was_wanted(scene: ExitEvidence) -> Opinion:
    """The log says that memory was wanted for a load at that very moment."""
    if scene.logged(LogKind.ROOM_WANTED, SAME_LINE) and not scene.death.listed_dead:
        return _evicted(scene, "the log: a load wanted room")
    return None
