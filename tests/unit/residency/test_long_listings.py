# SPDX-License-Identifier: Apache-2.0
"""A broken or hostile server may list thousands of models: the cost grows with their number."""

import tracemalloc

import pytest

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import (
    Fact,
    ProcessStarted,
    RequestAnswered,
    RequestStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.residency.tracker import Tracker
from tests.support.growth import assert_linear
from tests.support.story import START

LISTED_BYTES = 256  # of one entry, about


def listing(count: int, *, at: float = 0.0, first: int = 0) -> tuple[RunningModel, ...]:
    return tuple(
        RunningModel(f"m{n}:latest", f"{n:064x}", START + at + 300 + n / 1000, 2**30, 2**30, 4096)
        for n in range(first, first + count)
    )


def polls(count: int) -> list[Fact]:
    """All are listed, then none, then as many others, then none for longer than the window."""
    listings = {
        0.0: listing(count),
        15.0: listing(count),
        20.0: (),
        30.0: listing(count, at=30, first=count),
        35.0: (),
        100.0: (),
    }
    return [Snapshot(START + at, START + at + 0.01, models) for at, models in listings.items()]


def watch(facts: list[Fact]) -> None:
    tracker = Tracker(window=60.0)
    for fact in facts:
        tracker.observe(fact)
        if isinstance(fact, Snapshot):
            tracker.view()


def test_the_time_grows_with_the_number_of_models() -> None:
    assert_linear(lambda body: watch(polls(len(body) // LISTED_BYTES)), bytes)


def test_the_time_grows_with_the_number_of_models_and_requests_beside_processes() -> None:
    def facts(body: bytes) -> list[Fact]:
        told: list[Fact] = [ProcessStarted(START - 1, START - 90, 9, None)]
        told += [WeightsNamed(START - 1, f"m{n}:latest", f"sha256-{n}") for n in range(20)]
        told += [ProcessStarted(START - 1, START - 50, 10 + n, f"sha256-{n}") for n in range(20)]
        count = len(body) // LISTED_BYTES
        for n in range(count):
            told += [RequestStarted(START - 1, n, f"m{n}:latest"), RequestAnswered(START - 0.5, n)]
        return told + polls(count)

    assert_linear(lambda body: watch(facts(body)), bytes)


@pytest.mark.parametrize("count", [500, 2000])
def test_the_memory_grows_with_the_number_of_models(count: int) -> None:
    facts = polls(count)[:3]
    tracemalloc.start()
    try:
        watch(facts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * 4096
