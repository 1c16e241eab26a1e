# SPDX-License-Identifier: Apache-2.0
"""Many targets are set aside from the garbage collector, and found again when they are gone."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from ollama_exporter.fleet.settled_heap import LEAST, SettledHeap


class Cycle:
    """Garbage that only the collector frees."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def heap() -> Iterator[SettledHeap]:
    heap = SettledHeap()
    yield heap
    heap.close()


def test_a_few_targets_change_nothing(heap: SettledHeap) -> None:
    before = gc.get_freeze_count()
    heap.on_change(LEAST - 1, count=LEAST - 1)
    assert gc.get_freeze_count() == before
    heap.on_change(1, count=LEAST)
    assert gc.get_freeze_count() > before
    heap.close()
    assert gc.get_freeze_count() == 0


def test_what_was_set_aside_is_freed_once_enough_has_changed(heap: SettledHeap) -> None:
    old = Cycle()
    gone = weakref.ref(old)
    heap.on_change(1000, count=1000)
    del old
    gc.collect()
    assert gone() is not None
    heap.on_change(249, count=1000)
    assert gone() is not None
    heap.on_change(1, count=1000)
    assert gone() is None
