# SPDX-License-Identifier: Apache-2.0
"""Idle gaps and advice on /metrics."""

import json
import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.errors import FailureReason
from ollama_exporter.metrics.exposition import OPENMETRICS, TEXT
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import PollFailed, Snapshot
from ollama_exporter.residency.saved_state import Saved
from ollama_exporter.state_file import DAMAGED, SavedState
from tests.support.exporting import parsed
from tests.support.metering import Metered, metered
from tests.support.whole_scrape import render

START = 1_800_000_000.0
NAME = "mistral:latest"
GAPS = "ollama_model_idle_gap_seconds_count", f"model={NAME}"


def poll(at: float, *deadlines: float, name: str = NAME) -> Snapshot:
    models = tuple(RunningModel(name, "d", START + d, 9, 7_000_000_000) for d in deadlines)
    moment = START + at
    return Snapshot(moment, moment, models)


def text(built: Metered, accept: str = "", renderer: Renderer | None = None) -> str:
    return render(built.registry, renderer or Renderer(), accept=accept)[1].decode()


def test_counters_stand_at_0_as_soon_as_a_model_is_resident_and_advice_is_its_break_even() -> None:
    built = metered()
    advising = built.advice
    advising.on_poll(poll(0, 250))
    samples = parsed(text(built))
    assert samples[GAPS] == 0
    truncated = "ollama_model_idle_gap_truncated_seconds_total"
    assert samples[truncated, f"le=30.0,model={NAME}"] == 0
    assert samples["ollama_model_idle_gaps_inferred_total", f"model={NAME}"] == 0
    assert samples["ollama_model_advice_samples", f"model={NAME}"] == 0
    assert samples["ollama_model_advised_keep_alive_seconds", f"model={NAME}"] == 1800.0
    assert samples["ollama_model_advice_memory_bytes", f"model={NAME}"] == 7e9
    assert samples["ollama_model_advice_load_seconds", f"model={NAME}"] == pytest.approx(
        1.5 + 7 / 1.5
    )
    assert ("ollama_model_last_keep_alive_seconds", f"model={NAME}") not in samples


def test_polls_count_gaps_and_failed_polls_none() -> None:
    built = metered()
    advising = built.advice
    for each in (poll(0, 250), poll(15, 250), poll(30, 325)):
        advising.on_poll(each)
    advising.on_poll(PollFailed(START + 40, START + 45, FailureReason.TIMEOUT))
    advising.on_poll(poll(45, 325))
    samples = parsed(text(built))
    assert samples[GAPS] == 1
    assert samples["ollama_model_idle_gap_seconds_sum", f"model={NAME}"] == 75.0
    assert samples["ollama_model_idle_gaps_inferred_total", f"model={NAME}"] == 1
    assert samples["ollama_model_last_keep_alive_seconds", f"model={NAME}"] == 300.0


def test_a_model_that_is_kept_for_ever_says_so() -> None:
    built = metered()
    advising = built.advice
    advising.on_poll(poll(0, math.inf))
    samples = parsed(text(built))
    assert samples["ollama_model_last_keep_alive_seconds", f"model={NAME}"] == math.inf


def test_models_beyond_the_limit_of_labels_have_no_advice() -> None:
    built = metered(max_models=1)
    advising = built.advice
    for at, deadline in ((0, 250), (15, 250), (30, 325)):
        advising.on_poll(poll(at, deadline))
        advising.on_poll(poll(at + 0.1, deadline, name="one-more:latest"))
    assert 'model="other"' not in text(built)


def test_what_was_counted_outlives_the_process() -> None:
    before, after = metered(), metered()
    first, second = before.advice, after.advice
    for each in (poll(0, 250), poll(15, 250), poll(30, 325)):
        first.on_poll(each)
    before.instruments.gaps.add(NAME, 40.0, inferred=False)
    state = SavedState(Saved(None, (), ()), first.saved())
    second.restore(SavedState.of(json.loads("".join(state.pieces()))).usage)
    was, now = parsed(text(before)), parsed(text(after))
    kept = {key for key in was if "idle_gap" in key[0] or "advi" in key[0]}
    assert len(kept) > 45
    assert {key: was[key] for key in kept} == {key: now[key] for key in kept}


def test_loads_of_an_earlier_process_count_with_those_of_this_one() -> None:
    built = metered(loads=lambda: {NAME: (20.0, 1)})
    advising = built.advice
    advising.restore({NAME: SavedUsage(IdleHistogram.of([50.0]), 0.0, 10.0, 1, 5_000_000_000)})
    load = parsed(text(built))["ollama_model_advice_load_seconds", f"model={NAME}"]
    assert load == 15.0


def test_a_restart_with_a_state_file_changes_nothing_that_the_advice_rests_on() -> None:
    before = metered(loads=lambda: {NAME: (2.0, 4)})
    for each in (poll(0, 250), poll(15, 250), poll(30, 325)):
        before.advice.on_poll(each)
    state = SavedState(Saved(None, (), ()), before.advice.saved())
    after = metered()
    after.advice.restore(SavedState.of(json.loads("".join(state.pieces()))).usage)
    was, now = parsed(text(before)), parsed(text(after))
    for name in ("last_keep_alive_seconds", "advice_loads", "advice_load_seconds"):
        key = f"ollama_model_{name}", f"model={NAME}"
        assert was[key] == now[key]
    assert was["ollama_model_last_keep_alive_seconds", f"model={NAME}"] == 300.0
    since = "ollama_model_advice_since_timestamp_seconds", f"model={NAME}"
    assert was[since] == now[since] == START


def test_a_model_that_never_expires_is_known_to_do_so_after_a_restart() -> None:
    before, after = metered(), metered()
    before.advice.on_poll(poll(0, math.inf))
    after.advice.restore(before.advice.saved())
    key = "ollama_model_last_keep_alive_seconds", f"model={NAME}"
    assert parsed(text(after))[key] == math.inf


def test_a_state_without_usage_or_with_other_bounds() -> None:
    assert SavedState.of({"last": None, "lives": [], "known": []}).usage == {}
    damaged = {"gaps": {"counts": [1.0], "truncated": [], "total": 5.0}}
    with pytest.raises(DAMAGED, match="other bounds"):
        SavedState.of({"last": None, "lives": [], "known": [], "habits": {NAME: damaged}})


# -- rendering -------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_the_text_of_gaps_is_the_same_from_what_was_kept_until_one_is_added(accept: str) -> None:
    built, renderer = metered(), Renderer()
    advising = built.advice
    advising.on_poll(poll(0, 250))
    built.instruments.gaps.add(NAME, 40.0, inferred=False)
    first, second = text(built, accept, renderer), text(built, accept, renderer)
    lines = [line for line in first.splitlines() if "scrape" not in line]
    assert lines == [line for line in second.splitlines() if "scrape" not in line]
    assert f'ollama_model_idle_gap_seconds_bucket{{le="60.0",model="{NAME}"}} 1.0' in lines
    if accept:
        assert first.count("# EOF") == 1
        assert first.endswith("# EOF\n")
        assert any(f.name == "ollama_model_idle_gap_seconds" for f in openmetrics(first))  # type: ignore[no-untyped-call]  # the library leaves it untyped
    built.instruments.gaps.add(NAME, 50.0, inferred=False)
    assert parsed(text(built, renderer=renderer))[GAPS] == 2


@pytest.mark.parametrize(
    ("accept", "kind"), [("", TEXT), ("application/openmetrics-text", OPENMETRICS)]
)
def test_a_filter_by_name_finds_kept_families_too(accept: str, kind: str) -> None:
    built = metered()
    built.instruments.gaps.expect(NAME)
    names = ["ollama_model_idle_gap_seconds_count"]
    headers, body = render(built.registry, Renderer(), accept=accept, names=names)
    samples = [line for line in body.decode().splitlines() if not line.startswith("#")]
    assert samples == [f'ollama_model_idle_gap_seconds_count{{model="{NAME}"}} 0.0']
    assert headers["content-type"] == kind
