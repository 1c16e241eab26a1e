# SPDX-License-Identifier: Apache-2.0
"""Whether the server went away, or nobody looked for too long.

What its exit shows: a server that is killed takes all its models with it; one that ends in order
kills its runners first.
"""

from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.rules.verdict import LOOK_AGAIN, Opinion, unknown, verdict

SERVER_EXITED: Final = verdict(Reason.SERVER_RESTARTED, Evidence.SERVER_EXITED)


def the_server_ended_it(case: ExitEvidence) -> Opinion:
    """It exited right before the server, as all its runners did: it ended in order."""
    exits, exited = case.exits, case.exited
    if exits.server_died is None or exits.died_with_server or exited.polled is not None:
        return None
    low, high = exits.server_died - timings.SHUTDOWN, exits.server_died
    return SERVER_EXITED if low <= exited.at <= high else None


def the_server_restarted(case: PollEvidence) -> Opinion:
    """The connection was lost, and a second listing still lacks what was resident.

    A server never closes an idle connection itself, and keeps no model over its restart.
    """
    unload = case.unload
    if not unload.gap.restart:
        return None
    if not case.confirmed:
        return LOOK_AGAIN  # one listing may come from another server at the same address
    expired = unload.expired_between and not unload.gap.others_early
    if expired and not case.log.detailed:  # the log would have its timer
        return verdict(Reason.EXPIRED, Evidence.DEADLINE_BETWEEN_POLLS)
    return verdict(Reason.SERVER_RESTARTED, Evidence.NO_DEADLINE_KEPT)


def not_watched(case: PollEvidence) -> Opinion:
    """After an hour without a poll, too much can have happened."""
    return unknown(Evidence.NOT_WATCHED) if case.blind else None


def the_server_exited_next(case: ExitEvidence) -> Opinion:
    """Nothing could take the room, because the server exited."""
    if case.server_exited_soon and case.next_birth is None and not case.chain:
        return unknown(Evidence.SERVER_EXITED_NEXT)
    return None
