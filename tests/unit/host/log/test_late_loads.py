# SPDX-License-Identifier: Apache-2.0
"""A load is listed before the line that says how long it took is read."""

from ollama_exporter.host.log.late_loads import LATEST, LateLoad, LateLoads
from ollama_exporter.residency.events import Loaded, Measured
from ollama_exporter.residency.facts import LogKind, LogSaid
from tests.support.story import START, model

WEIGHTS = {"aaaaaaaa": "sha256-a", "bbbbbbbb": "sha256-b"}


def begun(at: float, name: str = "a") -> LogSaid:
    moment = START + at
    return LogSaid(moment, LogKind.LOAD_STARTED, moment, weights=f"sha256-{name}")


def done(at: float, seconds: float) -> LogSaid:
    return LogSaid(START + at + 1.0, LogKind.LOAD_DONE, START + at, seconds=seconds)


def loaded(low: float, high: float, name: str = "a", *, took: float | None = None) -> Loaded:
    measured = None if took is None else Measured.LOG
    return Loaded(
        model(name, 300),
        START + low,
        START + high,
        START + high,
        load_seconds=took,
        measured=measured,
    )


def test_a_line_that_comes_after_its_listing_is_joined_once() -> None:
    late = LateLoads(WEIGHTS.get)
    late.on_line(begun(10))
    late.on_loaded(loaded(5, 14))
    assert late.settle(START + 14) == []
    late.on_line(done(13, 3.0))
    assert late.settle(START + 15) == [LateLoad("a:latest", 3.0, START + 13)]
    assert late.settle(START + 16) == []


def test_a_server_that_lists_while_it_loads_says_so_minutes_later() -> None:
    late = LateLoads(WEIGHTS.get)
    late.on_line(begun(10))
    late.on_loaded(loaded(5, 14))
    late.on_line(done(190, 180.0))
    assert [load.seconds for load in late.settle(START + 191)] == [180.0]


def test_weights_may_become_known_later() -> None:
    known: dict[str, str] = {}
    late = LateLoads(known.get)
    for line in (begun(10), done(13, 3.0)):
        late.on_line(line)
    late.on_loaded(loaded(5, 14))
    assert late.settle(START + 14) == []
    known |= WEIGHTS
    assert len(late.settle(START + 20)) == 1


def test_loads_of_two_models_and_two_loads_of_one_keep_their_own() -> None:
    late = LateLoads(WEIGHTS.get)
    late.on_loaded(loaded(5, 14))
    late.on_loaded(loaded(14, 24, "b"))
    late.on_loaded(loaded(30, 44))
    for line in (begun(10), done(13, 3.0), begun(20, "b"), done(22, 2.0), begun(40), done(44, 4.0)):
        late.on_line(line)
    found = [(load.model, load.seconds) for load in late.settle(START + 45)]
    assert found == [("a:latest", 3.0), ("b:latest", 2.0), ("a:latest", 4.0)]


def test_a_line_that_has_measured_a_load_measures_no_other() -> None:
    late = LateLoads(WEIGHTS.get)
    late.on_line(begun(10))
    late.on_line(done(13, 3.0))
    late.on_loaded(loaded(5, 14, took=3.0))
    late.on_loaded(loaded(5, 14))
    assert late.settle(START + 15) == []


def test_a_load_is_not_waited_for_without_end() -> None:
    late = LateLoads(WEIGHTS.get)
    late.on_line(begun(10))
    late.on_loaded(loaded(5, 14))
    assert late.settle(START + 14 + LATEST + 1) == []
    late.on_line(done(13, 3.0))
    assert late.settle(START + 14 + LATEST + 2) == []
