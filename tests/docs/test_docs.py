# SPDX-License-Identifier: Apache-2.0
"""Documentation fails the build when it lags."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest
from starlette.routing import Route

from ollama_exporter.cli.main import COMMANDS, DEFAULT_COMMAND, cli
from ollama_exporter.config.schema import Settings
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.residency.events import Reason
from ollama_exporter.web.app import Parts, application
from tests.support.paths import ROOT
from tests.support.storytelling import MadeUp

README: Final = ROOT / "README.md"
USAGE: Final = ROOT / "docs" / "usage.md"
WIDTH: Final = 120  # columns of a line, so that a diff can be read
PLACES: Final = (
    "*.md",
    "docs/**/*.md",
    "bench/*.md",
    "dashboards/**/*.md",
    "deploy/**/*.md",
    "tests/**/*.md",
)
PAGES: Final = sorted(
    page for place in PLACES for page in ROOT.glob(place) if "node_modules" not in page.parts
)
LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL: Final = ("sh", "console", "bash")
VARIABLE: Final = re.compile(r"(?<!_)OLLAMA_EXPORTER_[A-Z_]*[A-Z]")
CODE: Final = re.compile(
    r"\b(?:[a-z_]+/)*[a-z_]+\.py\b|\b(?:[a-z_]+/){1,3}(?=[\s`,.;:|]|$)", re.MULTILINE
)
METRIC: Final = re.compile(r"\bollama_(?!exporter\b)[a-z_]+[a-z]\b(?!\.)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the ids that a forge gives to the headings of a page."""
    titles = (re.sub(r"[`*_]", "", title) for title in HEADING.findall(prose(page)))
    kept = (re.sub(r"[^\w\- ]", "", title.strip().lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


def shell_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command in a page's shell blocks."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in SHELL:
            continue
        for raw in block.replace("\\\n", " ").splitlines():
            line = raw.removeprefix("$ ")
            if line and not line.startswith("#") and (language != "console" or raw != line):
                yield shlex.split(line, comments=True)


def our_commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each call of ollama-exporter, environment assignments dropped."""
    for words in shell_lines(page):
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words[:1] == ["ollama-exporter"]:
            stops = [
                i for i, word in enumerate(words) if word in ("|", ">", "&", "&&", ";", "2>&1")
            ]
            yield words[1 : stops[0] if stops else None]


def command_of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that runs, and what is left for it."""
    with click.Context(cli) as ctx:
        first = arguments[0] if arguments else DEFAULT_COMMAND
        if first.startswith("-") and first not in ("--help", "--version"):
            arguments, first = [DEFAULT_COMMAND, *arguments], DEFAULT_COMMAND
        if first.startswith("-"):
            return cli, arguments
        command = cli.get_command(ctx, first)
    assert command is not None, f"no command {first!r}"
    return command, arguments[1:]


def flags_of(command: click.Command) -> set[str]:
    options = [p for p in command.params if isinstance(p, click.Option)]
    return {"--help", *(flag for p in options for flag in (*p.opts, *p.secondary_opts))}


def every_flag() -> set[str]:
    with click.Context(cli) as ctx:
        found = [cli.get_command(ctx, command) for command in COMMANDS]
    return set().union(*(flags_of(command) for command in found if command is not None))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_internal_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_shown_exists_and_its_flags_are_real(page: Path) -> None:
    wrong = []
    for arguments in our_commands(page):
        command, rest = command_of(list(arguments))
        flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
        wrong += [f"{' '.join(arguments)}: {flag}" for flag in flags - flags_of(command)]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {words[1] for words in shell_lines(page) if words[0] == "make" and len(words) > 1}
    shown |= set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
    assert shown <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_variable_named_belongs_to_a_flag(page: Path) -> None:
    named = set(VARIABLE.findall(page.read_text(encoding="utf-8")))
    real = {f"OLLAMA_EXPORTER_{re.sub('[.-]', '_', f[2:]).upper()}" for f in every_flag()}
    assert named <= real


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_line_can_be_read_in_a_diff(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    wide = [f"{number}: {line[:60]}" for number, line in lines if len(line) > WIDTH]
    assert wide == []


def _exists(path: str) -> bool:
    """Return whether a path is there, seen from the root or from any folder of the package."""
    return (ROOT / path).exists() or any((ROOT / "ollama_exporter").rglob(path.rstrip("/")))


@pytest.mark.parametrize(
    "page", [ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md"], ids=name
)
def test_every_file_and_folder_that_explains_the_code_exists(page: Path) -> None:
    named = set(CODE.findall(page.read_text(encoding="utf-8")))
    assert len(named) > 20
    assert [path for path in sorted(named) if not _exists(path)] == []


def test_every_log_message_that_an_operator_is_told_to_look_for_exists() -> None:
    page = (ROOT / "docs" / "when-it-goes-wrong.md").read_text(encoding="utf-8")
    named = re.findall(r"log\s+(?:has|says)\s+`([^`]+)`", page)
    package = (ROOT / "ollama_exporter").rglob("*.py")
    source = "\n".join(file.read_text(encoding="utf-8") for file in package)
    assert len(named) > 5
    assert [message for message in named if " ".join(message.split()) not in source] == []


def test_every_page_is_listed() -> None:
    index = ROOT / "docs" / "index.md"
    listed = set(LINK.findall(index.read_text(encoding="utf-8")))
    pages = {page.name for page in index.parent.glob("*.md")} - {index.name}
    assert pages - listed == set()


def test_every_metric_named_in_the_readme_exists() -> None:
    found = METRIC.findall(README.read_text(encoding="utf-8"))
    named = {name.removesuffix("_bucket") for name in found}
    assert len(named) > 5
    assert named <= set(FAMILIES)


def test_the_page_on_usage_lists_every_path_that_is_served() -> None:
    parts = Parts(feed=lambda _target: MadeUp().feed(), telemetry_path=Settings().telemetry_path)
    app = application(parts)
    served = {route.path for route in app.routes if isinstance(route, Route)}
    listed = set(re.findall(r"^\| `(/[^`]*)` \|", USAGE.read_text("utf-8"), re.MULTILINE))
    assert listed == served


def test_the_page_on_usage_names_every_command() -> None:
    text = USAGE.read_text(encoding="utf-8")
    assert [command for command in COMMANDS if f"`{command}`" not in text] == []


@pytest.mark.parametrize("page", [README, ROOT / "docs/unload-reasons.md"], ids=name)
def test_every_reason_is_explained(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"`{reason}`" not in text] == []
