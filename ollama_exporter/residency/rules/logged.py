# SPDX-License-Identifier: Apache-2.0
"""What the server's log names outright.

At debug level it has every decision of the scheduler; at the default level it has the deaths of
runners and their lack of memory.
"""

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.rules.evictions import made_room
from ollama_exporter.residency.rules.verdict import LOGGED, WAIT, Opinion, verdict


def it_was_due_when_it_crashed(case: ExitEvidence) -> Opinion:
    """It crashed, but was to be unloaded anyway as soon as its requests ended.

    The scheduler logs its victim when it chooses it, busy or not.
    """
    exited = case.exited
    if not (exited.listed_dead and case.log.detailed):
        return None
    reason = case.log.due_before(exited.runner.weights, exited.at - timings.SAME_MOMENT)
    if reason in (Reason.EVICTED, Reason.OPTIONS_CHANGED):
        return verdict(reason, LOGGED[reason])
    return None


def the_log_names_it(case: Case) -> Opinion:
    """At debug level the server logs every decision before it acts on it."""
    if case.logged is None:
        return WAIT if case.log_is_behind else None
    reason = case.logged.reason
    return (
        made_room(case, LOGGED[reason])
        if reason is Reason.EVICTED
        else verdict(reason, LOGGED[reason])
    )


def the_log_tells_of_its_end(case: ExitEvidence) -> Opinion:
    """From 0.30 on the server logs that a runner ended by itself, or that it ran out of memory."""
    ran_out = case.lines(LogKind.OUT_OF_MEMORY, timings.LOGGED_WITHIN)
    if any(line.weights == case.exited.runner.weights for line in ran_out):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.LOG_OUT_OF_MEMORY)
    if case.logged_death and not ran_out:
        return verdict(Reason.CRASHED, Evidence.LOG_RUNNER_DIED)
    return None
