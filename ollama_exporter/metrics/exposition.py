# SPDX-License-Identifier: Apache-2.0
"""Negotiation and rendering of a scrape."""

import gzip
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
# The library would answer a request for 2.0 with that content type and 1.0 syntax: never offered.
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Our names need no escaping, and finding that out for each costs half of the rendering.
UNESCAPED: Final = openmetrics.ALLOWUTF8
END: Final = b"# EOF\n"
GZIP_LEVEL: Final = 1  # a tenth of the rendering's cost; higher levels save nothing on this text


class Unchanging(Metric):
    """A family of many samples that seldom change: its text is kept with it.

    Whoever yields it makes a new one when a sample changed.
    """

    def __init__(self, like: Metric) -> None:
        super().__init__(like.name, like.documentation, like.type)
        self.texts: dict[str, bytes] = {}  # by content type


class _Listed:
    """What a rendering needs of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


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
    content_type = OPENMETRICS if 0 < ours >= preference(accept, "text/plain") else TEXT
    body = _body(list(chosen.collect()), content_type)
    headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
    if preference(accept_encoding, "gzip") > 0:
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body, compresslevel=GZIP_LEVEL, mtime=0)
    return headers, body


def _body(families: Sequence[Metric], content_type: str) -> bytes:
    """Return the text of all families, those that did not change last."""
    body = _text([each for each in families if not isinstance(each, Unchanging)], content_type)
    for family in families:
        if isinstance(family, Unchanging):
            if content_type not in family.texts:
                family.texts[content_type] = _text([family], content_type)
            body += family.texts[content_type]
    return body + END if content_type == OPENMETRICS else body


def _text(families: Iterable[Metric], content_type: str) -> bytes:
    """Return their text, without the line that ends OpenMetrics."""
    listed = _Listed(families)
    if content_type == TEXT:
        return exposition.generate_latest(listed, UNESCAPED)
    text: bytes = openmetrics.generate_latest(listed, UNESCAPED)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return text.removesuffix(END)


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
