# SPDX-License-Identifier: Apache-2.0
"""The `client` label, bounded: clients can claim any number of names."""

import re
from typing import Final

from ollama_exporter.metrics.labels import OTHER

MOST_CLIENTS: Final = 50  # with series of their own
LONGEST: Final = 64  # characters of a name
# No control character, no quote, no backslash: a name is read in queries and on dashboards.
NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._@+/-]{0,62}[A-Za-z0-9._@+/-])?")


def is_client_name(name: str) -> bool:
    """Return whether a client can have this name. `other` is for those without one."""
    return name != OTHER and NAME.fullmatch(name) is not None


class ClientLabels:
    """Gives the first MOST_CLIENTS names labels of their own; all others are `other`."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """Return the label of a client's name."""
        if name in self._names:
            return name
        if len(self._names) >= MOST_CLIENTS or not is_client_name(name):
            return OTHER
        self._names.add(name)
        return name
