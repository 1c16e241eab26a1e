# SPDX-License-Identifier: Apache-2.0
"""Whether several servers answer at one address, behind a balancer for example.

A deadline is a moment of the server's clock to the nanosecond. So a model that is listed again with
the very same deadline was never unloaded: another server answered in between. A server never
returns to an earlier deadline either, and what it has loaded since a poll has no deadline before
that poll. `address_signs.py` has the signs that need no deadline. While several servers answer, a
missing model means nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Final

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.endpoint.address_signs import (
    ClockTurns,
    InventoryTurns,
    Key,
    ListingTurns,
    VersionTurns,
)
from ollama_exporter.protocol.wire import InstalledModel, RunningModel

SIGNS: Final = 2  # one may be a listing that was cut short
SIGNS_WITHIN: Final = 10  # polls
CLOCKS_BACK: Final = 3  # a clock that is set and set back is one clock,
CLOCKS_WITHIN: Final = 16  # within so many polls
RARE_SIGNS: Final = 2  # of versions, of installed models, or of connections
RARE_WITHIN: Final = 1800.0  # seconds
SUSPECTED_FOR: Final = 180.0  # seconds after one of them, or after a change of what is installed
FIRST_LOOKS: Final = 8  # at it after an early unload, until all were alike
FIRST_PAUSE: Final = 10.0  # seconds between two of them,
PAUSE: Final = 60.0  # and between later ones
RECOVERED_AFTER: Final = 12  # polls without a sign,
RECOVERY: Final = 120.0  # and seconds,
SLOWEST_RECOVERY: Final = 3600.0  # or twice the time between two signs, up to this
MOST_DEADLINES: Final = 4096
DEADLINES: Final = 3  # earlier ones kept of each model
PAST: Final = 0.5  # seconds by which a deadline lies before a poll that lacked the model


class SharedAddress:
    """Looks for signs of a second server in successive answers."""

    def __init__(self) -> None:
        self.is_shared = False
        self.is_suspected = False  # several may answer: a verdict on a missing model waits
        self.wants_inventory = False  # the list of installed models would tell
        self._listings, self._clocks, self._versions = ListingTurns(), ClockTurns(), VersionTurns()
        self._inventories, self._polled = InventoryTurns(), 0.0
        self._deadlines: BoundedDict[Key, tuple[str | float, ...]] = BoundedDict(MOST_DEADLINES)
        self._missing: dict[Key, float | None] = {}  # known, not in the listing before, and when
        self._signs: deque[bool] = deque(maxlen=SIGNS_WITHIN)
        self._clocks_back: deque[bool] = deque(maxlen=CLOCKS_WITHIN)
        self._rare: deque[float] = deque(maxlen=RARE_SIGNS)
        self._quiet = 0  # polls without a sign
        self._signed_at, self._between = 0.0, 0.0

    def on_poll(
        self,
        models: Sequence[RunningModel],
        *,
        started: float,
        ended: float,
        date: float | None,
        new_connection: bool,
        explained: Callable[[Key], bool],
    ) -> None:
        """Compare an answer with earlier ones. `date`: its Date header.

        `explained`: whether a stop or the exit of a runner was seen, so that the absence of a model
        is no sign.
        """
        back = False
        if date is not None:
            back = self._clocks.on_poll(date, started=started, ended=ended)
        self._clocks_back.append(back)
        ahead = None if date is None else self._clocks.ahead
        listed = {model.key: model for model in models}
        sign = any(self._is_back(key, model) for key, model in listed.items())
        self._signs.append(sign)
        self._listings.on_poll(
            models,
            started=started,
            ended=ended,
            ahead=0.0 if ahead is None else ahead[1],
            new_connection=new_connection,
            explained=explained,
        )
        self._remember(listed, None if ahead is None else started + ahead[0])
        turns = self._listings.has_changed and self._listings.is_certain(known=self.is_shared)
        clocks = back and sum(self._clocks_back) >= CLOCKS_BACK
        self._quiet += 1
        if self._listings.returned_with_connection:
            self._on_rare_sign(started)
        if sign or turns or clocks:
            self._on_sign(started)
            self.is_shared |= turns or clocks or sum(self._signs) >= SIGNS
        elif self._quiet >= RECOVERED_AFTER and started - self._signed_at >= self._recovery:
            self.is_shared = False
        self._polled = started
        self._suspect()
        pause = FIRST_PAUSE if self._inventories.alike < FIRST_LOOKS else PAUSE
        due = started - self._inventories.at >= pause
        self.wants_inventory = self.is_suspected or (self._listings.has_lost_early and due)

    def _suspect(self) -> None:
        recent = self._polled - SUSPECTED_FOR
        changed = self._inventories.changed_at >= recent
        signed = any(self._signs) or bool(self._rare and self._rare[-1] >= recent)
        self.is_suspected = self.is_shared or signed or changed or self._listings.is_likely

    def _remember(self, listed: Mapping[Key, RunningModel], moment: float | None) -> None:
        """Keep the deadlines, and which models are missing at this moment of the server's clock."""
        for key, model in listed.items():
            expires = _deadline(model)
            earlier = tuple(x for x in self._deadlines.get(key, ()) if x != expires)
            self._deadlines[key] = (*earlier, expires)[-DEADLINES:]
        self._missing = {key: moment for key in self._deadlines if key not in listed}

    def on_version(self, version: str, at: float) -> None:
        """Compare the version that the server says with earlier ones."""
        if self._versions.on_version(version, at):
            self._on_rare_sign(at)
            self._suspect()

    def on_installed(self, models: Iterable[InstalledModel], at: float) -> None:
        """Compare the list of installed models with earlier ones."""
        if self._inventories.on_installed(models, at):
            self._on_rare_sign(at)
        self._suspect()

    @property
    def _recovery(self) -> float:
        """For how long no sign must be seen."""
        return min(SLOWEST_RECOVERY, max(RECOVERY, 2 * self._between))

    def _on_rare_sign(self, at: float) -> None:
        """Note a sign that comes with a connection or a version: they change rarely."""
        self._rare.append(at)
        self._on_sign(at)
        if len(self._rare) == RARE_SIGNS and at - self._rare[0] < RARE_WITHIN:
            self.is_shared = True

    def _on_sign(self, at: float) -> None:
        self._between = at - self._signed_at if self._signed_at else 0.0
        self._quiet, self._signed_at = 0, at

    def _is_back(self, key: Key, model: RunningModel) -> bool:
        """Return whether a model has a deadline that it had before, or from before its absence."""
        expires = _deadline(model)
        if not expires or key not in self._deadlines:
            return False
        *earlier, last = self._deadlines[key]
        if expires in earlier or (expires == last and key in self._missing):
            return True
        lacked = self._missing.get(key)
        return lacked is not None and 0.0 < model.expires_at < lacked - PAST


def _deadline(model: RunningModel) -> str | float:
    """Return a model's deadline with all its digits; 0.0 if it has none.

    A model without an expiry has one in 2318, with the digits of the moment of its last use.
    """
    if model.announced:
        return "" if model.announced.startswith("0001-") else model.announced
    return model.expires_at if isfinite(model.expires_at) else 0.0
