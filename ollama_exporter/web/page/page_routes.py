# SPDX-License-Identifier: Apache-2.0
"""The routes of the page. All of them only look."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ollama_exporter.metrics.exposition import preference
from ollama_exporter.story.document import STATUS
from ollama_exporter.story.fleet_document import TARGETS, FleetDocument
from ollama_exporter.version import __version__
from ollama_exporter.web.page.fleet_page import fleet_page
from ollama_exporter.web.page.html_page import html_page
from ollama_exporter.web.page.live_feed import HOUR, STILL_OPEN, FeedReader, LiveFeed
from ollama_exporter.web.page.rendered import Rendered

EVENTS: Final = "/events"
ASSETS: Final[Mapping[str, str]] = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# The page runs its own script and style and asks its own server. It is in no frame, and its script
# cannot turn text into HTML.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFE: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
HTML: Final = "text/html; charset=utf-8"
LONGEST_SPAN: Final = 12  # characters


class PageParts(Struct, frozen=True):
    """What the page needs."""

    feed: Callable[[str], LiveFeed | None]  # of a target; an empty name: of the only server
    links: Mapping[str, str]  # path -> what is there
    fleet: Callable[[], FleetDocument] | None = None  # several servers; None: there is one


def page_routes(parts: PageParts) -> list[Route]:
    """Return the routes."""
    pages = _Pages(parts)
    return [
        Route("/", pages.page),
        Route(STATUS, pages.status),
        Route(TARGETS, pages.targets),
        Route(EVENTS, pages.events),
        Route("/page/{name}", pages.asset),
    ]


class _Pages:
    """The handlers."""

    def __init__(self, parts: PageParts) -> None:
        self._parts = parts
        self._assets: dict[str, Rendered] = {}  # read when they are asked for
        self._last: tuple[Rendered, Rendered] | None = None  # the last document, and its page

    def _feed(self, request: Request) -> LiveFeed | None:
        return self._parts.feed(request.query_params.get("target", ""))

    async def page(self, request: Request) -> Response:
        """Answer with the page of one server, or with the list of several."""
        parts, feed = self._parts, self._feed(request)
        if feed is None:
            if "target" in request.query_params or parts.fleet is None:
                return _no_target()
            text = fleet_page(parts.fleet(), version=__version__, links=parts.links)
            return _answer(request, Rendered(text), HTML, POLICY)
        document = feed.document()
        if self._last is None or self._last[0] is not document:
            text = html_page(document.plain, version=__version__, links=parts.links)
            self._last = document, Rendered(text)
        return _answer(request, self._last[1], HTML, POLICY)

    async def status(self, request: Request) -> Response:
        """Answer with everything, as JSON."""
        feed = self._feed(request)
        if feed is None:
            return _no_target()
        body = feed.document(_span(request.query_params.get("seconds", "")))
        return _answer(request, body, "application/json")

    async def targets(self, request: Request) -> Response:
        """Answer with all servers in short, as JSON."""
        if self._parts.fleet is None:
            text = f"One server is watched: {STATUS} tells of it.\n"
            return PlainTextResponse(text, HTTPStatus.NOT_FOUND, headers=SAFE)
        body = msgspec.json.encode(self._parts.fleet())
        return _answer(request, Rendered(body), "application/json")

    async def asset(self, request: Request) -> Response:
        """Answer with a file that belongs to the page."""
        name = request.path_params["name"]
        content_type = ASSETS.get(name)
        if content_type is None:
            return PlainTextResponse("Not found.\n", HTTPStatus.NOT_FOUND, headers=SAFE)
        if name not in self._assets:
            body = await asyncio.to_thread(Path(__file__).with_name(name).read_bytes)
            self._assets[name] = Rendered(body)
        return _answer(request, self._assets[name], content_type)

    async def events(self, request: Request) -> Response:
        """Answer with the stream of changes."""
        feed = self._feed(request)
        if feed is None:
            return _no_target()
        if request.method == "HEAD":
            return Response(headers=STREAM)
        reader = feed.join()
        if reader is None:
            text = "Too many pages are open.\n"
            return PlainTextResponse(text, HTTPStatus.SERVICE_UNAVAILABLE, headers=SAFE)
        still_open = request.scope.get("state", {}).get(STILL_OPEN, _nothing)
        return EventStream(reader, feed.leave, still_open)


def _no_target() -> Response:
    text = "No such target. The front page lists them.\n"
    return PlainTextResponse(text, HTTPStatus.NOT_FOUND, headers=SAFE)


def _nothing() -> None:
    """Do nothing: this server watches no connections."""


def _span(text: str) -> float:
    """Return how far back, in seconds; an hour unless it is asked for."""
    return float(text) if text.isdecimal() and len(text) <= LONGEST_SPAN else HOUR


def _answer(request: Request, body: Rendered, content_type: str, policy: str = "") -> Response:
    headers = {**SAFE, "cache-control": "no-cache", "content-type": content_type}
    headers["vary"] = "Accept-Encoding"
    if policy:
        headers["content-security-policy"] = policy
    if preference(request.headers.get("accept-encoding", ""), "gzip") > 0:
        gzipped = body.gzipped()
        if gzipped is not None:
            headers["content-encoding"] = "gzip"
            return Response(gzipped, headers=headers)
    return Response(body.plain, headers=headers)


STREAM: Final = {
    **SAFE,
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold the messages back
}


class EventStream(Response):
    """Sends a reader its messages until it leaves or the stream ends."""

    def __init__(
        self,
        reader: FeedReader,
        leave: Callable[[FeedReader], None],
        still_open: Callable[[], None],
    ) -> None:
        super().__init__(headers=STREAM)
        del self.headers["content-length"]
        self._reader, self._leave, self._still_open = reader, leave, still_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the protocol's
        """Answer."""
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(lambda _: self._reader.close())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (message := await self._reader.next()) is not None:
                self._still_open()
                await send({"type": "http.response.body", "body": message, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._leave(self._reader)


async def _disconnected(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
