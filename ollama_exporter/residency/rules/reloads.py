# SPDX-License-Identifier: Apache-2.0
"""Whether the same weights were loaded again: with other options, a load takes another runner."""

from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.evidence.runner_processes import RunnerProcess
from ollama_exporter.residency.rules.verdict import LOOK_AGAIN, WAIT, Opinion, unknown, verdict


def back_with_other_context(case: PollEvidence) -> Opinion:
    """The same weights came back first, with another context or size."""
    unload = case.unload
    arrivals, back = unload.arrivals, unload.back
    if arrivals is None or back is None or not unload.life.reloaded(back):
        return None
    if not case.confirmed:
        return LOOK_AGAIN
    others = len(arrivals.fresh) > (unload.key in arrivals.fresh)
    if others and not (case.complete and case.wants_reload):
        return unknown(Evidence.BACK_BESIDE_NEWCOMER)
    return verdict(Reason.OPTIONS_CHANGED, Evidence.BACK_WITH_OTHER_CONTEXT)


def loaded_again(case: ExitEvidence, newborn: RunnerProcess, *, usual: bool) -> Opinion:
    """The same weights were loaded again: other options show as another context, once it is listed.

    With the same context it may as well have crashed, or a load that it made room for has failed.
    """
    if newborn.context is None and newborn.died is None and not case.over:
        return WAIT  # its context shows when it is listed
    same = newborn.context == case.exited.life.model.context
    if newborn.context is not None and same:
        return unknown(Evidence.SAME_WEIGHTS_UNCHANGED) if usual else None
    if usual:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.SAME_WEIGHTS_STARTED)
    if newborn.context is not None:
        return verdict(Reason.OPTIONS_CHANGED, Evidence.SAME_WEIGHTS_OTHER_CONTEXT)
    return unknown(Evidence.SAME_WEIGHTS_UNUSUAL)
