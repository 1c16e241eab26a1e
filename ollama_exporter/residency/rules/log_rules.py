# SPDX-License-Identifier: Apache-2.0
"""What the log says about an exit, as rules of `process_rules.py`."""

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.rules.verdict import LOGGED, WAIT, Opinion, verdict


def the_log_names_it(case: ExitEvidence) -> Opinion:
    """At debug level the log has every decision."""
    log, exited = case.log, case.exited
    if not log.detailed:
        return None
    if exited.listed_dead:
        return _due_already(case)
    if case.logged_unload is None:
        return WAIT if log.behind(exited.at + timings.LOGGED_WITHIN, case.now) else None
    reason = case.logged_unload.reason
    if reason is Reason.EVICTED:
        return _evicted(case, LOGGED[reason])
    return verdict(reason, LOGGED[reason])


def _due_already(case: ExitEvidence) -> Opinion:
    """It crashed, but was to be unloaded anyway as soon as its requests ended."""
    exited = case.exited
    reason = case.log.due_before(exited.runner.weights, exited.at - timings.SAME_MOMENT)
    if reason in (Reason.EVICTED, Reason.OPTIONS_CHANGED):
        return verdict(reason, LOGGED[reason])
    return None


def _evicted(case: ExitEvidence, evidence: Evidence) -> Opinion:
    """Name what took the room: it is started next."""
    exited, newborn = case.exited, case.next_weights
    if newborn is None and case.now < exited.at + 2 * timings.BORN_WITHIN:
        return WAIT
    names = [] if newborn is None else case.runners.names(newborn)
    if newborn is not None and not names and not case.over:
        return WAIT  # new weights, perhaps of its own name: the server will be asked
    if exited.name in names and newborn != exited.runner.weights:
        return verdict(Reason.REPLACED, evidence, by=exited.name)
    return verdict(Reason.EVICTED, evidence, by=names[0] if names else None)


def the_log_tells_of_its_end(case: ExitEvidence) -> Opinion:
    """At the default level: these weights ran out of memory, or a runner ended by itself."""
    exited, at = case.exited, case.exited.at
    if case.log.behind(at + timings.LOGGED_WITHIN, case.now):
        return WAIT
    ran_out = case.logged(LogKind.OUT_OF_MEMORY, timings.LOGGED_WITHIN)
    if any(line.weights == exited.runner.weights for line in ran_out):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.LOG_OUT_OF_MEMORY)
    if case.logged_death and not ran_out:
        return verdict(Reason.CRASHED, Evidence.LOG_RUNNER_DIED)
    return None


def room_was_wanted(case: ExitEvidence) -> Opinion:
    """The log says that a load needed memory at that very moment."""
    if case.logged(LogKind.ROOM_WANTED, timings.LOGGED_WITH) and not case.exited.listed_dead:
        return _evicted(case, Evidence.LOG_ROOM_WANTED)
    return None
