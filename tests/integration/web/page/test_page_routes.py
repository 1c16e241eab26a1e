# SPDX-License-Identifier: Apache-2.0
"""The page, its JSON and its stream over real sockets."""

import asyncio
import gzip
import json
import re
import socket
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ollama_exporter.config.schema import TABLE
from ollama_exporter.story.document import STATUS
from ollama_exporter.story.fleet_document import TARGETS
from ollama_exporter.web.page.live_feed import MOST_READERS
from ollama_exporter.web.uvicorn_server import FIRST_ANSWER, WebConnection
from tests.support.ahead import put_forward, run_ahead
from tests.support.exporting import exporting, until
from tests.support.faultserver import entry, faultserver
from tests.support.page_server import serving
from tests.support.patience import PATIENCE
from tests.support.storytelling import MadeUp, listing, resident, unloaded

EVIL: Final = '<img src=x onerror="alert(1)">'
ABSENT: Final = "http://127.0.0.1:9"  # nobody listens there


class Tags(HTMLParser):
    """Collects elements with their attributes, and the text of the page's JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.data = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.found[-1] if self.found else ("", {})
        if tag == "td":
            self.cells.append(data)
        if attributes.get("id") == "document" and not self.data:
            self.data = data


def told() -> MadeUp:
    made = MadeUp(published=listing(resident(EVIL, 1.0), resident("b:latest", 1.0)))
    made.history.on_change((unloaded(EVIL, since=-9.0, at=-5.0),), made.published, 0.0)
    return made


def test_without_a_script_the_page_is_a_readable_table() -> None:
    async def main() -> None:
        async with serving(told()) as (http, _):
            page = Tags((await http.get("/")).text)
            assert [cell for cell in page.cells if cell in (EVIL, "b:latest")] == [
                EVIL,
                "b:latest",
                EVIL,
            ]
            assert "keep-alive ran out" in page.cells
            assert "img" not in [tag for tag, _ in page.found]
            links = [attributes.get("href") for tag, attributes in page.found if tag == "a"]
            assert {"/metrics", "/sd", "/api/v1/status", "/-/healthy"} <= set(links)

    asyncio.run(main())


def test_the_page_carries_the_whole_status_and_runs_nothing_but_its_own_script() -> None:
    async def main() -> None:
        async with serving(told()) as (http, _):
            answer = await http.get("/")
            page = Tags(answer.text)
            document = json.loads(page.data)
            assert [model["name"] for model in document["status"]["models"]] == [EVIL, "b:latest"]
            scripts = [attributes for tag, attributes in page.found if tag == "script"]
            assert [(x.get("src"), x.get("type")) for x in scripts] == [
                ("page/page.js", "module"),
                (None, "application/json"),
            ]
            inline = [a for _, x in page.found for a in x if a.startswith("on") or a == "style"]
            assert inline == []
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "*" not in policy

    asyncio.run(main())


def test_assets_are_small_and_name_no_other_place() -> None:
    async def main() -> None:
        async with serving(MadeUp()) as (http, _):
            total = 0
            for path in ("/", "/page/page.css", "/page/page.js"):
                answer = await http.get(path)
                total += len(answer.content)
                named = set(re.findall(r"https?://[\w.]+", answer.text))
                assert named <= {"http://www.w3.org", "http://127.0.0.1"}
                assert answer.headers["x-content-type-options"] == "nosniff"
            assert total < 60_000
            for path in ("/page/page.html", "/page/live_feed.py", "/page/..%2fapp.py", "/page/"):
                assert (await http.get(path)).status_code == 404

    asyncio.run(main())


def test_the_status_is_compressed_for_those_who_can_read_that() -> None:
    async def main() -> None:
        async with serving(told()) as (http, _):
            path = "/api/v1/status?seconds=600"
            plain = await http.get(path, headers={"accept-encoding": "identity"})
            assert plain.json()["span"] == 600
            async with http.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
                raw = b"".join([chunk async for chunk in answer.aiter_raw()])
            assert json.loads(gzip.decompress(raw))["boot"] == plain.json()["boot"]
            for odd in ("-1", "nan", "9" * 40, "x", "²"):
                answer = await http.get("/api/v1/status", params={"seconds": odd})
                assert answer.json()["span"] == 3600

    asyncio.run(main())


def test_the_stream_tells_what_changes_for_longer_than_an_answer_may_take() -> None:
    async def main() -> None:
        made = told()
        async with serving(made) as (http, feed):
            async with http.stream("GET", "/events") as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                seen = 0
                async for line in answer.aiter_lines():
                    if not line.startswith("event: "):
                        continue
                    seen += 1
                    made.published = listing(resident(f"m{seen}:latest", 1.0))
                    feed.on_event()
                    put_forward(FIRST_ANSWER)
                    if seen > 3:
                        break
            await until(lambda: feed.readers == 0)

    run_ahead(main())


def test_a_reader_that_does_not_read_is_disconnected() -> None:
    class Hasty(WebConnection):
        """Gives a stream little time."""

        stream_wait = 0.5

    async def main() -> None:
        made = told()
        async with serving(made, connection=Hasty, send_buffer=4096) as (http, feed):
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.connect(("127.0.0.1", http.base_url.port))
                deaf.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
                await until(lambda: feed.readers == 1)
                for n in range(3):  # what the system and the server do not buffer
                    names = [f"{n}{'x' * 200}{m}:latest" for m in range(200)]
                    made.published = listing(*(resident(name, 1.0) for name in names))
                    feed.on_event()
                    await asyncio.sleep(0.3)
                await until(lambda: feed.readers == 0)

    asyncio.run(main())


def test_there_are_only_so_many_readers_and_a_head_request_is_none() -> None:
    async def main() -> None:
        async with serving(MadeUp()) as (http, feed):
            head = await http.head("/events")
            assert (head.status_code, feed.readers) == (200, 0)
            readers = [feed.join() for _ in range(MOST_READERS)]
            assert (await http.get("/events")).status_code == 503
            first = readers[0]
            assert first is not None
            feed.leave(first)
            async with http.stream("GET", "/events") as answer:
                assert answer.status_code == 200

    asyncio.run(main())


def test_a_shutdown_ends_open_streams_in_order() -> None:
    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            async with exporting(ABSENT) as exporter:
                url = f"http://{exporter.address}/events"
                stream = await http.send(http.build_request("GET", url), stream=True)
                lines = stream.aiter_lines()
                assert await anext(lines) == "event: hello"
            rest = [line async for line in lines]  # a stream that is cut raises here
            assert rest[0].startswith("data: ")
            assert [r for r in exporter.log.records if r.levelname == "ERROR"] == []
            await stream.aclose()

    asyncio.run(main())


def test_the_past_outlives_a_restart_of_the_exporter(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "state.json"
        settings: dict[str, Any] = {"state_file": file}
        async with faultserver() as ollama:
            ollama.models = [entry("a:latest", 2e9)]
            async with exporting(ollama.url, **settings) as exporter:
                await until(lambda: exporter.events)
                before = (await exporter.http.get("/api/v1/status")).json()["past"]
            async with exporting(ollama.url, **settings) as exporter:
                after = (await exporter.http.get("/api/v1/status")).json()["past"]
            assert after["events"] == before["events"]
            assert [event["kind"] for event in after["events"]] == ["found"]
            assert [stay["start"] for stay in after["stays"]] == [before["stays"][0]["start"]]
            first, restart = after["outages"]  # nothing is known of the time before either
            assert first == before["outages"][0]
            assert (first["start"], restart["end"] > restart["start"] > first["end"]) == (0.0, True)
            assert {x["text"] for x in after["outages"]} == {"the exporter did not run"}

    asyncio.run(main())


def test_the_order_on_the_page_is_a_metric_too() -> None:
    async def main() -> None:
        async with faultserver() as ollama:
            now = time.time()
            ollama.models = [entry("long:latest", now + 9000), entry("short:latest", now + 900)]
            async with exporting(ollama.url) as exporter:
                name = "ollama_model_eviction_rank"
                samples = await exporter.until(lambda found: (name, "model=long:latest") in found)
                ranks = {labels: value for (n, labels), value in samples.items() if n == name}
                assert ranks == {"model=short:latest": 1.0, "model=long:latest": 2.0}
                status = (await exporter.http.get("/api/v1/status")).json()["status"]
                shown = {model["name"]: model["rank"] for model in status["models"]}
                assert shown == {"short:latest": 1, "long:latest": 2}

    asyncio.run(main())


def test_what_is_not_watched_names_a_flag_that_turns_it_on() -> None:
    async def main() -> None:
        async with exporting(ABSENT, collector_processes="off") as exporter:
            status = (await exporter.http.get("/api/v1/status")).json()["status"]
            off = {each["name"]: each["line"] for each in status["sources"] if not each["on"]}
            assert list(off) == ["Polls", "Processes", "Slots", "Log", "Requests", "State file"]
            flags = [flag for line in off.values() for flag in line.split()]
            parsed = [flag.removeprefix("--").partition("=") for flag in flags]
            for name, _, value in parsed:
                row = next(row for row in TABLE if row.name == name)
                row.parse(row.name, value)  # raises ConfigError for what is not accepted

    asyncio.run(main())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_page_only_looks(method: str) -> None:
    async def main() -> None:
        async with serving(MadeUp()) as (http, _):
            for path in ("/", "/api/v1/status", "/events", "/page/page.js"):
                assert (await http.request(method, path)).status_code == 405

    asyncio.run(main())


def test_of_one_server_there_are_neither_targets_nor_probes() -> None:
    async def main() -> None:
        async with serving(MadeUp()) as (http, _):
            targets = await http.get(TARGETS)
            assert (targets.status_code, STATUS in targets.text) == (404, True)
            probe = await http.get("/probe", params={"target": "x"})
            assert (probe.status_code, "x" in probe.text.split()) == (404, False)
            (group,) = (await http.get("/sd")).json()
            assert group["labels"]["__metrics_path__"] == "/metrics"

    asyncio.run(main())
