# SPDX-License-Identifier: Apache-2.0
"""The simulator's runners against raw answers of a real one, tests/data/runner."""

import json
from typing import Any

from ollama_exporter.host.runner.runner_command import runner_command as read_command
from ollama_exporter.host.runner.runner_counters import NAMES, decode_counters
from ollama_exporter.host.runner.slots import decode_slots
from ollama_exporter.simulator.process_manager import runner_command
from ollama_exporter.simulator.runner_answers import metrics_answer, props_answer, slots_answer
from ollama_exporter.simulator.runner_slots import RunnerSlots
from tests.support.paths import DATA

RAW = DATA / "runner"


def shown(runner: RunnerSlots) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(slots_answer(runner, with_prompts=False))
    return found


def raw(name: str) -> Any:
    return json.loads((RAW / name).read_bytes())


def test_slots_have_the_fields_of_real_ones_in_each_state() -> None:
    runner = RunnerSlots(2, 4096)
    assert shown(runner) == raw("slots-never-used.json")
    real = raw("slots-one-busy.json")[1]
    with runner.working("a b c", 28) as work:
        work.read_prompt(0.1)
        for _ in range(957):
            work.generate(0.02)
        busy, idle = shown(runner)[0], shown(runner)[1]
        assert idle == raw("slots-never-used.json")[1]
        assert busy.keys() == real.keys()
        assert busy["params"].keys() <= real["params"].keys()
        numbers = ("n_ctx", "is_processing", "n_prompt_tokens", "n_prompt_tokens_processed")
        assert [busy[name] for name in numbers] == [real[name] for name in numbers]
        assert busy["next_token"][0].keys() == real["next_token"][0].keys()
        assert busy["next_token"][0]["n_decoded"] == 957
    after, real = shown(runner)[0], raw("slots-idle-after.json")[1]
    assert after.keys() == real.keys()
    assert after["n_prompt_tokens"] == 28 + 957 - 1  # as 1979 = 28 + 1952 - 1 in the real one
    assert after["next_token"][0]["n_decoded"] == 0
    assert not after["is_processing"]


def test_counters_have_the_names_of_real_ones_and_move_when_those_do() -> None:
    def named(text: bytes) -> set[bytes]:
        return {line.split()[2] for line in text.splitlines() if line.startswith(b"# TYPE")}

    runner = RunnerSlots(1, 4096)
    assert named(metrics_answer(runner)) <= named((RAW / "metrics-one-busy.txt").read_bytes())
    assert {b"llamacpp:" + name for name in NAMES} <= named(metrics_answer(runner))
    with runner.working("a b c d", 4) as work:
        work.read_prompt(0.5)
        work.generate(0.02)
        work.generate(0.02)
        during = decode_counters(metrics_answer(runner))
    after = decode_counters(metrics_answer(runner))
    assert during is not None
    assert after is not None
    assert (during.prompt_tokens, during.prompt_seconds, during.generated_tokens) == (4, 0.5, 0)
    assert (after.generated_tokens, after.generated_seconds) == (2, 0.04)


def test_a_prompt_that_begins_alike_goes_to_the_slot_that_has_it_cached() -> None:
    runner = RunnerSlots(2, 4096)
    with runner.working("one two three four", 4) as work:
        work.read_prompt(0.1)
    with runner.working("other words", 2) as work:
        assert work.slot.number == 1
        work.read_prompt(0.1)
    with runner.working("one two three five six", 5) as work:
        assert (work.slot.number, work.slot.cached) == (0, 3)
        work.read_prompt(0.1)
    assert (runner.totals.prompt, runner.totals.cached) == (4 + 2 + 2, 3)


def test_a_full_context_drops_half_unless_it_must_not_shift() -> None:
    for shift in (True, False):
        runner = RunnerSlots(1, 100, shift=shift)
        with runner.working("a", 1) as work:
            held = []
            for _ in range(150):
                work.generate(0.02)
                held.append(work.slot.held)
        assert max(held) == 100
        assert held[98:101] == ([100, 53, 54] if shift else [100, 100, 100])


def test_what_a_runner_writes_is_what_the_exporter_reads() -> None:
    runner = RunnerSlots(2, 2048)
    with runner.working("secret words", 2):
        slots = decode_slots(slots_answer(runner, with_prompts=True))
    assert slots is not None
    assert [(slot.id, slot.context, slot.busy, slot.held) for slot in slots] == [
        (0, 2048, True, 2),
        (1, 2048, False, 0),
    ]
    assert b"secret" in slots_answer(runner, with_prompts=True)
    assert b"secret" not in slots_answer(runner, with_prompts=False)
    assert raw("props.json").keys() >= json.loads(props_answer(runner, "x")).keys()
    command = read_command(runner_command("new", "sha256-0", 41000, slots=2, context=2048))
    assert command is not None
    assert (command.port, command.slots, command.context) == (41000, 2, 4096)
    assert read_command(runner_command("old", "sha256-0", 41000)) is None
