# SPDX-License-Identifier: Apache-2.0
"""Take the pictures of the live page: `make pictures`.

The real exporter lives through a scripted hour in virtual time; a real browser draws the end of it.
Needs Debian's chromium or chromium-headless-shell, and says so if there is none.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal

from dashboards.pictures.__main__ import IMAGES, shrink
from dashboards.pictures.chromium import chromium
from dashboards.pictures.hour import HOUR, hour
from dashboards.pictures.virtual import Virtual
from ollama_exporter.clock import Timeline
from ollama_exporter.net import listen
from ollama_exporter.reporter import Reporter
from ollama_exporter.story.status import Status
from ollama_exporter.web.app import Parts, application
from ollama_exporter.web.page.live_feed import LiveFeed
from ollama_exporter.web.uvicorn_server import server

END: Final = datetime(2026, 11, 27, 15, 0, tzinfo=UTC).timestamp()
WIDTH, HEIGHT = 1280, 1330  # pixels: what answers the first questions
PHONE: Final = 375
DRAWN: Final = 1500  # milliseconds until it is live and measured
MODES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


class Ended:
    """A teller that stays at the end of the hour."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def status(self, now: float, *, skew: float = 0.0) -> Status:  # noqa: ARG002 - the protocol's
        """Return it."""
        return self._status


def ended() -> LiveFeed:
    """Let the hour pass; return the feed of its end."""
    virtual = Virtual(hour(), END - HOUR)
    for _ in virtual.moments(HOUR):
        pass
    virtual.now = END
    teller = Ended(virtual.narrator.status(END))
    began = time.monotonic()
    timeline = Timeline(wall=lambda: END, monotonic=lambda: time.monotonic() - began)
    return LiveFeed(teller, virtual.history, timeline, Reporter())


@contextmanager
def serving(feed: LiveFeed) -> Iterator[str]:
    """Serve the page in a thread of its own; yield its URL."""
    parts = Parts(feed=lambda _target: feed, telemetry_path="/metrics")
    sockets = listen(["127.0.0.1:0"], field="web.listen-address")
    web = server(application(parts))
    thread = threading.Thread(target=lambda: asyncio.run(web.serve(sockets=sockets)))
    thread.start()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"
    finally:
        web.should_exit = True
        thread.join()


def main() -> None:
    """Take them, light and dark, and one of a phone."""
    with serving(ended()) as url, chromium() as browser:
        for name, width, height in (("page", WIDTH, HEIGHT), ("page-phone", PHONE, 812)):
            for mode in MODES:
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme=mode,
                    locale="en-GB",
                    timezone_id="UTC",
                )
                page.goto(url)
                page.wait_for_timeout(DRAWN)
                picture = IMAGES / f"{name}-{mode}.png"
                page.screenshot(path=picture)
                shrink(picture)
                page.close()


if __name__ == "__main__":
    main()
