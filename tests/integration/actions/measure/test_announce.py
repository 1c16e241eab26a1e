# SPDX-License-Identifier: Apache-2.0
"""What commands announce is explained by an exporter that sees polls alone."""

import asyncio
import itertools
import math
from http import HTTPStatus

import pytest
from starlette.requests import Request
from starlette.types import Message

from ollama_exporter.cli.announce import Announcer
from ollama_exporter.config.target import Target
from ollama_exporter.poller.announced_requests import LONGEST, MOST_OPEN, AnnouncedRequests
from ollama_exporter.protocol.control_client import ControlClient
from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.residency.facts import RequestEnded, RequestFact, RequestStarted
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from ollama_exporter.web.announcements import Announcement, RequestEnd, announcing
from tests.support.exporting import exporting, until
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE
from tests.support.story import START, Story, model
from tests.support.virtual import now, run_virtually

CONFIG = Config(
    host=Host(memory=24 * GIB, recovery=0.1, convergence=0.05),
    catalogue=default_catalogue().compressed(200.0),
)
SERVER = "http://127.0.0.1:11434"
NUMBERS = itertools.count()


def announcement(**changes: object) -> Announcement:
    """Return the announcement of a request for a model."""
    return Announcement(
        **{"id": str(next(NUMBERS)), "model": "b", "url": SERVER, "longest": 600.0, **changes}  # type: ignore[arg-type]
    )


def test_a_stop_of_a_command_is_a_stop() -> None:
    async def main() -> None:
        async with Simulator(CONFIG) as sim, exporting(sim.url) as exporter:
            other_name = sim.url.replace("127.0.0.1", "localhost")
            url = f"http://{exporter.address}/metrics"
            announcer = Announcer(url, other_name, timeout=PATIENCE)
            client = ControlClient(Target("", sim.url), announced=announcer.announced)
            await client.preload("mistral", patience=PATIENCE)
            loaded = ("ollama_model_loaded", "model=mistral:latest")
            await exporter.until(lambda s: s.get(loaded) == 1)
            await client.stop("mistral", patience=PATIENCE)
            await client.aclose()
            await until(lambda: [x for x in exporter.events if isinstance(x, Unloaded)])
            (unload,) = (x for x in exporter.events if isinstance(x, Unloaded))
            assert unload.reason is Reason.STOPPED

    asyncio.run(main())


def test_one_of_several_servers_hears_of_its_requests() -> None:
    facts: dict[str, list[RequestFact]] = {}

    async def main() -> None:
        urls = [SERVER, "http://gpu-1:11434"]
        several = {
            url: AnnouncedRequests(facts.setdefault(url, []).append, now, url) for url in urls
        }
        heard = [each.on_announced(announcement()) for each in several.values()]
        assert heard == [True, False]

    run_virtually(main())
    assert [len(each) for each in facts.values()] == [1, 0]


def test_a_request_whose_end_is_not_announced_ends_by_itself() -> None:
    facts: list[RequestFact] = []

    async def main() -> None:
        requests = AnnouncedRequests(facts.append, now, SERVER)
        for longest in (5.0, -1.0, math.inf, *[600.0] * MOST_OPEN):
            requests.on_announced(announcement(longest=longest))
        assert len([x for x in facts if isinstance(x, RequestStarted)]) == MOST_OPEN
        first = announcement(end=RequestEnd.ANSWERED)
        requests.on_announced(first)  # it was never begun
        await asyncio.sleep(LONGEST)

    run_virtually(main())
    ended = [x for x in facts if isinstance(x, RequestEnded)]
    assert len(ended) == MOST_OPEN
    assert max(x.at for x in ended) <= LONGEST


def announce(story: Story, at: float, name: str, **more: object) -> None:
    """Announce a request that stays open."""
    story.tell(
        RequestStarted(START + at, (name, at), f"{name}:latest", announced=True, **more)  # type: ignore[arg-type]
    )


def test_what_leaves_for_a_load_that_fails_was_evicted() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    announce(story, 5, "b")
    story.poll(15)
    story.tell(RequestEnded(START + 20, ("b", 5)))
    for number in range(2, 8):
        story.poll(number * 15.0)
    assert story.reasons() == [("a", Reason.EVICTED, "b:latest")]


def test_what_a_renewal_reloads_has_other_options() -> None:
    story = Story()
    story.poll(0, model("a", 300))
    announce(story, 14, "a", num_ctx=4096)
    story.poll(15)
    story.tell(RequestEnded(START + 18, ("a", 14)))
    story.poll(30, model("a", 320))
    story.poll(32, model("a", 320))
    assert story.reasons() == [("a", Reason.OPTIONS_CHANGED, None)]


def test_a_shorter_keep_alive_that_is_announced_is_the_deadline() -> None:
    story = Story()
    story.poll(0, model("a", 3000))
    announce(story, 1, "a", keep_alive=5.0, num_ctx=4096)
    story.tell(RequestEnded(START + 1.2, ("a", 1)))
    story.poll(15)
    story.poll(30)
    assert story.reasons() == [("a", Reason.EXPIRED, None)]


def test_announced_loads_do_not_make_the_seen_requests_all() -> None:
    story = Story()
    story.poll(0)
    for number, name in enumerate("bcdef"):
        announce(story, number * 15.0 + 5, name)
        resident = [model(each, 3000 + number) for each in "bcdef"[: number + 1]]
        story.poll(number * 15.0 + 15, *resident)
        story.tell(RequestEnded(START + number * 15.0 + 16, (name, number * 15.0 + 5)))
    assert not story.tracker.view().complete


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (
            b'{"id":"1","model":"m","url":"http://elsewhere"}',
            {"content-type": "application/json"},
            409,
        ),
        (b'{"model":"m"}', {"content-type": "application/json"}, 400),
        (b"[", {"content-type": "application/json"}, 400),
        (b" " * 5000, {"content-type": "application/json"}, 413),
        (b'{"id":"1","model":"m","url":"x"}', {"content-type": "text/plain"}, 415),
        (
            b'{"id":"1","model":"m","url":"x"}',
            {"content-type": "application/json", "x-forwarded-for": "192.0.2.1"},
            403,
        ),
    ],
)
def test_what_is_no_announcement_is_refused(
    content: bytes, headers: dict[str, str], code: int
) -> None:
    async def main() -> None:
        async with Simulator(CONFIG) as sim, exporting(sim.url) as exporter:
            answer = await exporter.http.post("/-/announce", content=content, headers=headers)
            assert answer.status_code == code

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://127.0.0.1:%d", "https://127.0.0.1:%d", "nonsense", "[::"])
def test_without_an_exporter_nothing_happens(url: str) -> None:
    async def main() -> None:
        announcer = Announcer(url.replace("%d", str(closed_port())), SERVER)
        async with announcer.announced({"model": "m"}, 1.0):
            pass

    asyncio.run(main())


def test_a_client_that_leaves_amid_an_announcement_is_no_error() -> None:
    heard: list[Announcement] = []

    async def receive() -> Message:
        return next(messages)

    def hear(announcement: Announcement) -> bool:
        heard.append(announcement)
        return True

    async def main() -> None:
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": headers}
        answer = await announcing(hear)(Request(scope, receive))
        assert answer.status_code == HTTPStatus.BAD_REQUEST

    begun: Message = {"type": "http.request", "body": b'{"id":', "more_body": True}
    messages = iter([begun, {"type": "http.disconnect"}])
    asyncio.run(main())
    assert heard == []
