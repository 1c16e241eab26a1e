# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, and pages that note what a user would see as a defect."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.patience import PATIENCE
from tests.support.programs import program

AXE: Final = Path(sys.prefix) / "clients/axe/node_modules/axe-core/axe.min.js"
Scheme = Literal["light", "dark"]
T = TypeVar("T")


@dataclass(slots=True)
class Chromium:
    """A browser and the event loop that it lives on, for many tests."""

    runner: asyncio.Runner
    browser: Browser

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a test on that loop."""
        return self.runner.run(main)


@dataclass(slots=True)
class Watched:
    """A page, with what went wrong on it and where it asked."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def foreign(self, origin: str) -> list[str]:
        """Return the requests to other origins."""
        return [url for url in self.requests if not url.startswith(f"{origin}/")]


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Start the browser; without one, the test is skipped, and fails in CI."""
    path = shutil.which("chromium") or program("chromium-headless-shell")
    expect.set_options(timeout=PATIENCE * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@contextmanager
def browsing() -> Iterator[Chromium]:
    """Start the browser on an event loop of its own, for many tests."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        browser = runner.run(stack.enter_async_context(launched()))
        yield Chromium(runner, browser)
        runner.run(stack.aclose())


@asynccontextmanager
async def opened(
    browser: Browser,
    url: str,
    *,
    width: int = 1440,
    scheme: Scheme = "light",
    script: str = "",
    **context: Any,
) -> AsyncIterator[Watched]:
    """Open a page. `script`: runs before the page's own."""
    new = await browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        locale="en-GB",
        timezone_id="Europe/Berlin",
        **context,
    )
    new.set_default_timeout(PATIENCE * 1000)
    page = await new.new_page()
    watched = Watched(page)
    page.on("request", lambda request: watched.requests.append(request.url))
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            watched.errors.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    if script:
        await page.add_init_script(script)
    await page.goto(url)
    try:
        yield watched
    finally:
        await new.close()


async def violations(page: Page) -> list[tuple[str, str]]:
    """Return what axe-core finds wrong with a page: the rule, and the first element."""
    if not AXE.exists():
        pytest.skip("no axe-core: make clients")
    await page.add_script_tag(path=AXE)
    found = await page.evaluate("axe.run().then((done) => done.violations)")
    return [(each["id"], each["nodes"][0]["html"]) for each in found]
