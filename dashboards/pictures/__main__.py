# SPDX-License-Identifier: Apache-2.0
"""Draw all dashboards: `make dashboard-pictures`.

Needs Debian's chromium, npm, and Prometheus with promtool on PATH; says what is missing.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from playwright.sync_api import Page

from dashboards.pictures import history
from dashboards.pictures.chromium import chromium

HERE: Final = Path(__file__).parent
GRAFANA: Final = HERE.parent / "grafana"
IMAGES: Final = HERE.parents[1] / "docs" / "images"
WIDTH, ROW, HEAD = 1600, 38, 44  # pixels; the latter two as in page/main.jsx
PATIENCE: Final = 60_000  # milliseconds for one picture
START: Final = 20.0  # seconds for a Prometheus to start
HOUR: Final = 3600
# What is chosen above each dashboard, and how many hours are shown.
SHOWN: Final[dict[str, tuple[dict[str, str], int]]] = {
    "ollama-overview": ({}, 6),
    "ollama-model": ({"model": "mistral:latest"}, 6),
    "ollama-slow": ({}, 6),
    "ollama-memory": ({}, 24),
    "ollama-clients": ({}, 6),
}


def main() -> None:
    """Draw them, light and dark."""
    missing = [name for name in ("prometheus", "promtool") if not shutil.which(name)]
    if missing:
        sys.exit(f"make: {', '.join(missing)} missing; on Debian: apt-get install prometheus")
    now = time.time() // 60 * 60
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch)
        promtool = str(shutil.which("promtool"))
        history.write(promtool, where / "tsdb", where / "scrapes", now=now)
        with prometheus(where) as url, files() as pages, chromium() as browser:
            page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
            for file in sorted(GRAFANA.glob("*.json")):
                for mode in ("light", "dark"):
                    draw(page, pages, url, file, mode=mode, now=now)


def draw(page: Page, pages: str, prometheus: str, file: Path, *, mode: str, now: float) -> None:
    """Draw one and keep it."""
    chosen, hours = SHOWN[file.stem]
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    height = HEAD + ROW * max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"])
    asked = {
        "dashboard": f"/grafana/{file.name}",
        "mode": mode,
        "prometheus": prometheus,
        "from": now - hours * HOUR,
        "to": now - history.SCRAPE,
        "scrape": int(history.SCRAPE),
        "variables": json.dumps({"job": ".+", "instance": ".+", "model": ".+", **chosen}),
    }
    page.clock.set_fixed_time(datetime.fromtimestamp(now, UTC))
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(f"{pages}/pictures/page/index.html?{urlencode(asked)}")
    page.wait_for_function("document.title != 'drawing'", timeout=PATIENCE)
    if page.title() != "ready":
        sys.exit(f"{file.name}: {page.title()}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture = IMAGES / f"{file.stem}-{mode}.png"
    page.screenshot(path=picture)
    shrink(picture)


def shrink(picture: Path) -> None:
    """Make a picture smaller, where pngquant is, and say how large it is."""
    if quantize := shutil.which("pngquant"):
        command = [
            quantize,
            "--force",
            "--skip-if-larger",
            "--output",
            str(picture),
            "128",
            str(picture),
        ]
        subprocess.run(command, check=False)
    print(f"pictures: {picture.relative_to(Path.cwd())}, {picture.stat().st_size >> 10} KiB")


@contextmanager
def prometheus(where: Path) -> Iterator[str]:
    """Serve the history."""
    config = where / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1m}\n", encoding="utf-8")
    port = _free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={where / 'tsdb'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.cors.origin=.*",
        # what ended does not linger: blocks made from text have no marks of staleness
        f"--query.lookback-delta={history.SCRAPE * 1.5:.0f}s",
    ]
    url = f"http://127.0.0.1:{port}"
    with (where / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            end = time.monotonic() + START
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit((where / "log").read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        return int(server.server_address[1])


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the base's signature
        """Say nothing."""


@contextmanager
def files() -> Iterator[str]:
    """Serve the page and the dashboards."""
    handler = partial(_Quiet, directory=str(HERE.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


if __name__ == "__main__":
    main()
