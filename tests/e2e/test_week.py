# SPDX-License-Identifier: Apache-2.0
"""A week of ordinary use raises no alert; known incidents raise theirs and no other.

The real tracker, recorder and registry in virtual time, scraped; the rules by promtool.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
import yaml

from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.script import Ask, Crash, Restart, Script, Step
from ollama_exporter.simulator.state import Host
from ollama_exporter.simulator.workload import office
from tests.support.paths import ROOT
from tests.support.programs import program
from tests.support.weeks import SCRAPE, fired, read_by, rules_of, scraped

FOLDER: Final = ROOT / "dashboards" / "rules"
# Without what is recorded for fleets: no alert reads it, and it reads all histograms.
RULES: Final = [file for file in sorted(FOLDER.glob("*.yaml")) if file.stem != "ollama-fleet"]
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
APART: Final = 8 * HOUR  # between incidents: the rules that they meet look back six hours
WORKDAY: Final = 10 * HOUR
ROOMY: Final = Host(memory=40 * GIB)


def at_work(day: int) -> list[Step]:
    """Write a day of five people, from eight to six, who stop what they used when they leave."""
    begin = day * DAY + 8 * HOUR
    steps = [_moved(step, begin) for step in office(day, WORKDAY).steps]
    leaving = begin + WORKDAY + 300
    last = [
        Ask(leaving, "llama3.2", 60, keep_alive=0),
        Ask(leaving + 60, "mistral", 60, keep_alive=0),
    ]
    return [*steps, *last]


def _moved(step: Step, by: float) -> Step:
    assert isinstance(step, Ask)
    return Ask(step.at + by, step.model, step.tokens, step.rate, step.via, step.keep_alive)


def script_of(steps: Iterable[Step], host: Host, days: int) -> Script:
    return Script("week", tuple(sorted(steps, key=lambda step: step.at)), days * DAY, host)


def check(script: Script, expected: Iterable[str], here: Path, missed: range = range(0)) -> None:
    rules = [file.resolve() for file in RULES]
    series = scraped(script, read_by(rules_of(rules)), missed=missed)
    test = here / "week.yaml"
    content = fired(series, rules, expected, until=script.duration)
    test.write_text(yaml.safe_dump(content, default_flow_style=None, width=10**9), "utf-8")
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(test)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow(seconds=60)
def test_a_week_of_ordinary_use_raises_nothing(tmp_path: Path) -> None:
    """Five days of office, stops, a planned restart at night, an hour without Prometheus."""
    steps = [step for day in range(5) for step in at_work(day)]
    steps.append(Restart(5 * DAY + 3 * HOUR, down=40.0))
    steps += [Ask(5 * DAY + hour * HOUR, "mistral", 100) for hour in (11.0, 11.1, 15.0, 21.0)]
    noon = int((2 * DAY + 12 * HOUR) / SCRAPE)
    check(script_of(steps, ROOMY, 7), (), tmp_path, missed=range(noon, noon + int(HOUR / SCRAPE)))


def incidents() -> list[Step]:
    """Write what goes wrong, each long after the one before."""
    crashes, evictions, reloads, restarts, outage = (turn * APART for turn in range(1, 6))
    steps: list[Step] = []
    for turn in range(4):  # its runner dies while it answers
        at = crashes + 400 * turn
        steps += [Ask(at, "mistral", 400), Crash(at + 40, "mistral")]
    # what does not fit beside the others
    steps += [Ask(evictions, "mistral", 60), Ask(evictions + 60, "qwen2.5:7b", 60)]
    for turn in range(8):  # an editor with a context of its own
        at = reloads + 120 * turn
        steps.append(Ask(at, "llama3.2", 60, num_ctx=8192 if turn % 2 else None))
    steps += [Restart(restarts + 1200 * turn, down=30.0) for turn in range(2)]
    steps.append(Restart(outage, down=600.0))
    return steps


@pytest.mark.slow(seconds=10)
def test_two_days_with_incidents_raise_those_and_no_other(tmp_path: Path) -> None:
    mistral, llama = 'model="mistral:latest"', 'model="llama3.2:latest"'
    unload = 'alertname="OllamaUnexpectedUnload"'
    expected = [
        f'{{alertname="OllamaCrashLoop",{mistral}}}',
        f'{{alertname="OllamaRunnerDead",{mistral}}}',  # as long as it stays listed
        f'{{{unload},{mistral},reason="crashed"}}',
        f'{{{unload},{mistral},reason="evicted",by="qwen2.5:7b"}}',
        f'{{alertname="OllamaReloadThrash",{llama},reason="options_changed"}}',
        '{alertname="OllamaRestarting"}',
        '{alertname="OllamaDown"}',
    ]
    check(script_of(incidents(), Host(memory=8 * GIB), 2), expected, tmp_path)
