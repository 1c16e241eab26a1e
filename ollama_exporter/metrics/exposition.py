# SPDX-License-Identifier: Apache-2.0
"""Negotiation and rendering of a scrape."""

import gzip
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
# The library would answer a request for 2.0 with that content type and 1.0 syntax: never offered.
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Our names need no escaping, and finding that out for each costs half of the rendering.
UNESCAPED: Final = openmetrics.ALLOWUTF8
GZIP_LEVEL: Final = 1  # a tenth of the rendering's cost; higher levels save nothing on this text


def render(
    registry: CollectorRegistry,
    *,
    accept: str = "",
    accept_encoding: str = "",
    names: Sequence[str] = (),
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a scrape. `names`: only these families."""
    chosen = registry.restricted_registry(names) if names else registry
    ours = preference(accept, "application/openmetrics-text")
    if ours > 0 and ours >= preference(accept, "text/plain"):
        content_type, body = OPENMETRICS, _openmetrics(chosen)
    else:
        content_type, body = TEXT, exposition.generate_latest(chosen, UNESCAPED)
    headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
    if preference(accept_encoding, "gzip") > 0:
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body, compresslevel=GZIP_LEVEL, mtime=0)
    return headers, body


def _openmetrics(registry: Collector) -> bytes:
    return openmetrics.generate_latest(registry, UNESCAPED)  # type: ignore[no-any-return, no-untyped-call]  # the library leaves it untyped


def preference(header: str, wanted: str) -> float:
    """Return the largest q that an Accept header gives to what is wanted; 0: not accepted.

    Wildcards count for nothing: nobody asks for OpenMetrics or gzip by `*`.
    """
    best = 0.0
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name == wanted:
            best = max(best, _quality(parameters))
    return best


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
