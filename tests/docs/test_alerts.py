# SPDX-License-Identifier: Apache-2.0
"""Alerts: complete, tested, explained. Each has a runbook, and the overview knows it."""

import re
from functools import cache
from itertools import chain
from typing import Any, Final

import promql_parser
import pytest

from ollama_exporter.cli.bundle_options import PLACEHOLDER
from tests.support.paths import ROOT
from tests.support.promql import reads
from tests.support.yaml_files import load_yaml

RULES: Final = sorted(ROOT.glob("dashboards/rules/*.yaml"))
TESTS: Final = sorted(ROOT.glob("dashboards/rules/tests/*.yaml"))
PAGES: Final = ROOT / "docs" / "runbooks"
OVERVIEW: Final = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
PARTS: Final = ("Cause", "Check", "Usually", "Remedy", "Example")
SEVERITIES: Final = ("critical", "warning", "info")
THRESHOLD: Final = re.compile(r"\bollama:\w+:threshold\b")
EXAMPLE: Final = re.compile(r"^## Example\n```text\n(.+?)\n```$", re.MULTILINE | re.DOTALL)


def _rules() -> list[dict[str, Any]]:
    groups = chain.from_iterable(load_yaml(file)["groups"] for file in RULES)
    return [rule for group in groups for rule in group["rules"]]


ALERTS: Final = [rule for rule in _rules() if "alert" in rule]
NAMES: Final = sorted({rule["alert"] for rule in ALERTS})
RECORDS: Final = {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
THRESHOLDS: Final = {name: expr for name, expr in RECORDS.items() if THRESHOLD.fullmatch(name)}


@cache
def expectations() -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what the promtool tests expect: an alert's name, and those that stand then."""
    tests = chain.from_iterable(load_yaml(file)["tests"] for file in TESTS)
    checks = chain.from_iterable(test["alert_rule_test"] for test in tests)
    return [(check["alertname"], check["exp_alerts"]) for check in checks]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_complete(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Ollama([A-Z][a-z]+|CPU)+", rule["alert"])
    assert rule["labels"]["severity"] in SEVERITIES
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "{{" not in rule["annotations"]["summary"]  # the same for all of a group
    assert "$labels.instance" in rule["annotations"]["description"] or "absent(" in rule["expr"]
    assert rule["annotations"]["runbook_url"] == f"{PLACEHOLDER}{rule['alert']}.md"


def aggregated_away(node: promql_parser.Expr, label: str) -> bool:
    """Return whether an aggregation in an expression drops a label."""
    match node:
        case promql_parser.AggregateExpr():
            by = node.modifier
            kept = by is not None and (
                (by.type == promql_parser.AggModifierType.By) == (label in by.labels)
            )
            return not kept or aggregated_away(node.expr, label)
        case promql_parser.BinaryExpr():
            return aggregated_away(node.lhs, label) or aggregated_away(node.rhs, label)
        case promql_parser.Call():
            return any(aggregated_away(each, label) for each in node.args)
        case promql_parser.ParenExpr() | promql_parser.SubqueryExpr() | promql_parser.UnaryExpr():
            return aggregated_away(node.expr, label)
        case _:
            return False


def test_every_alert_is_of_one_instance() -> None:
    """One exporter of many servers gives each an instance: an alert must not mix them."""
    mixed = {name for name, text in RECORDS.items() if drops_instance(text)}
    assert all(name.startswith(("model:", "model_")) for name in mixed)
    assert [rule["alert"] for rule in ALERTS if drops_instance(rule["expr"])] == []
    reading = [
        rule["alert"] for rule in ALERTS if any(x.name in mixed for x in reads(rule["expr"]))
    ]
    assert reading == []
    assert drops_instance("sum by (job) (ollama_up)")
    assert drops_instance("sum(ollama_up) > 1")
    assert not drops_instance("sum without (model) (ollama_model_loaded)")


def drops_instance(text: str) -> bool:
    return aggregated_away(promql_parser.parse(text), "instance")


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_runbook_with_all_parts_and_a_real_example(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(PARTS)
    check = text.partition("## Check\n")[2].partition("\n## ")[0]
    assert "```promql\n" in check
    for part in PARTS:
        assert len(text.partition(f"## {part}\n")[2].partition("\n## ")[0].split()) >= 8
    said = {
        alert["exp_annotations"]["description"] for _, stand in expectations() for alert in stand
    }
    example = EXAMPLE.findall(text)
    assert len(example) == 1
    assert example[0].replace("\n", " ") in said  # its lines end within the page's width


def test_no_runbook_is_left_over() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_to_fire_and_to_stay_silent(name: str) -> None:
    stand = [alerts for tested, alerts in expectations() if tested == name]
    assert any(stand)
    # silent: at a moment of its own, or for the other series of the test in which it fires
    assert any(not alerts for alerts in stand) or name in FIRES_FOR_SOME_ONLY


# Their tests hold series that come near, beside those for which they fire.
FIRES_FOR_SOME_ONLY: Final = {
    "OllamaColdStartShareHigh",
    "OllamaExporterCertificateExpires",
    "OllamaExporterCollectorFailed",
    "OllamaExporterLabelOverflow",
    "OllamaExporterLoginsRefused",
    "OllamaExporterRecorderErrors",
    "OllamaExporterReloadFailed",
    "OllamaFirstTokenSlow",
}


def test_thresholds_are_all_used_all_there_and_constant() -> None:
    used = set(chain.from_iterable(THRESHOLD.findall(rule["expr"]) for rule in ALERTS))
    used |= set(chain.from_iterable(THRESHOLD.findall(e) for e in RECORDS.values()))
    assert used == set(THRESHOLDS)
    assert all(re.fullmatch(r"vector\([\d.]+\)", expr) for expr in THRESHOLDS.values())


def test_the_overview_lists_every_alert_with_its_severity_and_duration() -> None:
    rows = set(re.findall(r"^\| \[(\w+)\] \| (\w+) \| (\w+) \|", OVERVIEW, re.MULTILINE))
    assert rows == {(a["alert"], a["labels"]["severity"], a["for"]) for a in ALERTS}
    links = re.findall(r"^\[(\w+)\]: runbooks/(\w+)\.md$", OVERVIEW, re.MULTILINE)
    assert links == [(name, name) for name in NAMES]


def test_the_overview_lists_every_threshold_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(ollama:\w+:threshold)` \| ([\d.]+) \|", OVERVIEW, re.MULTILINE))
    assert rows == {name: expr[len("vector(") : -1] for name, expr in THRESHOLDS.items()}


def test_runbooks_link_to_each_other_alone() -> None:
    """They are written beside the rules, without the rest of the documentation."""
    links = {
        link
        for page in PAGES.glob("*.md")
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text())
    }
    assert links <= {f"{name}.md" for name in NAMES}
