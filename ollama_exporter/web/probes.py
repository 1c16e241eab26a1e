# SPDX-License-Identifier: Apache-2.0
"""`/probe` serves one target of a fleet, `/sd` tells Prometheus of all of them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ollama_exporter.errors import ProbeRefusedError, TooManyTargetsError, UnknownTargetError
from ollama_exporter.web.plain_text import NOSNIFF, plain

PROBE: Final = "/probe"
DISCOVERY: Final = "/sd"
LONGEST_TARGET: Final = 1024  # characters
ONE_TARGET: Final = "Name one target: /probe?target=NAME. /sd lists them.\n"
Scrape = Callable[[Request, CollectorRegistry], Awaitable[Response]]
Handler = Callable[[Request], Awaitable[Response]]


class Probed(Protocol):
    """A target that a probe has found."""

    @property
    def registry(self) -> CollectorRegistry:
        """What is scraped of it."""


class Probes(Protocol):
    """The targets that probes may ask for."""

    async def find(self, target: str) -> Probed:
        """Return a target when it was polled, or after half a second.

        Raises UnknownTargetError, ProbeRefusedError, TooManyTargetsError.
        """

    def discovered(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        """Yield name and labels of each target."""


class NoTargets:
    """Of an exporter that probes are no matter of."""

    async def find(self, target: str) -> Probed:
        """Raise UnknownTargetError."""
        raise UnknownTargetError(target)

    def discovered(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        """Return nothing."""
        return ()


NO_TARGETS: Final[Probes] = NoTargets()


def probing(probes: Probes, scrape: Scrape) -> Handler:
    """Return the handler of `/probe`. No answer repeats what was asked for."""

    async def probe(request: Request) -> Response:
        asked = request.query_params.getlist("target")
        if len(asked) != 1 or not 0 < len(asked[0]) <= LONGEST_TARGET:
            return plain(ONE_TARGET, HTTPStatus.BAD_REQUEST)
        try:
            found = await probes.find(asked[0])
        except UnknownTargetError as err:
            return plain(f"Not found: {err}\n", HTTPStatus.NOT_FOUND)
        except ProbeRefusedError as err:
            return plain(f"Refused: {err}\n", HTTPStatus.FORBIDDEN)
        except TooManyTargetsError as err:
            return plain(f"Refused: {err}\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return await scrape(request, found.registry)

    return probe


def discovering(probes: Probes, telemetry_path: str) -> Handler:
    """Return the handler of `/sd`, which answers http_sd_configs of Prometheus.

    It lists this exporter, and each target of it, at the address that was asked.
    """

    async def discover(request: Request) -> Response:
        here = {"targets": [request.url.netloc]}
        scheme = {"__scheme__": request.url.scheme}
        groups: list[dict[str, Any]] = [
            {**here, "labels": {**scheme, "__metrics_path__": telemetry_path}}
        ]
        for name, labels in probes.discovered():
            probe = {**scheme, "__metrics_path__": PROBE, "__param_target": name}
            groups.append({**here, "labels": {**probe, **labels}})
        return JSONResponse(groups, headers=NOSNIFF)

    return discover
