# SPDX-License-Identifier: Apache-2.0
"""A dictionary with a bound: whatever clients or servers name must not fill the memory."""

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class BoundedDict(MutableMapping[K, V]):
    """Holds at most `limit` entries. A new entry evicts the oldest one.

    An assignment makes its key the newest; a look-up does not. Iterates from the oldest on.
    """

    __slots__ = ("_entries", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(limit)
        self.limit = limit
        self._entries: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        return self._entries[key]

    def __setitem__(self, key: K, value: V) -> None:
        entries = self._entries
        entries.pop(key, None)
        if len(entries) >= self.limit:
            del entries[next(iter(entries))]
        entries[key] = value

    def __delitem__(self, key: K) -> None:
        del self._entries[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def values(self) -> ValuesView[V]:
        """Return the values, oldest first."""
        return self._entries.values()  # that of the base class looks each key up

    def items(self) -> ItemsView[K, V]:
        """Return keys and values, oldest first."""
        return self._entries.items()

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...

    @overload
    def get(self, key: K, default: V) -> V: ...

    @overload
    def get(self, key: K, default: T) -> V | T: ...

    def get(self, key: K, default: T | V | None = None) -> V | T | None:
        """Return an entry; `default` without it. The inherited one raises and catches KeyError."""
        return self._entries.get(key, default)

    def __repr__(self) -> str:
        return f"BoundedDict({self._entries!r}, limit={self.limit})"
