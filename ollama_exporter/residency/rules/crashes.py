# SPDX-License-Identifier: Apache-2.0
"""Whether its runner died by itself.

The server kills the process and removes the entry in one step, so what is listed after its exit
was not ended by the server.
"""

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.rules.evictions import condemned_while_busy
from ollama_exporter.residency.rules.out_of_memory import dropped_with, others_due
from ollama_exporter.residency.rules.verdict import WAIT, Opinion, requested, verdict


def await_the_listing(case: ExitEvidence) -> Opinion:
    """No poll that began clearly after the exit has shown yet whether it is listed still."""
    exited = case.exited
    looked_once = exited.seen_dead is not None and not exited.listed_dead
    looking = exited.polled is None or (looked_once and exited.removed is None)
    return WAIT if looking and case.now < exited.at + timings.POLL_HANGS else None


def condemned_before_it_crashed(case: ExitEvidence) -> Opinion:
    """The server did not end it, but had told it to leave: its room is wanted all the same."""
    due, at = case.life.due_at, case.exited.at
    before = due is not None and due < at - timings.SAME_MOMENT
    return condemned_while_busy(case) if case.exited.listed_dead and before else None


def listed_after_its_exit(case: ExitEvidence) -> Opinion:
    """The server did not end it. Others that left at that moment show an out-of-memory."""
    exited = case.exited
    if not exited.listed_dead:
        return None
    looked = exited.dead_at if case.scans else exited.seen_dead
    known = case.births_known(looked or exited.at)
    if case.log.followed:  # it would have an out-of-memory
        return verdict(Reason.CRASHED, Evidence.LISTED_AFTER_EXIT) if known else WAIT
    queued = case.queue_start < exited.at
    wait = 2 * case.exits.memory_wait.longest if queued else timings.SCAN
    if case.now < exited.at + wait + timings.SAME_MOMENT or not known:
        return WAIT
    if any(dropped_with(case, other, exited) for other in case.exits.recent):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.OTHERS_LEFT_WITH_IT)
    if others_due(case):
        return verdict(Reason.OUT_OF_MEMORY, Evidence.OTHERS_DUE_WITH_IT)
    return verdict(Reason.CRASHED, Evidence.LISTED_AFTER_EXIT)


def a_request_crashed(case: Case) -> Opinion:
    """An answer of this runner failed with a crash message, which the server writes into it."""
    return requested(case, Reason.CRASHED)
