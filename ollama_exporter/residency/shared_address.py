# SPDX-License-Identifier: Apache-2.0
"""Whether several servers answer at one address, behind a balancer for example.

A deadline is a moment of the server's clock to the nanosecond. So a model that is listed again with
the very same deadline was never unloaded: another server answered in between. A server never
returns to an earlier deadline either. While several servers answer, a missing model means nothing.
"""

from collections import deque
from collections.abc import Iterable
from math import isfinite
from typing import Final

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.incarnation import Key

SIGNS: Final = 2  # one may be a listing that was cut short
SIGNS_WITHIN: Final = 10  # polls
CLOCK_STEPS: Final = 3  # steps of the clock within these polls are two clocks
RECOVERED_AFTER: Final = 12  # polls without a sign,
RECOVERY: Final = 120.0  # and seconds
MOST_DEADLINES: Final = 4096
DEADLINES: Final = 3  # earlier ones kept of each model


class SharedAddress:
    """Looks for signs of a second server in successive listings."""

    def __init__(self) -> None:
        self.is_shared = False
        self._deadlines: BoundedDict[Key, tuple[str | float, ...]] = BoundedDict(MOST_DEADLINES)
        self._missing: frozenset[Key] = frozenset()  # known, and not in the listing before
        self._signs: deque[bool] = deque(maxlen=SIGNS_WITHIN)
        self._steps: deque[bool] = deque(maxlen=SIGNS_WITHIN)
        self._quiet = 0  # polls without a sign
        self._signed_at = 0.0

    def on_poll(self, models: Iterable[RunningModel], at: float, *, clock_stepped: bool) -> None:
        """Compare a listing with earlier ones."""
        listed = {model.key: _deadline(model) for model in models}
        sign = any(self._is_back(key, expires) for key, expires in listed.items())
        self._steps.append(clock_stepped)
        sign |= clock_stepped and sum(self._steps) >= CLOCK_STEPS
        self._signs.append(sign)
        self._quiet = 0 if sign else self._quiet + 1
        self._signed_at = at if sign else self._signed_at
        for key, expires in listed.items():
            earlier = tuple(x for x in self._deadlines.get(key, ()) if x != expires)
            self._deadlines[key] = (*earlier, expires)[-DEADLINES:]
        self._missing = frozenset(self._deadlines) - frozenset(listed)
        if sum(self._signs) >= SIGNS:
            self.is_shared = True
        elif self._quiet >= RECOVERED_AFTER and at - self._signed_at >= RECOVERY:
            self.is_shared = False

    def _is_back(self, key: Key, expires: str | float) -> bool:
        """Return whether a model is back with a deadline that it has had before."""
        if not expires or key not in self._deadlines:
            return False
        *earlier, last = self._deadlines[key]
        return expires in earlier or (expires == last and key in self._missing)


def _deadline(model: RunningModel) -> str | float:
    """Return a model's deadline with all its digits; 0.0 if it has none.

    A model without an expiry has one in 2318, with the digits of the moment of its last use.
    """
    if model.announced:
        return "" if model.announced.startswith("0001-") else model.announced
    return model.expires_at if isfinite(model.expires_at) else 0.0
