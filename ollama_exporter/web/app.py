# SPDX-License-Identifier: Apache-2.0
"""The routes. Everything they need is passed in."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from msgspec import Struct, field
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ollama_exporter.errors import OllamaExporterError
from ollama_exporter.metrics.exposition import in_parts
from ollama_exporter.metrics.rendering import Renderer
from ollama_exporter.poller.announced_requests import ANNOUNCE
from ollama_exporter.story.document import STATUS
from ollama_exporter.story.fleet_document import FleetDocument
from ollama_exporter.web.announcements import OnAnnounced, announcing
from ollama_exporter.web.in_turns import TURN, Turns
from ollama_exporter.web.page.fleet_page import FLEET_LINKS
from ollama_exporter.web.page.live_feed import LiveFeed
from ollama_exporter.web.page.page_routes import PageParts, page_routes
from ollama_exporter.web.plain_text import plain
from ollama_exporter.web.probes import (
    DISCOVERY,
    NO_TARGETS,
    PROBE,
    Probes,
    discovering,
    probing,
)

MOST_NAMES: Final = 100  # families that one scrape may ask for by name[]
HEALTHY: Final = "/-/healthy"
READY: Final = "/-/ready"
TOO_MANY: Final = "Too many scrapes at the same time.\n"
RELOAD: Final = "/-/reload"
OPEN_PATHS: Final = frozenset({HEALTHY, READY})  # orchestrators ask without a password


async def nothing_to_refresh() -> None:
    """Poll nothing before a scrape."""


class Parts(Struct, frozen=True, kw_only=True):
    """What the routes need. The defaults serve a page alone."""

    feed: Callable[[str], LiveFeed | None]  # what the page shows of a target, or the only server
    telemetry_path: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    # bounded: a scrape never waits for a server that hangs
    refresh: Callable[[], Awaitable[None]] = nothing_to_refresh
    reload: Callable[[], None] = lambda: None  # raises OllamaExporterError; the old settings stay
    max_requests: Callable[[], int] = lambda: 1
    turn: float = TURN  # seconds of a scrape before others on the loop have their turn
    lifecycle: Callable[[], bool] = lambda: False
    on_announced: OnAnnounced = lambda _request: False  # by a command on this machine
    probes: Probes = NO_TARGETS
    fleet: Callable[[], FleetDocument] | None = None  # several servers; None: there is one


class Scrapes:
    """Answers scrapes, at most so many at a time. The texts of lines are kept between them."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._renderer, self._turns = parts, Renderer(), Turns(parts.turn)
        self._scrapes = self._waiting = 0

    async def metrics(self, request: Request) -> Response:
        """Answer with the families of this exporter, after a poll if it is time for one."""
        if self._waiting >= self._parts.max_requests():
            return plain(TOO_MANY, HTTPStatus.SERVICE_UNAVAILABLE)
        self._waiting += 1
        try:
            await self._parts.refresh()
        finally:
            self._waiting -= 1
        return await self.scrape(request, self._parts.registry)

    async def scrape(self, request: Request, registry: CollectorRegistry) -> Response:
        """Answer with the families of a registry, in the format and coding that are asked for."""
        if self._scrapes >= self._parts.max_requests():
            return plain(TOO_MANY, HTTPStatus.SERVICE_UNAVAILABLE)
        self._scrapes += 1
        try:
            headers, pieces = in_parts(
                registry,
                self._renderer,
                accept=request.headers.get("accept", ""),
                accept_encoding=request.headers.get("accept-encoding", ""),
                names=request.query_params.getlist("name[]")[:MOST_NAMES],
            )
            body = await self._turns.join(pieces, is_wanted=lambda: _is_there(request))
            return Response(body, headers=headers)
        finally:
            self._scrapes -= 1


async def _is_there(request: Request) -> bool:
    """Return whether the client of a request has not left."""
    return not await request.is_disconnected()


def application(parts: Parts) -> Starlette:
    """Build the application."""
    scrapes = Scrapes(parts)
    links = {
        parts.telemetry_path: "metrics",
        DISCOVERY: "service discovery for Prometheus",
        HEALTHY: "200 while this process serves",
        READY: "200 when it has started",
    }

    if parts.fleet is None:
        links[STATUS] = "this page as JSON"
    else:
        links = {"/": "all servers", **links, **FLEET_LINKS}

    async def healthy(_request: Request) -> Response:
        return plain("OK\n")

    async def reload(_request: Request) -> Response:
        if not parts.lifecycle():
            text = "Off: start with --web.enable-lifecycle, or send SIGHUP.\n"
            return plain(text, HTTPStatus.FORBIDDEN)
        try:
            parts.reload()
        except OllamaExporterError as err:
            return plain(f"{err}\n", HTTPStatus.INTERNAL_SERVER_ERROR)
        return plain("Reloaded.\n")

    app = Starlette(
        routes=[
            Route(parts.telemetry_path, scrapes.metrics),
            *page_routes(PageParts(parts.feed, links, parts.fleet)),
            Route(DISCOVERY, discovering(parts.probes, parts.telemetry_path)),
            Route(PROBE, probing(parts.probes, scrapes.scrape)),
            Route(HEALTHY, healthy),
            Route(READY, healthy),
            Route(RELOAD, reload, methods=["POST", "PUT"]),
            Route(ANNOUNCE, announcing(parts.on_announced), methods=["POST"]),
        ],
        exception_handlers={HTTPStatus.NOT_FOUND: _not_found},
    )
    # A redirect to add or drop a slash would go to whatever the Host header names.
    app.router.redirect_slashes = False
    return app


async def _not_found(_request: Request, _error: Exception) -> Response:
    return plain("Not found. The paths are listed at /\n", HTTPStatus.NOT_FOUND)
