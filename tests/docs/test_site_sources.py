# SPDX-License-Identifier: Apache-2.0
"""What the documentation site is made of, without building it: `make site` does that."""

import re
from pathlib import Path

import click

import ollama_exporter
from ollama_exporter.cli.main import cli
from tests.support.paths import ROOT
from tools.api_reference import api
from tools.command_reference import commands
from tools.site import gather, moved, place

DOCS = ROOT / "docs"
PAGES = {
    file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md") if "runbooks" not in file.parts
}


def test_the_page_of_commands_is_as_generated() -> None:
    assert (DOCS / "commands.md").read_text("utf-8") == commands(), "run: make docs"


def test_the_page_of_commands_is_the_same_whatever_ran_before() -> None:
    before = commands()
    with click.Context(cli) as parent:
        command = cli.get_command(parent, "metrics")
        assert command is not None
    command.get_help(click.Context(command))  # without its parent: click keeps `--help` alone
    assert commands() == before


def test_the_page_of_the_python_interface_is_as_generated_and_complete() -> None:
    page = (DOCS / "api.md").read_text("utf-8")
    assert page == api(), "run: make docs"
    named = set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    assert named == set(ollama_exporter.__all__) - {"__version__"}


def test_every_page_is_in_the_navigation_and_in_the_list_for_agents() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    entries = set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
    assert entries >= PAGES
    listed = set(re.findall(r"\(([^)]+)\)", (DOCS / "llms.txt").read_text("utf-8")))
    assert listed == PAGES


def test_the_navigation_is_gathered_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    gather(tmp_path)
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for entry in re.findall(r": (\S+\.md)$", navigation, re.MULTILINE):
        assert (tmp_path / entry).is_file(), entry
    for page in tmp_path.rglob("*.md"):
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), (page, target)


def test_links_out_of_the_docs_are_moved() -> None:
    page = DOCS / "usage.md"
    text = "[a](../README.md#install) [b](metrics.md) [c](../deploy) [d](https://x.example/)"
    assert moved(text, page) == (
        "[a](project/README.md#install) [b](metrics.md) c [d](https://x.example/)"
    )
    assert str(place(ROOT / "SECURITY.md")) == "project/SECURITY.md"
