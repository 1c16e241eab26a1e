# SPDX-License-Identifier: Apache-2.0
"""Negotiates the format of a scrape and renders it."""

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from ollama_exporter.metrics.rendering import END, PAUSE, Renderer, Run

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
# Not 2.0: the library would answer with that content type, but in the syntax of 1.0.
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
AT_A_TIME: Final = 4  # families that are collected between two pauses


def in_parts(
    registry: CollectorRegistry,
    renderer: Renderer,
    *,
    accept: str = "",
    accept_encoding: str = "",
    names: Sequence[str] = (),
) -> tuple[dict[str, str], Iterator[bytes]]:
    """Return headers and body of a scrape. Most parts of the body take 0.1 ms, a few 0.3 ms.

    `renderer`: the one of earlier scrapes, which knows the lines. `names`: of these families only.
    """
    chosen = registry.restricted_registry(names) if names else registry
    ours = preference(accept, "application/openmetrics-text")
    content_type = OPENMETRICS if 0 < ours >= preference(accept, "text/plain") else TEXT
    headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
    runs = _runs(chosen, renderer, is_openmetrics=content_type == OPENMETRICS)
    if preference(accept_encoding, "gzip") > 0:
        headers["content-encoding"] = "gzip"
        return headers, renderer.compressed.gzip(runs)
    return headers, (text for _, text in runs)


def _runs(registry: Collector, renderer: Renderer, *, is_openmetrics: bool) -> Iterator[Run]:
    families = []
    for family in registry.collect():
        families.append(family)
        if len(families) % AT_A_TIME == 0:
            yield PAUSE  # collectors take their time as well
    yield from renderer.runs(families, is_openmetrics=is_openmetrics)
    if is_openmetrics:
        yield None, END


def preference(header: str, wanted: str) -> float:
    """Return the largest q that an Accept header gives to `wanted`; 0: not accepted.

    Wildcards are ignored: `*` is no request for OpenMetrics or gzip.
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
