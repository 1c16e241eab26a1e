# SPDX-License-Identifier: Apache-2.0
"""What the documentation quotes of the log and of errors stands in the program."""

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# `the log has …`, `the log says …` and a second or third message behind `or` or `and`.
QUOTED = re.compile(r"\blogs? (?:has|have|says|shows|with)((?:\s+(?:or|and)?\s*`[^`]+`,?)+)")
QUOTE = re.compile(r"`([^`]+)`")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SOURCE = "\n".join(
    re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8"))
    for file in sorted((ROOT / "ollama_exporter").rglob("*.py"))
)


def quoted(page: Path) -> list[str]:
    text = " ".join(page.read_text(encoding="utf-8").split())
    return [quote for found in QUOTED.findall(text) for quote in QUOTE.findall(found)]


def test_messages_are_quoted() -> None:
    assert sum(len(quoted(page)) for page in PAGES) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_message_that_a_page_quotes_is_one_of_the_program(page: Path) -> None:
    assert [each for each in quoted(page) if f'"{each}' not in SOURCE] == []
