# SPDX-License-Identifier: Apache-2.0
"""The order of tests for several workers."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def slow_first(items: Sequence[T], seconds: Callable[[T], float], *, workers: int) -> list[T]:
    """Return the items so that the slow ones are shared, and begin what each worker is given.

    `--dist worksteal` gives each worker a stretch of the list, and a worker that has done its own
    takes from the end of another's. `seconds`: 0 for an item that is not slow.
    """
    slow = sorted(filter(seconds, items), key=seconds, reverse=True)
    others = [item for item in items if not seconds(item)]
    shares: list[list[T]] = [[] for _ in range(workers)]
    for item in slow:
        min(shares, key=lambda share: sum(map(seconds, share))).append(item)
    ordered: list[T] = []
    for left, share in zip(range(workers, 0, -1), shares, strict=True):
        size = (len(items) - len(ordered)) // left  # as xdist cuts the list
        more = max(0, size - len(share))
        ordered += [*share, *others[:more]]
        del others[:more]
    return ordered + others
