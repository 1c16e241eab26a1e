# SPDX-License-Identifier: Apache-2.0
"""The runners' own ports: §9 of docs/ollama-facts.md. Needs the server on this machine."""

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_exporter.host.processes.command_lines import weights_in
from ollama_exporter.host.runner.runner_command import RunnerCommand, runner_command
from tests.conformance.conftest import Subject
from tests.conformance.talk import BOUND, Ollama, until

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")


@dataclass(frozen=True, slots=True)
class RunnerPort:
    """The port of the model's runner."""

    command: RunnerCommand
    http: httpx.Client

    def slots(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get("/slots").raise_for_status().json()
        return found

    def counter(self, name: str) -> float | None:
        """Return a counter; None: the runner serves none."""
        answer = self.http.get("/metrics")
        if answer.status_code == 501:
            return None
        lines = (line.split() for line in answer.raise_for_status().text.splitlines())
        return next(float(line[1]) for line in lines if line[0] == f"llamacpp:{name}")


@pytest.fixture
def runner(subject: Subject, ollama: Ollama, model: str) -> Iterator[RunnerPort]:
    """Load the model by an empty request, and find its runner by its command line."""
    if subject.old:
        pytest.skip("runners before 0.30 have no such port")
    ollama.generate(model)
    shown = ollama.post("/api/show", model=model).json()["modelfile"]
    weights = next(w for line in shown.splitlines() if (w := weights_in(("--model", line[5:]))))
    command = until(lambda: found(weights, subject.pid), "a runner process of this model")
    url = f"http://127.0.0.1:{command.port}"
    with httpx.Client(base_url=url, trust_env=False, timeout=BOUND) as http:
        yield RunnerPort(command, http)


def found(weights: str, ancestor: int | None) -> RunnerCommand | None:
    """Return the command line of the runner of these weights, below `ancestor` if it is given."""
    for pid in below(ancestor) if ancestor else map(int, filter(str.isdigit, proc())):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if weights_in(words) == weights and (command := runner_command(words)) is not None:
            return command
    return None


def proc() -> list[str]:
    return [path.name for path in Path("/proc").iterdir()]


def below(pid: int) -> Iterator[int]:
    """Yield the descendants of a process."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from below(child)


def test_a_runner_that_was_not_asked_has_idle_slots_without_a_task(runner: RunnerPort) -> None:
    """§9.1, §9.2."""
    slots = runner.slots()
    assert len(slots) == (runner.command.slots or 1)
    assert [slot["is_processing"] for slot in slots] == [False] * len(slots)
    assert all("id_task" not in slot for slot in slots)
    assert sum(slot["n_ctx"] for slot in slots) == runner.command.context


def test_a_slot_at_work_shows_its_tokens_and_keeps_them_afterwards(
    runner: RunnerPort, ollama: Ollama, model: str
) -> None:
    """§9.3, §9.4."""

    def at_work() -> dict[str, Any] | None:
        busy = [slot for slot in runner.slots() if slot["is_processing"]]
        return busy[0] if busy and busy[0]["next_token"][0]["n_decoded"] > 2 else None

    with ollama.busy(model):
        first = until(at_work, "a slot generates")
        later = until(
            lambda: (
                s if (s := at_work()) and s["n_prompt_tokens"] > first["n_prompt_tokens"] else None
            ),
            "its tokens grow",
        )
        grown = later["next_token"][0]["n_decoded"] - first["next_token"][0]["n_decoded"]
        assert abs(later["n_prompt_tokens"] - first["n_prompt_tokens"] - grown) <= 1
    idle = until(
        lambda: None if any(s["is_processing"] for s in runner.slots()) else runner.slots(),
        "the runner notices that its client left",
    )
    kept = next(slot for slot in idle if slot.get("id_task") == first["id_task"])
    assert kept["n_prompt_tokens"] >= later["n_prompt_tokens"] - 1
    assert kept["next_token"][0]["n_decoded"] == 0


def test_counters_move_when_a_request_ends(runner: RunnerPort, ollama: Ollama, model: str) -> None:
    """§9.5."""
    before = runner.counter("tokens_predicted_total")
    if before is None:
        pytest.skip("the server runs without LLAMA_ARG_ENDPOINT_METRICS=1")
    answer = ollama.say(model)
    until(
        lambda: (runner.counter("tokens_predicted_total") or 0) > before or None, "tokens counted"
    )
    assert runner.counter("tokens_predicted_total") == before + answer["eval_count"]


def test_looks_move_no_deadline(runner: RunnerPort, ollama: Ollama, model: str) -> None:
    """§9.6."""
    ollama.say(model, keep_alive=100)
    before = ollama.settled(model)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        runner.slots()
    assert ollama.listed(model)["expires_at"] == before["expires_at"]
