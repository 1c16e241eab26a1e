# SPDX-License-Identifier: Apache-2.0
"""Whether the server went away, or nobody looked for too long.

What the server's own process tells needs no rule: it takes all its models with it.
"""

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.rules.verdict import LOOK_AGAIN, Opinion, unknown, verdict


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
    if expired and not case.all_logged:  # the log would have its timer
        return verdict(Reason.EXPIRED, Evidence.DEADLINE_BETWEEN_POLLS)
    return verdict(Reason.SERVER_RESTARTED, Evidence.NO_DEADLINE_KEPT)


def not_watched(case: PollEvidence) -> Opinion:
    """After an hour without a poll, too much can have happened."""
    return unknown(Evidence.NOT_WATCHED) if case.blind else None


def the_server_exited_next(case: ExitEvidence) -> Opinion:
    """Nothing could take the room, because the server exited."""
    died, at = case.exits.server_died, case.exited.at
    soon = died is not None and at < died < at + timings.BORN_WITHIN
    if soon and case.next_birth is None and not case.chain:
        return unknown(Evidence.SERVER_EXITED_NEXT)
    return None
