# SPDX-License-Identifier: Apache-2.0
"""One unload that only polls show, and all that is known around it at the moment of judging."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ollama_exporter.residency import timings
from ollama_exporter.residency.events import Evidence, Reason
from ollama_exporter.residency.evidence.case import Due, NextLoad
from ollama_exporter.residency.evidence.log_lines import LogEvidence, LoggedUnload
from ollama_exporter.residency.evidence.request_causes import RequestCause, departure
from ollama_exporter.residency.evidence.requests import SeenRequest, SeenRequests
from ollama_exporter.residency.facts import LogKind
from ollama_exporter.residency.incarnation import Incarnation
from ollama_exporter.residency.poll_unloads import PollUnload, PollUnloads
from ollama_exporter.residency.tolerances import Tolerances


@dataclass(frozen=True, kw_only=True)
class PollEvidence:
    """What the rules look at. `logged_next`: what was loaded next, by the log."""

    unload: PollUnload
    over: bool
    confirmed: bool  # a second listing agrees: it lacks the model, and has what appeared next
    blind: bool  # no poll was answered for longer than the window
    requests: SeenRequests
    unloads: PollUnloads
    flips: bool  # its context changed at least twice lately
    tolerances: Tolerances
    log: LogEvidence
    logged: LoggedUnload | None
    logged_next: NextLoad | None

    @property
    def life(self) -> Incarnation:
        """What ended."""
        return self.unload.life

    @property
    def rests_on_polls(self) -> bool:
        """Return whether the next listings may still show that another server had answered."""
        unload = self.unload
        seen = self.logged or unload.demand or unload.served or self.request_cause
        return not (self.over or seen)

    # -- its deadline

    @property
    def deadlines(self) -> Sequence[float]:
        """E, as polls or the end of a request show it."""
        return (self.life.deadline(),)

    @property
    def due(self) -> Sequence[Due]:
        """Where E lies if its deadline ended it: in the bounds, or before, behind another unload.

        Not if it was busy, nor if as much was loaded as was lost: each load took one.
        """
        unload = self.unload
        each_took_one = (
            self.complete and self.unloads.swift and len(unload.served) > unload.others_lost
        )
        if unload.busy or each_took_one:
            return ()
        low, high = unload.low - timings.BEHIND_ANOTHER, unload.high + timings.CLOCK_ERROR
        return (Due(Evidence.DEADLINE_BETWEEN_POLLS, low, high),)

    # -- requests

    @property
    def complete(self) -> bool:
        """Whether the requests seen are (nearly) all."""
        return self.requests.complete

    @cached_property
    def request_cause(self) -> RequestCause | None:
        """The reason that the requests to it give."""
        unload = self.unload
        found = departure(self.life, unload.low, unload.high).cause(self.requests)
        if found is None or found.reason is not Reason.OUT_OF_MEMORY or unload.demand is None:
            return found
        # If a load ended so, the request that waited had evicted this one before.
        before = {model.name for model in unload.gap.present} - unload.gap.newcomers
        loaded = found.request.model not in before
        return None if loaded and (found.request.ended or 0.0) > unload.low else found

    @property
    def demand(self) -> SeenRequest | None:
        """The oldest request that was waiting for a load: of another model, or to reload it."""
        return self.unload.demand

    @property
    def wants_reload(self) -> bool:
        """Whether that request was for the very model that left."""
        return self.demand is not None and self.demand.model == self.unload.name

    @property
    def demand_counts(self) -> bool:
        """Whether no other request can have wanted its room."""
        return self.complete

    @property
    def condemned_for(self) -> SeenRequest | None:
        """The request for which it was told to leave while it was busy, by the queue."""
        return self.unload.condemned_for

    def wants_new_weights(self, request: SeenRequest) -> bool | None:
        """Return whether its name comes back with another digest. None: nothing is back so far."""
        arrivals, back = self.unload.arrivals, self.unload.back
        if arrivals is None:
            return False if self.over else None
        return arrivals.names.get(request.model, 0) > (back is not None)

    # -- the log

    @property
    def log_is_behind(self) -> bool:
        """Whether lines of that moment may still be to come."""
        return False  # polls do not wait for it: the moment is not known

    @property
    def next_load(self) -> NextLoad | None:
        """What was loaded next, as far as is known."""
        found = self.logged_next
        if found is not None and found.name is not None:
            return found
        listed = self._next_listed
        return (
            None
            if listed is None
            else NextLoad(listed, other_weights=found is not None and found.other_weights)
        )

    @property
    def _next_listed(self) -> str | None:
        """The name of the model that appeared next, where the log began its load unnamed."""
        arrivals = self.unload.arrivals
        begun = self.logged_next is not None or self.over
        if arrivals is None or not begun or not self.confirmed:
            return None
        return next((key[0] for key in arrivals.models if key in arrivals.fresh), None)

    @property
    def awaits_next_load(self) -> bool:
        """Whether it is still to be loaded, or its name to be known.

        A connection that is lost may be that of a proxy: only the log tells that the server began
        anew, and then nothing is loaded for what waited.
        """
        restarted = self.log.moments(LogKind.SERVER_STARTED, self.unload.low, math.inf)
        return self.next_load is None and not (self.over or restarted)
