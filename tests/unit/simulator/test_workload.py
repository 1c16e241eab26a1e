# SPDX-License-Identifier: Apache-2.0
"""Workloads are pure, and the demo's story is what it says."""

import pytest

from ollama_exporter.simulator.offline_run import rehearse
from ollama_exporter.simulator.script import Ask, Script
from ollama_exporter.simulator.state import Load, TrueReason, Unload
from ollama_exporter.simulator.workload import WORKLOADS, demo


def unloads(script: Script) -> list[tuple[str, TrueReason, str | None]]:
    truth = rehearse(script).truth
    return [(event.name, event.reason, event.by) for event in truth if isinstance(event, Unload)]


def test_the_demo_tells_each_reason_once_in_two_minutes() -> None:
    script = demo()
    assert script.duration <= 130
    assert unloads(script) == [
        ("llama3.2:latest", TrueReason.CRASHED, None),
        ("llama3.2:latest", TrueReason.EXPIRED, None),
        ("mistral:latest", TrueReason.OPTIONS_CHANGED, None),
        ("mistral:latest", TrueReason.STOPPED, None),
        ("qwen2.5:7b", TrueReason.EVICTED, "mistral:latest"),
        ("mistral:latest", TrueReason.SERVER_RESTARTED, None),
        ("llama3.2:latest", TrueReason.OUT_OF_MEMORY, None),
    ]


def test_the_demo_keeps_the_ratio_of_cold_and_warm() -> None:
    result = rehearse(demo())
    cold = [
        e.at - e.started_at for e in result.truth if isinstance(e, Load) and "mistral" in e.name
    ]
    assert all(9 <= seconds <= 11 for seconds in cold)
    warm = [a.ended - a.arrived for a in result.answers if a.granted == a.arrived]
    assert warm
    assert min(warm) <= 2
    assert sum(answer.error is not None for answer in result.answers) == 2  # crash, no memory


def test_the_demo_stops_a_model_that_is_busy() -> None:
    result = rehearse(demo(), polls=[67.0, 71.0])
    for seen in result.polls:
        assert seen.models is not None
        assert [entry.expires_at for entry in seen.models] == [66.0]


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_workload_is_a_pure_function_of_its_seed(name: str) -> None:
    workload = WORKLOADS[name]
    assert workload(7) == workload(7)
    script = workload(7)
    assert list(script.steps) == sorted(script.steps, key=lambda step: step.at)
    assert rehearse(script).answers
    assert sum(script.models().values()) == sum(isinstance(s, Ask) for s in script.steps)


def test_workloads_do_to_models_what_they_are_named_for() -> None:
    assert {reason for _, reason, _ in unloads(WORKLOADS["thrash"]())} == {
        TrueReason.OPTIONS_CHANGED
    }
    assert {reason for _, reason, _ in unloads(WORKLOADS["seed"]())} == {TrueReason.EXPIRED}
    told = {reason for seed in range(6) for _, reason, _ in unloads(WORKLOADS["faults"](seed))}
    assert told >= {TrueReason.STOPPED, TrueReason.OUT_OF_MEMORY, TrueReason.SERVER_RESTARTED}


def test_a_script_that_names_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="absent"):
        rehearse(Script("odd", (Ask(0, "absent"),), 1.0))
