# SPDX-License-Identifier: Apache-2.0
"""The built site: whole, searchable, readable for everybody, and nothing in it comes from
elsewhere."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from tests.support.browser import Chromium, Scheme, browsing, opened, violations
from tests.support.paths import ROOT

SITE: Final = ROOT / "build" / "site"
PAGES: Final = sorted(SITE.rglob("*.html"))
# All pages share the colours of the dark scheme: the longest show each, and one without a source.
DARK: Final = [SITE / "404.html", *sorted(PAGES, key=lambda page: page.stat().st_size)[-8:]]
SEEN: Final = [(page, "light") for page in PAGES] + [(page, "dark") for page in DARK]
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


class Silent(SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browsing() as one:
        yield one


@pytest.mark.parametrize(
    ("page", "scheme"), SEEN, ids=[f"{page.relative_to(SITE)}-{scheme}" for page, scheme in SEEN]
)
def test_axe_finds_nothing(page: Path, scheme: Scheme, chromium: Chromium, served: str) -> None:
    async def main() -> None:
        url = f"{served}/{page.relative_to(SITE).as_posix()}"
        async with opened(chromium.browser, url, scheme=scheme) as seen:
            assert await violations(seen.page) == []
            assert seen.errors == []
            assert seen.foreign(served) == []

    chromium.run(main())
