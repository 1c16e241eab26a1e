# SPDX-License-Identifier: Apache-2.0
"""Four days of use under five minutes' keep_alive, then the same days under the advised values.

On the simulated server in virtual time; the exporter's own parts count, advise and promise.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import pytest

from ollama_exporter.advice.exporter_source import from_text
from ollama_exporter.advice.report import Finding, report
from ollama_exporter.protocol.keepalive import compact
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.facts import Snapshot
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.offline_run import OfflineRun, rehearse
from ollama_exporter.simulator.script import Ask, Script
from ollama_exporter.simulator.state import Host, Load, Unload
from tests.support.histories import rendered
from tests.support.metering import metered

START: Final = 1_800_000_000.0
DAYS: Final = 4
HOUR: Final = 3600.0
DURATION: Final = DAYS * 24 * HOUR
POLL: Final = 15.0
NAMES: Final = ("llama3.2:latest", "mistral:latest", "qwen2.5:7b")


def script(keep_alives: Mapping[str, float]) -> Script:
    """Three models that fit: chats with pauses, a job every half hour, rare questions."""
    rng = random.Random(11)  # noqa: S311 - a reproducible workload, no secret
    steps: list[Ask] = []
    at = 60.0
    while at < DURATION:
        steps.append(Ask(at, "mistral:latest", rng.randint(40, 300)))
        goes_on = rng.random() < 0.9
        at += rng.lognormvariate(math.log(240), 0.9) if goes_on else rng.expovariate(1 / (4 * HOUR))
    steps += [
        Ask(90.0 + 1800.0 * n + rng.uniform(0, 20), "llama3.2:latest", 120)
        for n in range(int(DURATION / 1800) - 1)
    ]
    at = 500.0
    while at < DURATION:
        steps.append(Ask(at, "qwen2.5:7b", 200))
        at += rng.expovariate(1 / (3 * HOUR))
    asked = [
        replace(step, keep_alive=_value(keep_alives[step.model])) if keep_alives else step
        for step in steps
    ]
    host = Host(memory=80 * GIB, max_loaded=5)
    return Script("days", tuple(sorted(asked, key=lambda step: step.at)), DURATION, host)


def _value(seconds: float) -> float | str:
    return -1 if math.isinf(seconds) else compact(seconds) if seconds else 0


@dataclass(frozen=True, slots=True)
class Real:
    """What really happened to a model."""

    cold_starts: int  # but for the first one, before which there is no gap
    idle_gb_hours: float


def real(played: OfflineRun) -> dict[str, Real]:
    """Measure it on the truth: loads, and the time resident that no request used."""
    loads, resident, busy = (
        defaultdict[str, int](int),
        defaultdict[str, float](float),
        defaultdict[str, list[tuple[float, float]]](list),
    )
    open_since: dict[str, float] = {}
    for event in played.truth:
        if isinstance(event, Load):
            loads[event.name] += 1
            open_since[event.name] = event.at
        elif isinstance(event, Unload):
            resident[event.name] += event.at - open_since.pop(event.name)
    for name, since in open_since.items():
        last = max(a.ended for a in played.answers if a.step.model == name)
        resident[name] += last - since  # the last gap has no end yet
    for answer in played.answers:
        if answer.granted is not None:
            busy[answer.step.model].append((answer.granted, answer.ended))
    size = {model.name: model.size for poll in played.polls for model in poll.models or ()}
    return {
        name: Real(
            loads[name] - 1,
            (resident[name] - _covered(busy[name])) / HOUR * size[name] / 1e9,
        )
        for name in NAMES
    }


def _covered(spans: list[tuple[float, float]]) -> float:
    covered, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def counted(played: OfflineRun, *, requests: bool) -> str:
    """Let the exporter's own parts count it; return what `/metrics` says then."""
    loads: dict[str, tuple[float, int]] = {}
    built = metered(loads=lambda: loads, blind=120.0)
    advising = built.advice
    facts: list[tuple[float, str, str]] = []
    if requests:
        for answer in played.answers:
            facts.append((answer.arrived, "began", answer.step.model))
            facts.append((answer.ended, "ended", answer.step.model))
        for event in played.truth:
            if isinstance(event, Load):
                total, count = loads.get(event.name, (0.0, 0))
                loads[event.name] = (total + event.at - event.started_at, count + 1)
    facts += [(poll.at, "polled", "") for poll in played.polls]
    listed = {poll.at: poll.models or () for poll in played.polls}
    for at, what, model in sorted(facts):
        if what == "polled":
            models = tuple(
                RunningModel(m.name, m.digest, _never(m.expires_at), m.size, m.size_vram)
                for m in listed[at]
            )
            advising.on_poll(Snapshot(at, at, models))
        elif what == "ended":
            advising.gaps.on_request_end(model, at, used=True)
        elif (gap := advising.gaps.on_request_start(model, at)) is not None:
            built.instruments.gaps.add(model, gap, inferred=False)
    return rendered(built.registry)


def _never(moment: float) -> float:
    return math.inf if moment > START + 200 * 365 * 86400 else moment


def findings(text: str) -> dict[str, Finding]:
    found = report(from_text(text, source="exporter", now=START + DURATION)).findings
    return {f.model: f for f in found}


POLLS: Final = [POLL * n for n in range(1, int(DURATION / POLL))]


@pytest.mark.parametrize("requests", [True, False], ids=["requests seen", "polls alone"])
def test_what_the_advice_promises_comes_true_within_15_percent(*, requests: bool) -> None:
    before = rehearse(script({}), start=START, polls=POLLS)
    told = findings(counted(before, requests=requests))
    assert set(told) == set(NAMES)
    advised = {name: f.advice.keep_alive for name, f in told.items()}
    after = rehearse(script(advised), start=START, polls=POLLS[:1])
    now, then = real(before), real(replace(after, polls=before.polls))
    for name, f in told.items():
        assert f.now.cold_starts == pytest.approx(now[name].cold_starts, rel=0.15, abs=2)
        assert f.then.cold_starts == pytest.approx(then[name].cold_starts, rel=0.15, abs=2)
        assert f.now.idle_gb_hours == pytest.approx(now[name].idle_gb_hours, rel=0.15)
        assert f.then.idle_gb_hours == pytest.approx(then[name].idle_gb_hours, rel=0.15, abs=1.5)
        better_off = then[name].cold_starts < now[name].cold_starts
        assert better_off or then[name].idle_gb_hours < now[name].idle_gb_hours
    mistral = told["mistral:latest"]
    assert mistral.advice.keep_alive > 300.0
    assert then["mistral:latest"].cold_starts < 0.6 * now["mistral:latest"].cold_starts
