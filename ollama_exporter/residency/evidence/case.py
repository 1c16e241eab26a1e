# SPDX-License-Identifier: Apache-2.0
"""What a rule may ask of an unload, whatever the source that shows it."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from ollama_exporter.residency.events import Evidence
from ollama_exporter.residency.evidence.log_lines import LoggedUnload
from ollama_exporter.residency.evidence.request_causes import RequestCause
from ollama_exporter.residency.evidence.requests import SeenRequest
from ollama_exporter.residency.incarnation import Incarnation


class NextLoad(Struct, frozen=True):
    """What was loaded next. `other_weights`: surely not those of the model that left."""

    name: str | None
    other_weights: bool


class Due(Struct, frozen=True):
    """An unload at its deadline has that deadline within these bounds."""

    evidence: Evidence
    low: float
    high: float


class Case(Protocol):
    """An unload and what is known around it at the moment of judging."""

    @property
    def life(self) -> Incarnation:
        """What ended."""

    @property
    def over(self) -> bool:
        """Whether the window in which evidence is waited for is over."""

    @property
    def complete(self) -> bool:
        """Whether the requests seen are (nearly) all."""

    @property
    def rests_on_polls(self) -> bool:
        """Return whether the next listings may still show that another server had answered."""

    # -- its deadline

    @property
    def deadlines(self) -> Sequence[float]:
        """E, as polls or the end of a request show it."""

    @property
    def due(self) -> Sequence[Due]:
        """Where E lies if its deadline ended it."""

    # -- requests

    @property
    def request_cause(self) -> RequestCause | None:
        """The reason that the requests to it give."""

    @property
    def demand(self) -> SeenRequest | None:
        """The oldest request that was waiting for a load: of another model, or to reload it."""

    @property
    def demand_counts(self) -> bool:
        """Whether no other request can have wanted its room."""

    @property
    def condemned_for(self) -> SeenRequest | None:
        """The request for which it was told to leave while it was busy, by the queue."""

    def wants_new_weights(self, request: SeenRequest) -> bool | None:
        """Return whether a request of its name wanted other weights. None: it may still show."""

    # -- the log

    @property
    def logged(self) -> LoggedUnload | None:
        """The same unload in the log, at debug level."""

    @property
    def log_is_behind(self) -> bool:
        """Whether lines of that moment may still be to come."""

    @property
    def next_load(self) -> NextLoad | None:
        """What was loaded next, as far as is known."""

    @property
    def awaits_next_load(self) -> bool:
        """Whether it is still to be loaded, or its name to be known."""
