# SPDX-License-Identifier: Apache-2.0
"""A week of an exporter as promtool's tests take it: the real exporter in virtual time, scraped."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from dashboards.pictures.virtual import Virtual
from ollama_exporter.simulator.script import Script
from tests.support.promql import in_annotations, reads
from tests.support.yaml_files import load_yaml

START: Final = 1_800_000_000.0  # promtool's clock starts at 0: moments are told from here
SCRAPE: Final = 120  # seconds
POLL: Final = 10.0  # seconds
REST_POLL: Final = 60.0  # seconds between polls at rest, where each finds what the last one found
TARGET: Final = 'job="ollama",instance="gpu-1:11487"'
RESTLESS: Final = 1800.0  # seconds after a step
NIGHTLY: Final = 30  # of so many scrapes at rest, one is made
POLLED: Final = {  # what polls alone change, from one scrape to the next
    f"ollama_polls_total{{{TARGET}}}": SCRAPE / REST_POLL,
    f"ollama_last_poll_success_timestamp_seconds{{{TARGET}}}": float(SCRAPE),
}
STEP: Final = "4m"  # between two evaluations: shorter than a sample lives
Series = dict[str, list[float | None]]  # None: no sample in that scrape


def rules_of(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the rules in files."""
    groups = [load_yaml(file)["groups"] for file in files]
    return [rule for group in groups for part in group for rule in part["rules"]]


def scraped(script: Script, wanted: set[str], *, missed: range = range(0)) -> Series:
    """Let a script happen to an exporter; return the samples of the wanted names.

    `missed`: scrapes that Prometheus does not make. Long after the last step of the script nothing
    happens but polls, so that most scrapes of the night are taken to find what the last one found.
    """
    series: Series = {}
    steps = [step.at for step in script.steps]
    exporter = Virtual(script, START, expected=(), polls=_polls(steps, script.duration))
    found: dict[str, float] = {}
    number = -1
    for number, moment in enumerate(exporter.moments(SCRAPE)):
        since = moment - START
        if _at_work(steps, since) or number % NIGHTLY == 0:
            found = _found(exporter.collect(), wanted)
        else:
            found = {key: value + POLLED.get(key, 0.0) for key, value in found.items()}
        if number in missed:
            continue
        for key, value in found.items():
            mine = series.setdefault(key, [])
            mine.extend([None] * (number - len(mine)))
            mine.append(value)
    for mine in series.values():
        mine.extend([None] * (number + 1 - len(mine)))
    return series


def _at_work(steps: list[float], since: float) -> bool:
    """Return whether a step of the script is at most RESTLESS seconds old."""
    return bisect_right(steps, since) > bisect_left(steps, since - RESTLESS)


def _polls(steps: list[float], until: float) -> list[float]:
    """Return the moments of polls: each POLL seconds, at rest each REST_POLL seconds."""
    every = [n * POLL for n in range(int(until / POLL))]
    return [at for at in every if at % REST_POLL == 0 or _at_work(steps, at)]


def _found(families: Iterable[Metric], wanted: set[str]) -> dict[str, float]:
    samples = {f"up{{{TARGET}}}": 1.0}
    for family in families:
        for sample in family.samples:
            if sample.name in wanted:
                moment = sample.name.endswith("_timestamp_seconds")
                key = f"{sample.name}{{{_labels(sample.labels)}}}"
                samples[key] = sample.value - START if moment else sample.value
    return samples


def read_by(rules: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the names of the series that rules read."""
    texts = [text for rule in rules for text in (rule["expr"], *in_annotations(rule))]
    return {read.name for text in texts for read in reads(text)}


def fired(
    series: Series, rules: Iterable[Path], expected: Iterable[str], *, until: float
) -> dict[str, Any]:
    """Return a test for promtool: that these alerts fire until then, and no other. Seconds."""
    return {
        "rule_files": [str(file) for file in rules],
        "evaluation_interval": STEP,
        "tests": [
            {
                "interval": f"{SCRAPE}s",
                "input_series": [
                    {"series": key, "values": " ".join(_runs(values))}
                    for key, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": "sum by (alertname, model, reason, by) (count_over_time("
                        'ALERTS{alertstate="firing"}[8d])) ^ 0',
                        "eval_time": f"{until:.0f}s",
                        "exp_samples": [{"labels": one, "value": 1} for one in expected],
                    }
                ],
            }
        ],
    }


def _labels(labels: Mapping[str, str]) -> str:
    own = [f'{name}="{value}"' for name, value in sorted(labels.items())]
    return ",".join([TARGET, *own])


def _runs(values: list[float | None]) -> Iterable[str]:
    """Write samples the way promtool reads them, equal ones together."""
    begin = 0
    for index in range(1, len(values) + 1):
        if index < len(values) and values[index] == values[begin]:
            continue
        value, more = values[begin], index - begin - 1
        if value is None:
            yield f"_x{more + 1}"
        elif math.isinf(value):
            yield from ["+Inf" if value > 0 else "-Inf"] * (more + 1)
        else:
            yield f"{value!r}+0x{more}" if more else repr(value)
        begin = index
