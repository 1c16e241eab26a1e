# SPDX-License-Identifier: Apache-2.0
"""Negotiates the format of a scrape and renders it."""

import gzip
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.rendering import END, Renderer

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
# Not 2.0: the library would answer with that content type, but in the syntax of 1.0.
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
GZIP_LEVEL: Final = 1  # costs a tenth of the rendering; higher levels save nothing on this text


class Unchanging(Metric):
    """A family of many samples that rarely change, kept together with its text.

    Its collector must yield a new object when a sample has changed.
    """

    def __init__(self, like: Metric) -> None:
        super().__init__(like.name, like.documentation, like.type)
        self.texts: dict[str, bytes] = {}  # by content type


def render(
    registry: CollectorRegistry,
    renderer: Renderer,
    *,
    accept: str = "",
    accept_encoding: str = "",
    names: Sequence[str] = (),
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a scrape.

    `renderer`: the one of earlier scrapes, which knows the lines. `names`: of these families only.
    """
    chosen = registry.restricted_registry(names) if names else registry
    ours = preference(accept, "application/openmetrics-text")
    content_type = OPENMETRICS if 0 < ours >= preference(accept, "text/plain") else TEXT
    body = _body(list(chosen.collect()), renderer, content_type)
    headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
    if preference(accept_encoding, "gzip") > 0:
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body, compresslevel=GZIP_LEVEL, mtime=0)
    return headers, body


def _body(families: Sequence[Metric], renderer: Renderer, content_type: str) -> bytes:
    """Return the text of all families; the unchanging ones come last."""
    is_openmetrics = content_type == OPENMETRICS
    changing = [each for each in families if not isinstance(each, Unchanging)]
    parts = [renderer.render(changing, is_openmetrics=is_openmetrics)]
    for family in families:
        if isinstance(family, Unchanging):
            if content_type not in family.texts:
                text = renderer.render([family], is_openmetrics=is_openmetrics)
                family.texts[content_type] = text
            parts.append(family.texts[content_type])
    return b"".join((*parts, END) if is_openmetrics else parts)


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
