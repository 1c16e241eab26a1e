# SPDX-License-Identifier: Apache-2.0
"""Negotiates the format of a scrape and renders it."""

import gzip
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
# Not 2.0: the library would answer with that content type, but in the syntax of 1.0.
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Our names need no escaping, and checking each of them costs half of the rendering time.
UNESCAPED: Final = openmetrics.ALLOWUTF8
END: Final = b"# EOF\n"
GZIP_LEVEL: Final = 1  # costs a tenth of the rendering; higher levels save nothing on this text


class Unchanging(Metric):
    """A family of many samples that rarely change, kept together with its text.

    Its collector must yield a new object when a sample has changed.
    """

    def __init__(self, like: Metric) -> None:
        super().__init__(like.name, like.documentation, like.type)
        self.texts: dict[str, bytes] = {}  # by content type


class _Listed:
    """What rendering needs from a registry."""

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
    """Return headers and body of a scrape; `names`: of these families only."""
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
    """Return the text of all families; the unchanging ones come last."""
    body = _text([each for each in families if not isinstance(each, Unchanging)], content_type)
    for family in families:
        if isinstance(family, Unchanging):
            if content_type not in family.texts:
                family.texts[content_type] = _text([family], content_type)
            body += family.texts[content_type]
    return body + END if content_type == OPENMETRICS else body


def _text(families: Iterable[Metric], content_type: str) -> bytes:
    """Return the text of families, without the last line of OpenMetrics."""
    listed = _Listed(families)
    if content_type == TEXT:
        return exposition.generate_latest(listed, UNESCAPED)
    text: bytes = openmetrics.generate_latest(listed, UNESCAPED)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return text.removesuffix(END)


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
