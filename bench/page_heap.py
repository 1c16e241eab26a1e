# SPDX-License-Identifier: Apache-2.0
"""Does the live page's heap stay flat? One event a second, in a real Chromium.

The page begins with more such events than its view of 10 minutes holds, so it is full from the
start: what grows after that is a leak. Each line is the heap after a collection of garbage.
`python -m bench.page_heap --minutes 10`
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

from playwright.async_api import CDPSession, Page, async_playwright

from ollama_exporter.residency.events import Reason
from tests.support.page_server import serving
from tests.support.storytelling import MadeUp, listing, resident, unloaded
from tests.support.timelines import GivenTimeline

KEPT: Final = 720  # seconds of events that the page keeps in that view, and some more
MODELS: Final = 20
BROWSERS: Final = ("chromium-headless-shell", "chromium")
NODES: Final = "document.querySelectorAll('*').length"
PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
GROWTH: Final = 10.0  # %: of the last third over the first, the most that counts as flat


class Server:
    """A server whose models leave one after another, one a second."""

    def __init__(self) -> None:
        self.made = MadeUp(timeline=GivenTimeline(time.time))
        begun = time.time()
        self._names = [f"model-{number}:latest" for number in range(MODELS)]
        self.made.published = listing(
            *(resident(name, begun, deadline=begun + 7200) for name in self._names)
        )
        self._told = 0
        for second in range(KEPT):
            self.tell(begun - KEPT + second)

    def tell(self, at: float) -> None:
        """Add the next event."""
        name, by = (self._names[(self._told + more) % MODELS] for more in (0, 1))
        reason = Reason.EVICTED if self._told % 2 else Reason.EXPIRED
        gone = unloaded(name, since=at - 15.0, at=at, reason=reason, by=by)
        self.made.history.on_change((gone,), self.made.published, at)
        self._told += 1


async def heap(session: CDPSession) -> float:
    """Return megabytes in use after a collection of garbage."""
    await session.send("HeapProfiler.collectGarbage")
    used = await session.send("Runtime.getHeapUsage")
    return float(used["usedSize"]) / 1e6


async def watch(page: Page, server: Server, minutes: float) -> list[float]:
    """Print and return the heap twice a minute."""
    session = await page.context.new_cdp_session(page)
    found: list[float] = []
    begun = following = time.monotonic()
    while (passed := time.monotonic() - begun) < 60 * minutes:
        server.tell(time.time())
        if passed >= 30 * len(found):
            found.append(await heap(session))
            nodes = await page.evaluate(NODES)
            sys.stdout.write(f"{passed:6.0f} s  {found[-1]:6.2f} MB  {nodes} elements\n")
            sys.stdout.flush()
        following += 1.0
        await asyncio.sleep(max(0.0, following - time.monotonic()))
    return found


def verdict(found: Sequence[float]) -> tuple[str, bool]:
    """Return what the figures say, and whether the heap stayed flat."""
    third = max(1, len(found) // 3)
    first, last = statistics.median(found[:third]), statistics.median(found[-third:])
    growth = 100 * (last / first - 1)
    text = f"first third {first:.2f} MB, last third {last:.2f} MB: {growth:+.1f} %"
    return text, growth <= GROWTH


async def measure(minutes: float) -> bool:
    """Open the page, watch it; return whether its heap stayed flat."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("page_heap: chromium missing; on Debian: apt-get install chromium-headless-shell")
    server = Server()
    async with (
        serving(server.made, tick=0.25) as (http, _),
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(str(http.base_url))
        await page.get_by_role("radio", name="10 min").check()
        sys.stdout.write(f"first paint after {await page.evaluate(PAINT):.0f} ms\n")
        found = await watch(page, server, minutes)
        await browser.close()
    text, is_flat = verdict(found)
    sys.stdout.write(f"{text}\n")
    return is_flat


def main() -> None:
    """Measure; exit 1 if the heap grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    sys.exit(0 if asyncio.run(measure(arguments.minutes)) else 1)


if __name__ == "__main__":
    main()
