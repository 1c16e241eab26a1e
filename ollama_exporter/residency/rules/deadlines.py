# SPDX-License-Identifier: Apache-2.0
"""Whether its keep-alive ran out."""

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.rules.verdict import Opinion, verdict


def deadline_reached(case: Case) -> Opinion:
    """E is the moment at which it left, or passed while another unload was under way.

    A timer of the server fires at E; while it waits for memory nothing else is unloaded. A request
    seen may have set an E that no poll has shown, and an earlier one, too.
    """
    life = case.life
    if life.at_now or life.stopped_at is not None:
        return None
    for due in case.due:
        if any(due.low <= each <= due.high for each in case.deadlines):
            return verdict(Reason.EXPIRED, due.evidence)
    return None
