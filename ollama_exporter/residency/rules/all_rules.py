# SPDX-License-Identifier: Apache-2.0
"""Why a model left memory: all rules, in their order. The first that answers decides.

Each rule stands in the file of what it decides; docs/unload-reasons.md explains them for operators.
They follow from how the server's scheduler works. E is `expires_at`, T the moment of an exit:

- E is written by the end of the last request and by a stop, never by an eviction;
- one load at a time, first come first served;
- each unload is followed by a wait for memory of up to 5 s, in which nothing else is unloaded; what
  wanted the room is started at its end;
- the process is killed and the entry removed in one step: what is listed after T crashed;
- an out-of-memory ends one runner and drops all others at that very moment.
"""

from collections.abc import Callable
from functools import wraps
from typing import Final

from ollama_exporter.residency.events import Evidence
from ollama_exporter.residency.evidence.case import Case
from ollama_exporter.residency.evidence.exit_evidence import ExitEvidence
from ollama_exporter.residency.evidence.poll_evidence import PollEvidence
from ollama_exporter.residency.rules import (
    crashes,
    deadlines,
    evictions,
    logged,
    out_of_memory,
    reloads,
    restarts,
    stops,
)
from ollama_exporter.residency.rules.verdict import WAIT, Opinion, Verdict, Wait, unknown

Rule = Callable[[Case], Opinion]


def decide(case: Case) -> Verdict | Wait:
    """Return the reason, or what is waited for while it cannot be known yet."""
    for rule in RULES:
        opinion = rule(case)
        if opinion is not None:
            return opinion
    return unknown(Evidence.NOTHING_DECISIVE) if case.over else WAIT


def _polls(rule: Callable[[PollEvidence], Opinion]) -> Rule:
    """Return a rule that only an unload between two polls can answer."""

    @wraps(rule)
    def asked(case: Case) -> Opinion:
        return rule(case) if isinstance(case, PollEvidence) else None

    return asked


def _exits(rule: Callable[[ExitEvidence], Opinion]) -> Rule:
    """Return a rule that only the exit of a process can answer."""

    @wraps(rule)
    def asked(case: Case) -> Opinion:
        return rule(case) if isinstance(case, ExitEvidence) else None

    return asked


RULES: Final[tuple[Rule, ...]] = (
    _exits(restarts.the_server_ended_it),
    _exits(crashes.await_the_listing),
    _exits(logged.it_was_due_when_it_crashed),
    logged.the_log_names_it,
    _polls(restarts.the_server_restarted),
    _polls(restarts.not_watched),
    evictions.condemned_by_the_queue,
    _exits(logged.the_log_tells_of_its_end),
    _exits(crashes.condemned_before_it_crashed),
    out_of_memory.a_request_ran_out_of_memory,
    _exits(crashes.listed_after_its_exit),
    crashes.a_request_crashed,
    _exits(out_of_memory.another_ran_out_of_memory),
    _exits(out_of_memory.left_as_at_out_of_memory),
    _exits(out_of_memory.busy_at_out_of_memory),
    _polls(evictions.taken_before_it_was_stopped),
    stops.a_request_stopped_it,
    stops.deadline_set_back,
    deadlines.deadline_reached,
    _polls(reloads.back_with_other_context),
    _polls(evictions.a_request_was_served),
    _exits(evictions.a_request_waits_for_its_room),
    _exits(evictions.room_was_wanted),
    _polls(evictions.a_load_was_logged),
    _polls(stops.due_before_idle),
    _exits(evictions.condemned_while_busy),
    _exits(evictions.await_what_follows),
    _exits(evictions.one_of_several),
    _exits(evictions.a_runner_was_started),
    evictions.a_request_waited,
    _polls(evictions.a_model_appeared),
    _polls(evictions.a_request_waited_in_vain),
    _exits(evictions.a_load_had_just_ended),
    _exits(restarts.the_server_exited_next),
    _exits(stops.nothing_was_started),
)
