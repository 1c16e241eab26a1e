# SPDX-License-Identifier: Apache-2.0
"""What holds of the scheduler whatever clients do."""

import itertools
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.offline_run import OfflineRun, rehearse
from ollama_exporter.simulator.script import (
    Ask,
    Crash,
    OutOfMemory,
    Recreate,
    Restart,
    Script,
    Step,
    Stop,
)
from ollama_exporter.simulator.state import Generation, Host, Load, Unload

TIMES = st.floats(0.0, 200.0).map(lambda at: round(at, 2))
MODELS = st.sampled_from(["mistral", "llama3.2", "qwen2.5:7b", "gemma2:27b"])
ASKS = st.builds(
    Ask,
    TIMES,
    MODELS,
    tokens=st.integers(0, 400),
    keep_alive=st.sampled_from([None, None, 0, 1, 30, "5m", -1]),
    num_ctx=st.sampled_from([None, None, 4096, 8192]),
    leave_after=st.sampled_from([None, None, None, 0.5, 7.0]),
)
FAULTS = st.one_of(
    st.builds(Stop, TIMES, MODELS),
    st.builds(Crash, TIMES, MODELS),
    st.builds(OutOfMemory, TIMES, MODELS),
    st.builds(Recreate, TIMES, MODELS),
    st.builds(Restart, TIMES, down=st.sampled_from([0.02, 5.0])),
)
STEPS = st.lists(st.one_of(ASKS, ASKS, ASKS, FAULTS), max_size=25)
GENERATIONS: st.SearchStrategy[Generation] = st.sampled_from(["new", "old"])
HOSTS = st.builds(
    Host,
    memory=st.sampled_from([8, 12, 24, 64]).map(lambda gib: gib * GIB),
    gpu=st.booleans(),
    keep_alive=st.sampled_from([0.0, 10.0, 300.0]),
    max_loaded=st.integers(1, 3),
    parallel=st.integers(1, 3),
    generation=GENERATIONS,
)
POLLS = [index * 3.1 for index in range(190)]


def run(host: Host, steps: list[Step]) -> OfflineRun:
    ordered = tuple(sorted(steps, key=lambda step: step.at))
    script = Script("any", ordered, 600.0, host, default_catalogue().compressed(10))
    return rehearse(script, start=1_000_000.0, polls=POLLS)


@settings(max_examples=40, deadline=None)
@given(HOSTS, STEPS)
def test_never_two_loads_at_once(host: Host, steps: list[Step]) -> None:
    loads = [event for event in run(host, steps).truth if isinstance(event, Load)]
    for before, after in itertools.pairwise(loads):
        assert after.started_at >= before.at


@settings(max_examples=40, deadline=None)
@given(HOSTS, STEPS)
def test_gpu_memory_is_never_exceeded_and_the_count_never_passed(
    host: Host, steps: list[Step]
) -> None:
    for seen in run(host, steps).polls:
        entries = seen.models or ()
        assert len(entries) <= host.max_loaded
        assert sum(entry.size_vram for entry in entries) <= (host.memory if host.gpu else 0)


@settings(max_examples=40, deadline=None)
@given(HOSTS, STEPS)
def test_every_request_ends_if_clients_and_keep_alives_are_finite(
    host: Host, steps: list[Step]
) -> None:
    # -1 on a busy victim is the stuck scheduler, which is real: it is tested by itself
    finite = [
        step for step in steps if not (isinstance(step, Ask) and step.keep_alive in (-1, "5m"))
    ]
    result = run(host, finite)
    away = sum(1 for step in finite if isinstance(step, Restart))
    asked = sum(1 for step in finite if isinstance(step, Ask))
    if not away:
        assert len(result.answers) == asked
    else:
        assert len(result.answers) <= asked


@settings(max_examples=40, deadline=None)
@given(HOSTS, STEPS)
def test_truth_is_balanced_and_says_what_the_list_shows(host: Host, steps: list[Step]) -> None:
    result = run(host, steps)
    resident: dict[int, str] = {}
    count: dict[int, int] = defaultdict(int)
    for event in result.truth:
        if isinstance(event, Load):
            assert event.pid not in resident
            resident[event.pid] = event.name
            count[event.pid] += 1
        elif isinstance(event, Unload):
            assert resident.pop(event.pid) == event.name
            assert event.loaded_at <= event.decided <= event.at or event.reason == "options_changed"
    assert all(number == 1 for number in count.values())
    if host.generation == "new" and result.polls[-1].models is not None:
        assert sorted(resident.values()) == sorted(e.name for e in result.polls[-1].models)


@settings(max_examples=40, deadline=None)
@given(HOSTS, STEPS)
def test_a_deadline_in_the_list_was_written_before_it_was_seen(
    host: Host, steps: list[Step]
) -> None:
    """E is never further ahead than the longest keep-alive in use."""
    longest = max([host.keep_alive, 300.0, 30.0])
    forever = any(isinstance(step, Ask) and step.keep_alive == -1 for step in steps)
    for seen in run(host, steps).polls:
        for entry in seen.models or ():
            assert forever or entry.expires_at <= seen.at + longest + 1e-6


@settings(max_examples=30, deadline=None)
@given(HOSTS, STEPS)
def test_the_same_script_has_the_same_truth(host: Host, steps: list[Step]) -> None:
    assert run(host, steps) == run(host, steps)
