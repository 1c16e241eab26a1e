# SPDX-License-Identifier: Apache-2.0
"""What a rule may answer: a reason with its evidence, that it has to wait, or nothing."""

from typing import Final

from msgspec import Struct

from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Case


class Verdict(Struct, frozen=True):
    """A settled reason. `by`: the model that took the room, where it is known."""

    reason: Reason
    evidence: tuple[Evidence, ...]
    by: str | None = None


class Wait(Struct, frozen=True):
    """The rule may still decide when more is known, so no later rule may decide yet."""

    look_again: bool = False  # a second look is all that is missing


WAIT: Final = Wait()
LOOK_AGAIN: Final = Wait(look_again=True)
Opinion = Verdict | Wait | None
LOGGED: Final = {
    Reason.EVICTED: Evidence.LOG_EVICTED,
    Reason.OPTIONS_CHANGED: Evidence.LOG_OPTIONS,
    Reason.EXPIRED: Evidence.LOG_EXPIRED,
    Reason.STOPPED: Evidence.LOG_STOPPED,
    Reason.OUT_OF_MEMORY: Evidence.LOG_OUT_OF_MEMORY,
    Reason.CRASHED: Evidence.LOG_CRASHED,
}


def verdict(reason: Reason, *evidence: Evidence, by: str | None = None) -> Verdict:
    """Return a verdict."""
    return Verdict(reason, evidence, by)


def unknown(*evidence: Evidence) -> Verdict:
    """Return the verdict that the reason cannot be known."""
    return Verdict(Reason.UNKNOWN, evidence)


def requested(case: Case, reason: Reason) -> Opinion:
    """Return a reason if a request to the model gave it, before its deadline ended it."""
    cause = case.request_cause
    if cause is None or cause.reason is not reason:
        return None
    since = cause.request.fact.at
    if not case.life.at_now and any(
        due.low <= each <= min(due.high, since) for due in case.due for each in case.deadlines
    ):
        return None
    return verdict(reason, cause.evidence)
