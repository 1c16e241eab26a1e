# SPDX-License-Identifier: Apache-2.0
"""The page for those who come from another exporter, and the rules that keep their names alive."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import program
from tests.support.promql import family_of, reads
from tests.support.yaml_files import load_yaml

PAGE: Final = (ROOT / "docs" / "migration.md").read_text("utf-8")
FILES: Final = sorted((ROOT / "deploy/prometheus/migration").glob("*.yaml"))
SUFFIX: Final = re.compile(r"_(bucket|count|sum)$")
ROW: Final = re.compile(r"^\| (`.*?) \| (.*) \|$", re.MULTILINE)
NAME: Final = re.compile(r"`(ollama_\w+)`")


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in load_yaml(file)["groups"] for rule in group["rules"]]


def section(file: Path) -> str:
    """Return the part of the page about the exporter that a file is named after."""
    (found,) = [
        part for part in PAGE.split("\n## ")[1:] if part.partition("/")[0].lower() == file.stem
    ]
    return found


def test_there_is_a_file_for_each_exporter_of_the_page() -> None:
    assert len(FILES) == PAGE.count("\n## ")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_says_what_is_recorded_and_the_rules_record_it(file: Path) -> None:
    recorded = {SUFFIX.sub("", rule["record"]) for rule in rules(file)}
    said = set[str]()
    for there, here in ROW.findall(section(file)):
        if "**recorded**" in here:
            said |= set(NAME.findall(there))
    assert recorded == said


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_rules_read_metrics_that_exist_and_take_no_name_that_does(file: Path) -> None:
    for rule in rules(file):
        assert SUFFIX.sub("", rule["record"]) not in FAMILIES
        assert all(family_of(each.name) is not None for each in reads(rule["expr"])), rule


def test_what_replaces_an_old_name_exists() -> None:
    for _, here in ROW.findall(PAGE):
        assert set(NAME.findall(here)) <= set(FAMILIES), here


A: Final = 'job="o",model="a:latest"'
SERIES: Final = {
    f"ollama_model_loaded{{{A}}}": "1+0x9",
    'ollama_model_loaded{job="o",model="b:latest"}': "0+0x9",
    f"ollama_model_memory_bytes{{{A}}}": "2097152+0x9",
    f'ollama_model_unloads_total{{{A},reason="expired"}}': "2+0x9",
    f'ollama_model_unloads_total{{{A},reason="evicted"}}': "3+0x9",
    f"ollama_request_output_tokens_total{{{A}}}": "0+600x9",
    f"ollama_request_eval_seconds_sum{{{A}}}": "0+30x9",
    f'ollama_request_duration_seconds_count{{{A},start="cold"}}': "1+0x9",
    f'ollama_request_duration_seconds_count{{{A},start="warm"}}': "4+0x9",
}


@pytest.mark.parametrize(
    ("stem", "labels", "value"),
    [
        ("maravexa", 'ollama_model_unload_total{job="o",model="a:latest"}', 5),
        ("maravexa", 'ollama_tokens_per_second{job="o",model="a:latest"}', 20),
        ("lucavb", 'ollama_running_models{job="o",model="a:latest",model_name="a:latest"}', 1),
        ("norskhelsenett", 'ollama_loaded_models{job="o"}', 1),
        ("norskhelsenett", 'ollama_model_ram_mb{job="o",model="a:latest"}', 2),
        ("frcooper", 'ollama_response_seconds_count{job="o",model="a:latest"}', 5),
    ],
)
def test_prometheus_gives_the_old_name_its_value(
    stem: str, labels: str, value: int, tmp_path: Path
) -> None:
    (file,) = [file for file in FILES if file.stem == stem]
    test = tmp_path / "test.yaml"
    query = labels.partition("{")[0]
    expected = {"labels": labels, "value": value}
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "8m", "exp_samples": [expected]}],
    }
    test.write_text(json.dumps({"rule_files": [str(file)], "tests": [case]}), "utf-8")
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(test)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
