# SPDX-License-Identifier: Apache-2.0
"""Ask a program in a container or a root of its own, until it answers."""

import time
import urllib.request

from tests.support.patience import PATIENCE


def fetch(url: str, body: bytes | None = None) -> str:
    """Return an answer; the program may still be starting."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, body, timeout=PATIENCE) as answer:  # noqa: S310 - ours
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < end, url
            time.sleep(0.1)


def scrape_until(port: int, wanted: str) -> str:
    """Scrape until a line is there."""
    end = time.monotonic() + PATIENCE
    while wanted not in (text := fetch(f"http://127.0.0.1:{port}/metrics")):
        assert time.monotonic() < end, f"{wanted} in\n{text}"
        time.sleep(0.2)
    return text
