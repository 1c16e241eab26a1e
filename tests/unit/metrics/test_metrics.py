# SPDX-License-Identifier: Apache-2.0
"""Whole expositions against golden files; WRITE_GOLDEN=1 writes them anew: read the diff then."""

import itertools
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ollama_exporter.clock import Timeline
from ollama_exporter.errors import FailureReason
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.collect_all import CollectAll
from ollama_exporter.metrics.collectors.machine_collector import Blind, Sight
from ollama_exporter.metrics.exposition import OPENMETRICS, TEXT, preference
from ollama_exporter.metrics.labels import OTHER
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import (
    Event,
    Evidence,
    Found,
    Loaded,
    Measured,
    ModelState,
    Reason,
    Restarted,
    Source,
    Unloaded,
    View,
)
from tests.support.golden import assert_golden
from tests.support.metering import NOTHING, Metered, metered
from tests.support.programs import check_metrics
from tests.support.whole_scrape import render

# What differs from run to run or from machine to machine.
VARYING = re.compile(r"(# \w+ )?(ollama_scrape_|ollama_exporter_build_info|process_|python_)")
MISTRAL = RunningModel(
    "mistral:latest", "f" * 64, 1_800_000_300.25, 5 * 2**30, 4 * 2**30, 4096,
    "llama", "gguf", "7.2B", "Q4_K_M",
)  # fmt: skip
LLAMA = RunningModel("llama3.2:latest", "a" * 64, math.inf, 2**30, 0, None)
UP = ServerState(
    up=True,
    version="0.33.0",
    last_success=1_800_000_000.5,
    last_duration=0.002,
    polls=7,
    failures={FailureReason.REFUSED: 2},
    installed=(("mistral:latest", 4_000_000_000),),
)


def state(*resident: RunningModel, name: str = "", keep_alive: float | None = None) -> ModelState:
    since = 1_800_000_000.0 if resident else None
    return ModelState(name or resident[0].name, resident, since, keep_alive, None)


def view(*models: ModelState, pending: int = 0) -> View:
    return View(models, pending, (), None, 1_800_000_000.5)


def metrics(
    seen: View,
    server: ServerState = UP,
    *,
    events: Sequence[Event] = (),
    expected: Sequence[str] = (),
    max_models: int = 100,
    sight: Sight | None = None,
) -> Metered:
    built = metered(
        view=seen,
        server=server,
        expected=[normalise(name) for name in expected],
        max_models=max_models,
        sight=sight,
    )
    for event in events:
        built.instruments.lifecycle.on_event(event)
    built.instruments.exporter.reloaded(at=1_800_000_000.0)
    return built


def unloaded(
    model: RunningModel, reason: Reason, by: str | None = None, early: float | None = None
) -> Unloaded:
    return Unloaded(
        model,
        reason,
        (Evidence.NEWCOMER,),
        1_800_000_080.0,
        1_800_000_090.0,
        1_800_000_100.0,
        1_800_000_000.0,
        by,
        early,
    )


def test_only_what_is_sure_counts_as_unexpected() -> None:
    gone = unloaded(MISTRAL, Reason.EVICTED, "a:latest")
    reasons = (
        replace(gone, sure=0.79),
        replace(gone, sure=0.8),
        replace(gone, reason=Reason.CRASHED, sure=0.95),
        replace(gone, reason=Reason.STOPPED, sure=0.95),
        replace(gone, reason=Reason.UNKNOWN, sure=0.0),
    )
    text = text_of(metrics(view(), events=reasons))
    counted = {
        line.split('reason="')[1].split('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("ollama_model_unexpected_unloads_total{")
    }
    assert counted == {"evicted": 1.0, "crashed": 1.0, "out_of_memory": 0.0}


def text_of(built: Metered, **accept: str) -> str:
    return render(built.registry, Renderer(), **accept)[1].decode()


@dataclass(frozen=True, slots=True)
class Uses:
    """What a process uses."""

    resident: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Seeing(Blind):
    """A machine whose processes use what their pid says, and whose log was read."""

    log_lines: Mapping[str, int] | None = None
    log_understood: bool | None = None

    def usage(self, pid: int) -> Uses | None:
        """Return what it uses; pid 9 is gone by now."""
        return None if pid == 9 else Uses(pid * 2**20, pid / 4)

    def load_progress(self, model: str, pid: int) -> float | None:  # noqa: ARG002 - by its pid
        """Return a share; that of pid 9 is not visible."""
        return None if pid == 9 else pid / 16


def process_view(*models: ModelState, contradictions: int = 0) -> View:
    """Return a view with the server's process in sight."""
    seen = view(*models)
    return replace(seen, server_started=1_799_999_000.25, contradictions=contradictions)


ALIVE = replace(state(MISTRAL), runner_up=True, pids=(101, 9))
DEAD = replace(state(LLAMA), runner_up=False)
LOADING = replace(state(name="new:latest"), loading_since=1_800_000_001.5, pids=(103,))


STORIES = {
    "processes_and_log": metrics(
        process_view(DEAD, ALIVE, LOADING, contradictions=2),
        events=[Loaded(MISTRAL, 0.0, 5.0, 5.0, frozenset({Source.PROCESS}), 3.5, Measured.PROCESS)],
        sight=Seeing({"info": 7, "other": 5000}),
    ),
    "processes_in_an_outage": metrics(
        process_view(DEAD, ALIVE, LOADING),
        ServerState(polls=3, failures={FailureReason.TIMEOUT: 3}),
        sight=Seeing(),
    ),
    "processes_that_share_a_label": metrics(
        process_view(ALIVE, DEAD, LOADING, replace(LOADING, name="newer:latest")),
        sight=Seeing(),
        max_models=0,
    ),
    "nothing_loaded": metrics(view()),
    "two_models": metrics(
        view(state(LLAMA, keep_alive=math.inf), state(MISTRAL, keep_alive=300.0), pending=1),
        events=[Found(LLAMA, 0.0), Loaded(MISTRAL, 0.0, 1.0, 1.0, frozenset({Source.REQUEST}))],
    ),
    "outage": metrics(
        view(state(MISTRAL)),
        ServerState(polls=3, failures={FailureReason.TIMEOUT: 3}),
        events=[Found(MISTRAL, 0.0)],
        expected=["mistral"],
    ),
    "expected_model_missing": metrics(
        view(state(name="gone:latest")), expected=["mistral", "gone"]
    ),
    "same_name_twice": metrics(
        view(state(MISTRAL, RunningModel("mistral:latest", "e" * 64, 1_800_000_400.0, 2**30)))
    ),
    "unloads_by_all_reasons": metrics(
        view(state(name="mistral:latest")),
        events=[
            Loaded(MISTRAL, 0.0, 1.0, 1.0),
            *(unloaded(MISTRAL, reason) for reason in Reason),
            unloaded(MISTRAL, Reason.EVICTED, by="llama3.2:latest", early=math.inf),
            unloaded(MISTRAL, Reason.CRASHED, early=840.0),
            Restarted(0.0, 1.0),
        ],
    ),
    "more_models_than_labels": metrics(
        view(state(LLAMA), state(MISTRAL), state(RunningModel("z:latest", "9", 5.0, 7))),
        events=[
            Found(LLAMA, 0.0),
            Found(MISTRAL, 0.0),
            Found(RunningModel("z:latest", "9", 5.0, 7), 0.0),
        ],
        max_models=1,
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_exposition_is_as_it_was(story: str) -> None:
    lines = text_of(STORIES[story]).splitlines(keepends=True)
    text = "".join(line for line in lines if not VARYING.match(line))
    assert_golden(f"{story}.txt", text)


@pytest.mark.parametrize("story", STORIES)
def test_both_parsers_read_it_without_a_series_twice(story: str) -> None:
    built = STORIES[story]
    plain = list(parse_text(text_of(built)))
    text = text_of(built, accept="application/openmetrics-text")
    openmetrics = list(parse_openmetrics(text))  # type: ignore[no-untyped-call]  # the library's
    for families in (plain, openmetrics):
        series = Counter(
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in families
            for sample in family.samples
        )
        assert [key for key, times in series.items() if times > 1] == []
    names = [line.split()[2] for line in text_of(built).splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_every_family_emitted_is_in_the_catalogue_and_vice_versa() -> None:
    emitted = {family.name for family in STORIES["two_models"].registry.collect()}
    assert emitted == {family.base for family in FAMILIES.values()}


def test_an_outage_claims_no_model() -> None:
    text = text_of(STORIES["outage"])
    assert "ollama_up 0.0" in text
    assert 'ollama_model_loaded{model="mistral:latest"} 0.0' in text
    assert "ollama_model_memory_bytes{" not in text


def test_all_reasons_stand_at_zero_before_the_first_unload() -> None:
    text = text_of(STORIES["two_models"])
    for reason in Reason:
        line = f'ollama_model_unloads_total{{model="mistral:latest",reason="{reason}"}} 0.0'
        assert line in text


def test_models_beyond_the_limit_share_a_label_and_are_counted() -> None:
    text = text_of(STORIES["more_models_than_labels"])
    assert f'ollama_model_memory_bytes{{model="{OTHER}"}}' in text
    assert 'ollama_exporter_label_overflow_total{label="model"} 2.0' in text
    assert f'ollama_model_info{{model="{OTHER}"' not in text


def test_a_large_library_on_disk_takes_no_label_from_a_resident_model() -> None:
    installed = tuple((f"installed{number}:latest", 1) for number in range(3))
    server = ServerState(up=True, installed=installed)
    text = text_of(metrics(view(state(MISTRAL)), server, max_models=2))
    assert 'ollama_model_memory_bytes{model="mistral:latest"}' in text
    assert f'ollama_model_disk_bytes{{model="{OTHER}"}} 1.0' in text


def test_a_folded_model_is_counted_once_for_each_load() -> None:
    events: list[Event] = [
        Found(LLAMA, 0.0),
        Loaded(MISTRAL, 0.0, 1.0, 1.0),
        unloaded(MISTRAL, Reason.EXPIRED),
    ]
    text = text_of(metrics(view(), events=events, max_models=1))
    assert 'ollama_exporter_label_overflow_total{label="model"} 1.0' in text


def test_counters_of_an_expected_model_stand_at_zero_before_it_is_seen() -> None:
    text = text_of(metrics(view(), expected=["mistral"]))
    assert 'ollama_model_loads_total{model="mistral:latest"} 0.0' in text


def test_an_earlier_unload_that_settles_later_does_not_turn_the_last_one_back() -> None:
    last = unloaded(MISTRAL, Reason.EVICTED)
    earlier = replace(last, not_after=last.not_after - 50)
    text = text_of(metrics(view(), events=[last, earlier]))
    series = 'ollama_model_last_unload_timestamp_seconds{model="mistral:latest",reason="evicted"}'
    assert f"{series} 1.80000009e+09" in text


def test_a_deadline_that_was_not_announced_is_absent() -> None:
    text = text_of(metrics(view(state(RunningModel("z:latest", "9", 0.0, 7)))))
    assert 'ollama_model_loaded{model="z:latest"} 1.0' in text
    assert "ollama_model_expires_timestamp_seconds{" not in text


class Broken:
    name = "broken"

    def __init__(self, *, times: int) -> None:
        self._left = times

    def collect(self) -> list[object]:
        if self._left:
            self._left -= 1
            raise RuntimeError("defect")
        return []


class Fine:
    name = "fine"

    def collect(self) -> list[object]:
        return []


def test_a_raising_collector_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    collectors = [Broken(times=2), Fine()]
    nothing = Published(ServerState(), NOTHING)
    whole = CollectAll(collectors, lambda: nothing, clock=lambda: 0.0)  # type: ignore[arg-type]  # that is the point
    registry.register(whole)
    with caplog.at_level(logging.INFO):
        first, second, third, _ = (render(registry, Renderer())[1].decode() for _ in range(4))
    assert 'ollama_scrape_collector_success{collector="broken"} 0.0' in first
    assert 'ollama_scrape_collector_success{collector="fine"} 1.0' in second
    assert 'ollama_scrape_collector_success{collector="broken"} 1.0' in third
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Collector failed", "Collector succeeds again"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text; version=2.0.0", OPENMETRICS),
        ("application/openmetrics-text;q=0, text/plain", TEXT),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            OPENMETRICS,
        ),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.5", TEXT),
    ],
)
def test_the_form_is_negotiated(accept: str, content_type: str) -> None:
    headers, body = render(STORIES["nothing_loaded"].registry, Renderer(), accept=accept)
    assert headers["content-type"] == content_type
    assert body.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


@pytest.mark.parametrize(
    ("header", "q"),
    [("gzip", 1.0), ("gzip;q=0", 0.0), ("br, gzip;q=0.5", 0.5), ("x", 0.0), ("gzip;q=x", 0.0)],
)
def test_gzip_is_given_to_those_who_take_it(header: str, q: float) -> None:
    assert preference(header, "gzip") == q
    headers, _ = render(STORIES["nothing_loaded"].registry, Renderer(), accept_encoding=header)
    assert ("content-encoding" in headers) == (q > 0)


def test_single_families_can_be_asked_for() -> None:
    text = render(
        STORIES["two_models"].registry, Renderer(), names=["ollama_up", "ollama_model_loads_total"]
    )[1]
    names = {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}
    assert names == {"ollama_up", "ollama_model_loads_total"}


@pytest.mark.parametrize("runtime", [True, False])
def test_the_librarys_families_can_be_asked_for_where_they_are_served(*, runtime: bool) -> None:
    built = metered(view=view(), server=UP, runtime=runtime)
    text = render(built.registry, Renderer(), names=["python_info"])[1].decode()
    assert ("python_info{" in text) is runtime


@pytest.mark.parametrize("story", STORIES)
def test_promtool_has_nothing_to_say(story: str) -> None:
    assert check_metrics(text_of(STORIES[story])) == []


def test_the_birth_of_a_server_is_one_number_however_clocks_drift() -> None:
    drift = itertools.count()
    timeline = Timeline(wall=lambda: next(drift) / 1000, monotonic=lambda: 0.0)
    built = metered(view=process_view(LOADING), server=UP, timeline=timeline, sight=Seeing())
    births = {
        line
        for _ in range(5)
        for line in text_of(built).splitlines()
        if line.startswith(("ollama_server_start_time_seconds ", "ollama_model_load_started_"))
    }
    assert len(births) == 2
