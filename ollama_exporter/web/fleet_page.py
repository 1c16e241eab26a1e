# SPDX-License-Identifier: Apache-2.0
"""The page of an exporter that watches several servers: plain HTML, no script."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ollama_exporter.version import __version__

FLEET_LINKS: Final = {"/probe?target=NAME": "metrics of one server; /sd lists their names"}
STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}"
    "dt{font-weight:600}dd{margin:0 0 .5rem}"
)
FIELDS: Final = {
    # The page needs its own style and nothing else.
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def fleet_page(summary: Callable[[], Mapping[str, str]], links: Mapping[str, str]) -> Route:
    """Return the route of `/`. `summary`: terms and values; `links`: path -> what is there."""

    async def page(_request: Request) -> Response:
        items = "".join(
            f'<li><a href="{escape(path)}">{escape(path)}</a> {escape(text)}</li>'
            for path, text in links.items()
        )
        known = "".join(
            f"<dt>{escape(term)}</dt><dd>{escape(value)}</dd>" for term, value in summary().items()
        )
        return HTMLResponse(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>ollama_exporter</title><style>{STYLE}</style></head><body>"
            f"<h1>ollama_exporter {escape(__version__)}</h1>"
            f"<dl>{known}</dl><ul>{items}</ul></body></html>\n",
            headers=FIELDS,
        )

    return Route("/", page)
