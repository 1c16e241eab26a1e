# SPDX-License-Identifier: Apache-2.0
"""The built site: whole, searchable, and nothing in it comes from elsewhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from tests.support.paths import ROOT

SITE: Final = ROOT / "build" / "site"
PAGES: Final = sorted(SITE.rglob("*.html"))
LOADED: Final = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "srcset"}


class Assets(HTMLParser):
    """Collects what a page loads, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.headings = 0
        self.language = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        given = dict(attrs)
        self.headings += tag == "h1"
        if tag == "html":
            self.language = given.get("lang") or ""
        if tag == "link" and given.get("rel") in {"canonical", "prev", "next"}:
            return
        self.loaded += [value] if (value := given.get(LOADED.get(tag, ""))) else []


def test_it_was_built() -> None:
    assert len(PAGES) > 50, "run: make site"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(SITE).as_posix())
def test_a_page_loads_nothing_from_elsewhere(page: Path) -> None:
    assets = Assets()
    assets.feed(page.read_text("utf-8"))
    assert assets.language == "en"
    foreign = [each for each in assets.loaded if re.match(r"(https?:)?//", each)]
    assert foreign == []
    missing = [
        each
        for each in assets.loaded
        if not each.startswith("data:") and not (page.parent / each.partition("?")[0]).exists()
    ]
    assert page.name == "404.html" or missing == []


def test_the_search_finds_a_metric_without_a_network() -> None:
    index = json.loads((SITE / "search" / "search_index.json").read_text("utf-8"))
    assert any("ollama_model_unloads_total" in page["text"] for page in index["docs"])
