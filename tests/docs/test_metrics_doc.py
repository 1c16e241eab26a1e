# SPDX-License-Identifier: Apache-2.0
import json

from click.testing import CliRunner

from ollama_exporter.cli import cli
from ollama_exporter.cli.metrics import markdown
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "metrics.md"


def test_the_page_is_as_generated() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown()
    assert CliRunner().invoke(cli, ["metrics", "--format", "markdown"]).output == markdown()


def test_every_family_is_listed_in_every_form() -> None:
    table = CliRunner().invoke(cli, ["metrics"], env={"COLUMNS": None}).output
    listed = json.loads(CliRunner().invoke(cli, ["metrics", "--format", "json"]).output)
    assert [family["name"] for family in listed] == list(FAMILIES)
    assert [name for name in FAMILIES if name not in table] == []
