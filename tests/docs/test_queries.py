# SPDX-License-Identifier: Apache-2.0
"""Every query of rules, runbooks and pages says what it means, and every metric is of use."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.residency.events import Reason
from tests.support.paths import ROOT
from tests.support.promql import COUNTED, Read, family_of, in_annotations, reads
from tests.support.queries import filled, of_dashboard, of_page
from tests.support.yaml_files import load_yaml

RULES: Final = sorted(ROOT.glob("dashboards/rules/*.yaml"))
PAGES: Final = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
DASHBOARDS: Final = sorted(ROOT.glob("dashboards/grafana/*.json"))
TARGET: Final = {"job", "instance"}
FOREIGN: Final = re.compile(r"up|ALERTS|(process|prometheus|python)_\w+")
VALUES: Final = {
    "job": ".+",
    "instance": ".+",
    "model": ".+",
    "__rate_interval": "1m",
    "__interval": "1m",
    "__range": "1h",
}
# Metrics that no panel, rule or page asks for, each with its reason.
UNUSED: Final[dict[str, str]] = {}


def rules() -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in RULES:
        for group in load_yaml(file)["groups"]:
            for rule in group["rules"]:
                yield file, rule


RECORDED: Final = {rule["record"] for _, rule in rules() if "record" in rule}


def queries() -> dict[str, list[str]]:
    """Return all queries by where they stand; the dashboards' with their variables filled in."""
    found: dict[str, list[str]] = {}
    for file, rule in rules():
        name = rule.get("alert") or rule["record"]
        mine = found.setdefault(f"{file.name}: {name}", [])
        mine += [rule["expr"], *in_annotations(rule)]
    for page in PAGES:
        found[page.name] = [query.expression for query in of_page(page)]
    for file in DASHBOARDS:
        found[file.name] = [filled(query.expression, VALUES) for query in of_dashboard(file)]
    return {where: expressions for where, expressions in found.items() if expressions}


QUERIES: Final = queries()


def wrong(read: Read) -> str | None:
    """Say what is wrong with a series that is read."""
    labels = {label for label, _, _ in read.matchers}
    if read.name in RECORDED or FOREIGN.fullmatch(read.name) or "__name__" in labels:
        return None
    family = family_of(read.name)
    if family is None:
        return f"{read.name}: not in the catalogue"
    counts = family.kind != "gauge"
    if (read.function in COUNTED) and not counts:
        return f"{read.function}({read.name}): a gauge"
    known = {*family.labels, *TARGET, *({"le"} if family.kind == "histogram" else ())}
    strange = (labels | read.grouped) - known
    if strange:
        return f"{read.name}: no label {strange}"
    return _unknown_value(read)


def _unknown_value(read: Read) -> str | None:
    """Say which value of a label nothing ever has."""
    family = family_of(read.name)
    for label, operator, value in read.matchers:
        if label == "reason" and "unload" in read.name and value != "x":
            for reason in value.split("|") if operator in ("Re", "NotRe") else [value]:
                if reason not in {*Reason, ".+"}:
                    return f"{read.name}: no reason {reason!r}"
        bounds = () if family is None else family.buckets
        if label == "le" and operator == "Equal" and bounds and value not in _spelled(bounds):
            return f"{read.name}: no bound {value!r}"
    return None


def _spelled(bounds: tuple[float, ...]) -> set[str]:
    return {str(float(bound)) for bound in bounds} | {"+Inf"}


@pytest.mark.parametrize("where", QUERIES)
def test_every_query_parses_and_reads_what_the_catalogue_has(where: str) -> None:
    problems = [wrong(read) for expression in QUERIES[where] for read in reads(expression)]
    assert [problem for problem in problems if problem is not None] == []


def test_a_wrong_query_is_noticed() -> None:
    def of(expression: str) -> list[str | None]:
        return [wrong(read) for read in reads(expression)]

    assert of('ollama_up{job="a"}') == [None]
    assert of("ollama_down") == ["ollama_down: not in the catalogue"]
    assert of("rate(ollama_up[5m])") == ["rate(ollama_up): a gauge"]
    assert of('ollama_up{model="a"}') == ["ollama_up: no label {'model'}"]
    assert of("ollama_model_residency_seconds") == [
        "ollama_model_residency_seconds: not in the catalogue"
    ]
    assert of("sum by (kind) (rate(ollama_polls_total[5m]))") == [
        "ollama_polls_total: no label {'kind'}"
    ]
    name = "ollama_model_unloads_total"
    assert of(f'{name}{{reason=~"evicted|gone"}}') == [f"{name}: no reason 'gone'"]
    bucket = "ollama_model_residency_seconds_bucket"
    assert of(f'rate({bucket}{{le="61.0"}}[5m])') == [f"{bucket}: no bound '61.0'"]
    with pytest.raises(ValueError, match="unclosed"):
        of("sum by (")


def test_every_recorded_series_is_read_or_documented() -> None:
    used = {read.name for texts in QUERIES.values() for text in texts for read in reads(text)}
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in sorted(RECORDED) if name not in used and name not in pages] == []


def test_every_metric_of_the_catalogue_is_asked_for_somewhere() -> None:
    read = [one for texts in QUERIES.values() for text in texts for one in reads(text)]
    used = {family.name for one in read if (family := family_of(one.name)) is not None}
    assert sorted(set(FAMILIES) - used) == sorted(UNUSED)
