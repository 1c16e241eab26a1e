# SPDX-License-Identifier: Apache-2.0
"""Records from the oldest to the newest, bounded in number, bytes and age. Pure."""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import msgspec


class Numbered(Protocol):
    """A record with a number of its own."""

    @property
    def id(self) -> int:
        """Its number."""


R = TypeVar("R", bound=Numbered)
_ENCODER = msgspec.json.Encoder()


class BoundedLog(Generic[R]):
    """Holds records by number. Beyond a bound, the oldest ones go.

    `most`: how many; `most_bytes`: of their JSON together.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._records: dict[int, tuple[R, int]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        return (record for record, _ in list(self._records.values()))

    def put(self, record: R) -> None:
        """Add a record, or replace the one with its number: that one keeps its place."""
        size = len(_ENCODER.encode(record))
        if record.id in self._records:
            self.bytes -= self._records[record.id][1]
        self._records[record.id] = (record, size)
        self.bytes += size
        while len(self._records) > self._most or self.bytes > self._most_bytes:
            self._drop_oldest()

    def drop_while(self, is_old: Callable[[R], bool]) -> None:
        """Drop the oldest records for as long as they are old."""
        while self._records and is_old(next(iter(self._records.values()))[0]):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.bytes -= self._records.pop(next(iter(self._records)))[1]
